"""Corpora to ids: against a tokenizer whose ids are the characters' code points."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from letters import Letters, encode_letters, texts, write_tsv

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data import encode as encode_module
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.corpus import Pair
from seq2seq_kit.tokens.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("S2S_CACHE_DIR", str(folder))
    return folder


def test_rows_keep_the_order_of_corpora_and_lines(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(gzip.compress(b"ab\nc\n"))
    (tmp_path / "t").write_text("x\nyz\n")
    parallel = CorpusConfig(source=tmp_path / "s", target=tmp_path / "t", weight=2.0)
    tsv = write_tsv(tmp_path / "pairs.tsv", ("d", "w"))
    data = encode_letters(parallel, tsv)
    assert texts(data) == [("ab", "x"), ("c", "yz"), ("d", "w")]
    assert data.target.lengths.tolist() == [1, 2, 1]
    assert data.target[1].dtype == np.int32
    assert data.corpora == (("parallel", 2.0, 0, 2), ("tsv", 1.0, 2, 3))


def test_source_and_target_of_a_row_are_one_span(tmp_path: Path) -> None:
    data = encode_letters(write_tsv(tmp_path / "a.tsv", ("ab", "cd"), ("e", "f")))
    assert [
        "".join(map(chr, data.ids[begin:end]))
        for begin, end in zip(data.begins, data.ends, strict=True)
    ] == ["abcd", "ef"]


def test_lines_have_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    data = encode_letters(CorpusConfig(lines=tmp_path / "a.txt"))
    assert data.source is None
    assert texts(data) == [("", "one"), ("", "two")]
    assert data.report.empty_at == (f"{tmp_path}/a.txt:2",)


def test_rows_with_another_number_of_columns_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\nc\tc\td\n\ne\tf\ng\n", encoding="utf-8")
    corpus = CorpusConfig(tsv=path, bad_lines="skip")
    for _ in range(2):  # made, then from the cache
        report = encode_letters(corpus).report
        assert (report.lines, report.kept, report.empty, report.bad) == (5, 2, 1, 2)
        assert report.bad_at == (f"{path}:2", f"{path}:5")
        shown = f"2 with an unusual number of columns skipped ({path}:2, {path}:5)"
        assert shown in str(report)
    with pytest.raises(DataError, match=r"a\.tsv, line 2: expected 2 columns"):
        encode_letters(CorpusConfig(tsv=path))


def test_rows_do_not_depend_on_the_size_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"s{number}", f"target{number}") for number in range(10)]
    corpus = write_tsv(tmp_path / "a.tsv", *rows)
    (tmp_path / "b.txt").write_text("one\ntwo\nthree\nfour\n")
    monkeypatch.setattr(encode_module, "_CHUNK_LINES", 3)
    data = encode_letters(corpus, CorpusConfig(text=tmp_path / "b.txt"))
    assert texts(data) == [*rows, ("", "one\ntwo\nthree\nfour\n")]


def test_running_text_is_encoded_like_the_joined_text(tmp_path: Path) -> None:
    text = "a rose  is\n\n a rose \nis a rose\n" * 20
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    tokenizer = Tokenizer.train(text.split("\n"), vocab_size=300, lossless=True)
    data = encode_corpora(
        [CorpusConfig(text=tmp_path / "a.txt")],
        Tokenizers(tokenizer, tokenizer),
        LengthLimits(5, 5, "error"),
        FileDigests(),
    )
    assert len(data) == 1
    assert data.target[0].tolist() == tokenizer.encode([text])[0]
    assert data.report.lines == data.report.kept == 80


@pytest.mark.parametrize("chunk_lines", [1, 2, 3, 100])
def test_blank_lines_can_separate_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_lines: int
) -> None:
    monkeypatch.setattr(encode_module, "_CHUNK_LINES", chunk_lines)
    (tmp_path / "a.txt").write_text("\none\ntwo\n\n \nthree\n\nfour\nfive\n")
    (tmp_path / "b.txt").write_text("six\n\nseven\n\n")
    corpora = [
        CorpusConfig(text=tmp_path / name, separator="blank_line") for name in ("a.txt", "b.txt")
    ]
    data = encode_letters(*corpora)
    found = ["one\ntwo\n", "three\n", "four\nfive\n", "six\n", "seven\n"]
    assert texts(data) == [("", text) for text in found]
    assert data.lines.tolist() == [2, 6, 8, 1, 3]
    assert [(rows.start, rows.stop) for rows in data.corpora] == [(0, 3), (3, 5)]
    assert data.report.lines == data.report.kept == 13
    assert data.report.target_tokens == sum(map(len, found))


def test_empty_sides_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = [("a", "A"), ("", "B"), ("c", " "), ("d", "D"), ("", "")]
    path = tmp_path / "a.tsv"
    data = encode_letters(write_tsv(path, *rows))
    assert texts(data) == [("a", "A"), ("d", "D")]
    report = data.report
    assert (report.lines, report.kept, report.empty) == (5, 2, 3)
    assert (report.source_tokens, report.target_tokens) == (2, 2)
    assert report.empty_at == (f"{path}:2", f"{path}:3", f"{path}:5")
    assert str(report) == f"2 of 5 lines used, 3 empty skipped ({', '.join(report.empty_at)})"


def test_a_text_without_ids_counts_as_empty(tmp_path: Path) -> None:
    class Deaf(Letters):
        def encode(self, texts: list[str]) -> list[list[int]]:
            return [[ord(c) for c in text if c != "?"] for text in texts]

    corpus = write_tsv(tmp_path / "a.tsv", ("a", "??"), ("b", "c"))
    data = encode_letters(corpus, tokenizer=Deaf())
    assert (texts(data), data.report.empty) == ([("b", "c")], 1)


LONG_ROWS = [("abc", "d"), ("abcd", "e"), ("f", "ghi"), ("abcde", "ghijk")]


@pytest.mark.parametrize(
    ("long_lines", "kept", "too_long", "truncated"),
    [
        ("skip", [("abc", "d")], 3, 0),
        ("truncate", [("abc", "d"), ("abc", "e"), ("f", "gh"), ("abc", "gh")], 0, 3),
    ],
)
def test_long_lines_are_counted(
    tmp_path: Path,
    long_lines: str,
    kept: list[tuple[str, str]],
    too_long: int,
    truncated: int,
) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", *LONG_ROWS)
    data = encode_letters(corpus, max_source_length=3, max_target_length=2, long_lines=long_lines)
    report = data.report
    assert texts(data) == kept
    assert (report.kept, report.too_long, report.truncated) == (len(kept), too_long, truncated)
    assert report.too_long_at == tuple(f"{corpus.tsv}:{line}" for line in (2, 3, 4))


def test_a_long_line_can_be_an_error(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a\nb\n")
    (tmp_path / "t").write_text("c\nlonger\n")
    corpus = CorpusConfig(source=tmp_path / "s", target=tmp_path / "t")
    with pytest.raises(DataError, match=r"/t:2: the target has 6 tokens; expected at most 5 "):
        encode_letters(corpus, max_target_length=5, long_lines="error")


def test_only_the_first_places_are_named(tmp_path: Path) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"), *[("", "c")] * 7)
    report = encode_letters(corpus).report
    assert (report.empty, len(report.empty_at)) == (7, 5)
    assert str(report).endswith(":6, ...)")


def test_line_numbers_are_those_of_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"))
    pairs = [Pair(7, "a", "b"), Pair(9, "", "c")]
    monkeypatch.setattr(encode_module, "read_corpus", lambda _: iter(pairs))
    assert encode_letters(corpus).report.empty_at == (f"{corpus.tsv}:9",)
