"""Corpora to ids: against a tokenizer whose ids are the characters' code points."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data import encode as encode_module
from seq2seq_kit.data.cache import cache_folder, describe_corpus
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.holdout import _linked, split_holdout
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import DataError, InputError, RunError
from seq2seq_kit.text.corpus import Pair
from seq2seq_kit.tokens.tokenizer import Tokenizer


class Letters:
    """Stands in for a Tokenizer: a character is its code point, and the texts encoded are kept."""

    def __init__(self, fingerprint: str = "letters", vocab_size: int = 256) -> None:
        self.fingerprint = fingerprint
        self.vocab_size = vocab_size
        self.encoded: list[str] = []

    def encode(self, texts: list[str]) -> list[list[int]]:
        self.encoded += texts
        return [[ord(character) for character in text] for text in texts]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("S2S_CACHE_DIR", str(folder))
    return folder


def write_tsv(path: Path, *rows: tuple[str, str]) -> CorpusConfig:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in rows), encoding="utf-8")
    return CorpusConfig(tsv=path)


def encode_letters(
    *corpora: CorpusConfig,
    tokenizer: Letters | None = None,
    max_source_length: int = 50,
    max_target_length: int = 50,
    long_lines: str = "skip",
) -> EncodedData:
    tokenizer = tokenizer or Letters()
    limits = LengthLimits(max_source_length, max_target_length, long_lines)
    return encode_corpora(corpora, Tokenizers(tokenizer, tokenizer), limits, FileDigests())


def texts(data: EncodedData) -> list[tuple[str, str]]:
    source, target = data.source, data.target
    return [
        ("".join(map(chr, source[row])) if source else "", "".join(map(chr, target[row])))
        for row in range(len(data))
    ]


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
        shown = f"2 with another number of columns skipped ({path}:2, {path}:5)"
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


def test_a_moved_file_is_found_again_and_named_anew(tmp_path: Path) -> None:
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
def test_whatever_ids_depend_on_makes_a_new_entry(
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


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(RunError, match=r"cache, which cannot be written to .*Set S2S_CACHE_DIR"):
        encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "b")))


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"S2S_CACHE_DIR": "c", "XDG_CACHE_HOME": "x"}, "c"),
        ({"S2S_CACHE_DIR": "", "XDG_CACHE_HOME": "x"}, "x/seq2seq_kit"),
        ({"S2S_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, "home/.cache/seq2seq_kit"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], folder: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value else "")
    assert cache_folder() == tmp_path / folder
    assert cache_folder().is_dir()


def test_the_description_of_a_corpus_has_no_path(tmp_path: Path) -> None:
    first = write_tsv(tmp_path / "a.tsv", ("a", "b"))
    second = write_tsv(tmp_path / "b.tsv", ("a", "b"))
    digests = FileDigests()
    assert describe_corpus(first, digests) == describe_corpus(second, digests)
    assert str(tmp_path) not in str(describe_corpus(first, digests))


def pairs_with_repeats(num_rows: int) -> list[tuple[str, str]]:
    """Pairs of which a good part share a source or a target with another."""
    rng = np.random.default_rng(0)
    sources = rng.integers(num_rows, size=num_rows)
    targets = rng.integers(num_rows, size=num_rows)
    # Chains of rows over random repeats would link most of the set: keep half the rows out of it.
    sources[::2] = targets[::2] = num_rows + np.arange(0, num_rows, 2) // 4
    return [(f"s{s}", f"t{t}") for s, t in zip(sources, targets, strict=True)]


def test_holdout_shares_no_source_and_no_target_with_training(tmp_path: Path) -> None:
    rows = pairs_with_repeats(1000)
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", *rows))
    train, held = split_holdout(whole, holdout=60, seed=1)
    assert sorted(texts(train) + texts(held)) == sorted(rows)
    assert len(held) == 60
    for side in (0, 1):
        assert not {row[side] for row in texts(train)} & {row[side] for row in texts(held)}


def test_holdout_keeps_sources_apart_where_targets_are_few(tmp_path: Path) -> None:
    rows = [(f"s{number // 2}", f"t{number % 3}") for number in range(400)]
    train, held = split_holdout(
        encode_letters(write_tsv(tmp_path / "a.tsv", *rows)), holdout=20, seed=1
    )
    assert len(held) == 20
    assert not {source for source, _ in texts(train)} & {source for source, _ in texts(held)}


def test_holdout_keeps_equal_lines_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {number // 2}\n" for number in range(200)))
    whole = encode_letters(CorpusConfig(lines=tmp_path / "a.txt"))
    train, held = split_holdout(whole, holdout=10, seed=1)
    assert len(held) == 10
    assert not set(texts(train)) & set(texts(held))


def test_holdout_is_a_function_of_the_seed(tmp_path: Path) -> None:
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", *pairs_with_repeats(300)))
    held = [texts(split_holdout(whole, holdout=20, seed=seed)[1]) for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert held[0] != held[2]


def test_holdout_takes_at_most_a_tenth_of_all_corpora(tmp_path: Path) -> None:
    first = write_tsv(tmp_path / "a.tsv", *[(f"a{number}", f"A{number}") for number in range(150)])
    second = write_tsv(tmp_path / "b.tsv", *[(f"b{number}", f"B{number}") for number in range(50)])
    train, held = split_holdout(encode_letters(first, second), holdout=1000, seed=1)
    assert len(held) == 20
    for part in (train, held):
        first_rows, second_rows = part.corpora
        assert first_rows.start == 0
        assert first_rows.stop == second_rows.start
        assert second_rows.stop == len(part)
        letters = [source[0] for source, _ in texts(part)]
        assert letters == ["a"] * first_rows.stop + ["b"] * (len(part) - first_rows.stop)


@pytest.mark.parametrize(("num_letters", "held_letters"), [(5000, 500), (20_000, 1000)])
def test_holdout_of_running_text_is_its_end(
    tmp_path: Path, num_letters: int, held_letters: int
) -> None:
    text = ("abcdefghi\n" * num_letters)[:num_letters]
    (tmp_path / "a.txt").write_text(text)
    whole = encode_letters(CorpusConfig(text=tmp_path / "a.txt"))
    train, held = split_holdout(whole, holdout=1, seed=1)
    assert texts(train) == [("", text[:-held_letters])]
    assert texts(held) == [("", text[-held_letters:])]


def test_holdout_of_too_few_rows_is_an_error(tmp_path: Path) -> None:
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "b"), ("c", "d")))
    with pytest.raises(DataError, match=r"found 2 usable\. Give data\.validation"):
        split_holdout(whole, holdout=1, seed=1)


@pytest.mark.parametrize("num_groups", [5, 40, 100, 200])
def test_linked_rows_are_connected_components(num_groups: int) -> None:
    rng = np.random.default_rng(num_groups)
    first, second = rng.integers(num_groups, size=(2, 100))
    expected = list(range(100))  # The least row of each component, joined pair by pair.
    for one in range(100):
        for other in range(100):
            if first[one] == first[other] or second[one] == second[other]:
                low, high = sorted((expected[one], expected[other]))
                expected = [low if label == high else label for label in expected]
    linked = _linked(first, second)
    pairs = {(int(a), b) for a, b in zip(linked, expected, strict=True)}
    assert len(pairs) == len(set(expected)) == len(set(linked.tolist()))


def test_linking_a_long_chain_is_quick() -> None:
    rows = np.random.default_rng(0).permutation(100_000)
    assert not np.any(_linked(rows // 2, (rows + 1) // 2))


def test_line_numbers_are_those_of_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_tsv(tmp_path / "a.tsv", ("a", "b"))
    pairs = [Pair(7, "a", "b"), Pair(9, "", "c")]
    monkeypatch.setattr(encode_module, "read_corpus", lambda _: iter(pairs))
    assert encode_letters(corpus).report.empty_at == (f"{corpus.tsv}:9",)


def test_a_user_without_a_home_folder_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("S2S_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match=r"has no home folder.*Set S2S_CACHE_DIR"):
        cache_folder()
    monkeypatch.setenv("S2S_CACHE_DIR", "~nosuchuser/cache")
    with pytest.raises(InputError, match="`~nosuchuser` stands for no home folder"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("S2S_CACHE_DIR")
    assert cache_folder() == tmp_path / "seq2seq_kit"
