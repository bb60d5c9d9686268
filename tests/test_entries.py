"""Encoded corpora in the cache: found again by content, made again if damaged."""

from pathlib import Path

import numpy as np
import pytest
from letters import Letters, encode_letters, texts, write_tsv

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data import encode as encode_module
from seq2seq_kit.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("S2S_CACHE_DIR", str(folder))
    return folder


def test_a_set_without_a_usable_line_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is left: 0 of 1 lines used, 1 empty skipped"):
        encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "")))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tsv: expected a readable text file"):
        encode_letters(CorpusConfig(tsv=tmp_path / "gone.tsv"))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.int32)])
def test_ids_are_as_small_as_the_vocabulary_allows(
    tmp_path: Path, vocab_size: int, dtype: type
) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "\uffff"))
    data = encode_letters(corpus, tokenizer=Letters(vocab_size=vocab_size))
    assert data.ids.dtype == dtype
    assert texts(data) == [("a", "\uffff")]


def test_the_second_time_nothing_is_encoded(tmp_path: Path) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"), ("", "c"))
    first = encode_letters(corpus)
    tokenizer = Letters()
    second = encode_letters(corpus, tokenizer=tokenizer)
    assert tokenizer.encoded == []
    assert texts(second) == texts(first)
    assert second.report == first.report


def test_a_moved_file_is_found_again_under_its_new_name(tmp_path: Path) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"), ("", "c"))
    encode_letters(corpus)
    moved = CorpusConfig(tsv=corpus.tsv.rename(tmp_path / "moved.tsv"), weight=3.0)
    tokenizer = Letters()
    data = encode_letters(moved, tokenizer=tokenizer)
    assert tokenizer.encoded == []
    assert data.report.empty_at == (f"{tmp_path}/moved.tsv:2",)
    assert data.corpora[0].weight == 3.0


@pytest.mark.parametrize(
    ("rows", "columns", "fingerprint", "limit"),
    [
        ([("a", "c")], 2, "letters", 50),
        ([("a", "b")], 1, "letters", 50),
        ([("a", "b")], 2, "other", 50),
        ([("a", "b")], 2, "letters", 49),
    ],
)
def test_a_change_of_anything_that_ids_depend_on_makes_a_new_entry(
    tmp_path: Path, rows: list[tuple[str, str]], columns: int, fingerprint: str, limit: int
) -> None:
    encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "b")))
    path = write_tsv(tmp_path / "a.tsv", *rows).tsv
    tokenizer = Letters(fingerprint)
    encode_letters(
        CorpusConfig(tsv=path, target_columns=columns), tokenizer=tokenizer, max_target_length=limit
    )
    assert tokenizer.encoded


def flip_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


DAMAGES = {
    "ids cut short": lambda entry: (entry / "ids.bin").write_bytes(b"a"),
    "an id changed": lambda entry: flip_last_byte(entry / "ids.bin"),
    "bounds missing": lambda entry: (entry / "bounds.bin").unlink(),
    "no JSON": lambda entry: (entry / "entry.json").write_text("{"),
    "other JSON": lambda entry: (entry / "entry.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_entry_is_made_again(tmp_path: Path, cache: Path, damage) -> None:  # noqa: ANN001
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"), ("c", "d"))
    encode_letters(corpus)
    (entry,) = cache.iterdir()
    damage(entry)
    assert texts(encode_letters(corpus)) == [("a", "b"), ("c", "d")]
    tokenizer = Letters()
    encode_letters(corpus, tokenizer=tokenizer)
    assert tokenizer.encoded == []
    assert list(cache.iterdir()) == [entry]


def test_interrupted_encoding_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Letters):
        def encode(self, texts: list[str]) -> list[list[int]]:
            if len(self.encoded) > 2:
                raise KeyboardInterrupt
            return super().encode(texts)

    monkeypatch.setattr(encode_module, "_CHUNK_LINES", 2)
    corpus = write_tsv(tmp_path / "a.tsv", *[("a", "b")] * 10)
    with pytest.raises(KeyboardInterrupt):
        encode_letters(corpus, tokenizer=Interrupted())
    assert list(cache.iterdir()) == []
    assert len(encode_letters(corpus)) == 10


def test_another_process_may_be_quicker(tmp_path: Path, cache: Path) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"))

    class Overtaken(Letters):
        def encode(self, texts: list[str]) -> list[list[int]]:
            encode_letters(corpus)
            return super().encode(texts)

    assert texts(encode_letters(corpus, tokenizer=Overtaken())) == [("a", "b")]
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_changes_while_it_is_encoded_is_an_error(tmp_path: Path, cache: Path) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"), ("c", "d"))

    class Slow(Letters):
        def encode(self, texts: list[str]) -> list[list[int]]:
            write_tsv(tmp_path / "a.tsv", ("a", "b"), ("c", "d"), ("e", "f"))
            return super().encode(texts)

    with pytest.raises(DataError, match=r"a\.tsv: the file changed while it was in use"):
        encode_letters(corpus, tokenizer=Slow())
    assert list(cache.iterdir()) == []
    assert len(encode_letters(corpus)) == 3
