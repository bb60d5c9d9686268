"""Files to lines: against bytes written by hand."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.text.corpus import (
    BadRow,
    Pair,
    check_corpus,
    count_lines,
    decode_lines,
    read_corpus,
    read_lines,
)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


LINES = {
    "empty file": (b"", []),
    "one empty line": (b"\n", [""]),
    "last line without an end": (b"a\nb", ["a", "b"]),
    "last line with an end": (b"a\nb\n", ["a", "b"]),
    "empty lines count": (b"\n\na\n\n", ["", "", "a", ""]),
    "one CR is dropped before LF": (b"a\r\nb\r\r\n\r\n", ["a", "b\r", ""]),
    "CR alone ends no line": (b"a\rb\r", ["a\rb\r"]),
    "BOM at the start": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
    "only a BOM": (b"\xef\xbb\xbf", []),
    "a BOM, then an empty line": (b"\xef\xbb\xbf\n", [""]),
    "NUL and tab": (b"a\0b\tc\n\0\n", ["a\0b\tc", "\0"]),
    "spaces stay": (b"  a  \n \n", ["  a  ", " "]),
    "other line ends of Unicode": (
        "a\x0b\x0c\x1c\x85\u2028\u2029b\nc".encode(),
        ["a\x0b\x0c\x1c\x85\u2028\u2029b", "c"],
    ),
    "four-byte characters": ("\U0001f600\u6625\n".encode(), ["\U0001f600\u6625"]),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "expected"), LINES.values(), ids=LINES.keys())
def test_lines_end_at_newlines_only(
    tmp_path: Path, content: bytes, expected: list[str], packed: bool
) -> None:
    # The name says nothing about the packing: only the first bytes do.
    path = write(tmp_path / "text.txt", gzip.compress(content) if packed else content)
    assert list(read_lines(path)) == expected
    assert count_lines(path) == len(expected)


def test_joined_gzip_members_are_one_text(tmp_path: Path) -> None:
    path = write(tmp_path / "text.gz", gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))
    assert list(read_lines(path)) == ["a", "bc", "d"]


def test_a_plain_file_may_be_named_gz(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "text.gz", "a\nb\n"))) == ["a", "b"]


def test_standard_input_is_read_by_the_same_rules() -> None:
    lines = decode_lines([b"\xef\xbb\xbfa\r\n", b"\xff\n"], name="standard input")
    assert next(lines) == "a"
    with pytest.raises(DataError, match="standard input, line 2"):
        next(lines)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"good\nbad \xe4 byte\n", ["line 2", "byte 5", "0xe4", "iconv -f LATIN1"]),
        (b"\xef\xbb\xbf\xff\n", ["line 1", "byte 1", "0xff"]),
        (b"cut \xe6\x98", ["line 1", "byte 5", "0xe6"]),
        (b"surrogate \xed\xa0\x80\n", ["line 1", "byte 11", "0xed"]),
        ("text\n".encode("utf-16"), ["line 1", "UTF-16", "iconv -f UTF-16"]),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_place(
    tmp_path: Path, content: bytes, parts: list[str]
) -> None:
    path = write(tmp_path / "text.txt", content)
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    for part in [str(path), *parts]:
        assert part in str(error.value)


def test_lines_before_a_fault_are_read(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "text.txt", b"first\n\xff\n"))
    assert next(lines) == "first"


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"line {n}\n" for n in range(9999)).encode())
    path = write(tmp_path / "text.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"text\.gz: expected a whole gzip file.*cut off after"):
        count_lines(path)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"a\n" * 99)[:-8] + bytes(8),  # wrong checksum
        gzip.compress(b"a\n") + b"rubbish",
        b"\x1f\x8b\x08\x00" + b"\xff" * 40,
    ],
    ids=["checksum", "rubbish at the end", "rubbish"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"text\.gz: the gzip data are damaged"):
        count_lines(write(tmp_path / "text.gz", content))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.txt: .*no such file"):
        list(read_lines(tmp_path / "nothing.txt"))
    with pytest.raises(DataError, match="it is a folder"):
        list(read_lines(tmp_path))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "text.gz", gzip.compress(b"a line of some length\n" * 200_000))
    tracemalloc.start()
    count_lines(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # bytes; the text is 4,400,000


def parallel(tmp_path: Path, source: bytes | str, target: bytes | str) -> CorpusConfig:
    return CorpusConfig(
        source=write(tmp_path / "corpus.en", source), target=write(tmp_path / "corpus.de", target)
    )


def test_parallel_files_pair_by_line(tmp_path: Path) -> None:
    corpus = parallel(tmp_path, "one\n\nthree\x0c\n", "eins\r\nzwei\n\u2028drei")
    assert list(read_corpus(corpus)) == [
        Pair(1, "one", "eins"),
        Pair(2, "", "zwei"),
        Pair(3, "three\x0c", "\u2028drei"),
    ]
    assert check_corpus(corpus) == []


@pytest.mark.parametrize(("num_sources", "num_targets"), [(2, 5), (5, 2), (0, 1)])
def test_different_line_counts_are_an_error_with_both_counts(
    tmp_path: Path, num_sources: int, num_targets: int
) -> None:
    corpus = parallel(tmp_path, "a\n" * num_sources, "b\n" * num_targets)
    with pytest.raises(DataError) as error:
        list(read_corpus(corpus))
    message = str(error.value)
    assert f"corpus.en has {num_sources} and" in message
    assert f"corpus.de has {num_targets}: line {min(num_sources, num_targets) + 1} " in message
    assert check_corpus(corpus) == [message]


def tsv(tmp_path: Path, content: str, **options: object) -> CorpusConfig:
    path = write(tmp_path / "corpus.tsv", content)
    return CorpusConfig.model_validate({"tsv": path, **options})


TABLE = "A\tB\tC\n1\t2\t3\n\t5\t6\n"
COLUMNS = {
    "defaults": ({}, [(1, "A", "B"), (2, "1", "2"), (3, "", "5")]),
    "numbers": (
        {"source_columns": 3, "target_columns": 1},
        [(1, "C", "A"), (2, "3", "1"), (3, "6", "")],
    ),
    "joined": (
        {"source_columns": [3, 1], "target_columns": [2]},
        [(1, "C A", "B"), (2, "3 1", "2"), (3, "6 ", "5")],
    ),
    "joined by another string": (
        {"source_columns": [1, 3], "join": " | "},
        [(1, "A | C", "B"), (2, "1 | 3", "2"), (3, " | 6", "5")],
    ),
    "names": (
        {"source_columns": "C", "target_columns": ["A", "B"], "header": True},
        [(2, "3", "1 2"), (3, "6", " 5")],
    ),
    "numbers under a header": ({"header": True}, [(2, "1", "2"), (3, "", "5")]),
}


@pytest.mark.parametrize(("options", "expected"), COLUMNS.values(), ids=COLUMNS.keys())
def test_tsv_columns(
    tmp_path: Path, options: dict[str, object], expected: list[tuple[int, str, str]]
) -> None:
    assert [tuple(pair) for pair in read_corpus(tsv(tmp_path, TABLE, **options))] == expected


def test_a_tsv_line_without_the_column_is_named(tmp_path: Path) -> None:
    pairs = read_corpus(tsv(tmp_path, "a\tb\nc\n"))
    assert next(pairs) == Pair(1, "a", "b")
    with pytest.raises(DataError, match=r"tsv, line 2: expected 2 columns.*found 1\."):
        next(pairs)


# Each with the lines that are bad and the pairs of the others.
RAGGED = {
    "a tab inside the source": ("a\tb\nc\tc\td\ne\tf\n", {}, [2], ["a b", "e f"]),
    "a tab inside the target": ("a\tb\nc\td\td\ne\tf\n", {}, [2], ["a b", "e f"]),
    "a lost tab": ("a\tb\tby\nc d\tby\ne\tf\tby\n", {}, [2], ["a b", "e f"]),
    "tabs at the end shift nothing": ("a\tb\t\nc\td\ne\tf\t\t\ng\th\n", {}, [], ["a b", "c d", "e f", "g h"]),  # noqa: E501
    "every row has more columns": ("a\tb\tby\nc\td\tby\n", {}, [], ["a b", "c d"]),
    "an empty last column": ("a\tb\tby\nc\td\t\n", {}, [], ["a b", "c d"]),
    "CR LF": ("a\tb\r\nc\tc\td\r\ne\tf\r\n", {}, [2], ["a b", "e f"]),
    "spaces alone": ("a\tb\n  \nc\td\n", {}, [2], ["a b", "c d"]),
    "the first row": ("a\ta\tb\nc\td\ne\tf\n", {}, [1], ["c d", "e f"]),
    "one of two, when the header decides": ("en\tde\na\tb\tc\n", {"header": True}, [2], []),
    "a header with fewer columns": ("en\tde\n1\ta\tb\n2\tc\td\n", {"header": True}, [2, 3], []),
    "several source columns": (
        "a\tb\tc\nd\te\nf\tg\th\ni\tj\tk\tl\n",
        {"source_columns": [1, 2], "target_columns": 3},
        [2, 4],
        ["a b c", "f g h"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "options", "bad", "good"), RAGGED.values(), ids=RAGGED.keys())
def test_rows_with_another_number_of_columns_are_refused_or_skipped(
    tmp_path: Path, content: str, options: dict[str, object], bad: list[int], good: list[str]
) -> None:
    skipping = tsv(tmp_path, content, **options, bad_lines="skip")
    pairs = list(read_corpus(skipping))
    assert [pair.line for pair in pairs if isinstance(pair, BadRow)] == bad
    assert all(pair[1:] == ("", "") for pair in pairs if isinstance(pair, BadRow))
    used = [f"{pair.source} {pair.target}" for pair in pairs if not isinstance(pair, BadRow)]
    assert used == good
    assert check_corpus(skipping) == []
    refusing = tsv(tmp_path, content, **options)
    if not bad:
        assert list(read_corpus(refusing)) == pairs
        return
    with pytest.raises(DataError, match=rf"corpus\.tsv, line {bad[0]}: expected . columns"):
        list(read_corpus(refusing))
    (fault,) = check_corpus(refusing)
    assert f"corpus.tsv, line {bad[0]}: expected" in fault
    assert ("rows in all" in fault) == (len(bad) > 1)


def test_all_rows_are_counted_before_training(tmp_path: Path) -> None:
    content = "".join(f"a\tb{number % 3 * chr(9)}c\n" for number in range(3000))
    (fault,) = check_corpus(tsv(tmp_path, content.replace("bc", "b")))
    assert "line 2: expected 2 columns" in fault or "line 3: expected 2 columns" in fault
    assert "2,000 rows in all, also lines 3 (4), 5 (3), 6 (4), 8 (3), ..." in fault


def test_a_fault_far_down_the_file_is_found_before_training(tmp_path: Path) -> None:
    (fault,) = check_corpus(tsv(tmp_path, "a\tb\n" * 5000 + "c\td\te\n"))
    assert "line 5001: expected 2 columns" in fault
    assert "as most of the first rows have, but found 3." in fault
    assert "`bad_lines: skip` beside `tsv`" in fault


def test_an_empty_line_of_a_tsv_is_a_pair_of_empty_sides(tmp_path: Path) -> None:
    pairs = read_corpus(tsv(tmp_path, "a\tb\n\n"))
    assert list(pairs) == [Pair(1, "a", "b"), Pair(2, "", "")]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("english\tgerman\n", {"source_columns": "englisch"}, "Did you mean 'english'?"),
        ("english\tgerman\n", {"source_columns": "zzz"}, "only 'english', 'german'."),
        ("en\ten\n", {"source_columns": "en"}, "2 columns are named 'en'"),
        ("", {"source_columns": "en"}, "expected a first line with column names"),
        ("en\tde\n", {}, "expected at least one line of text"),
        ("a\tb\n", {"source_columns": 3, "header": False}, "line 1: expected at least 3 columns"),
        ("a\tb\tc\n", {"source_columns": 4}, "line 1: expected at least 4 columns"),
    ],
)
def test_tsv_faults_are_found_before_training(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    faults = check_corpus(tsv(tmp_path, content, **{"header": True, **options}))
    assert len(faults) == 1
    assert "corpus.tsv" in faults[0]
    assert message in faults[0]


@pytest.mark.parametrize("kind", ["lines", "text"])
def test_texts_of_one_side_are_targets(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "poems.txt", "one\n\n  two \n")
    corpus = CorpusConfig.model_validate({kind: path})
    assert list(read_corpus(corpus)) == [Pair(1, "", "one"), Pair(2, "", ""), Pair(3, "", "  two ")]
    assert check_corpus(corpus) == []


def test_check_gathers_the_faults_of_both_sides(tmp_path: Path) -> None:
    corpus = CorpusConfig(
        source=tmp_path / "missing.en", target=write(tmp_path / "latin1.de", b"a\n\xfc\n")
    )
    faults = check_corpus(corpus)
    assert len(faults) == 2
    assert "missing.en" in faults[0]
    assert "latin1.de, line 2" in faults[1]


def test_check_finds_empty_files(tmp_path: Path) -> None:
    assert len(check_corpus(parallel(tmp_path, "", ""))) == 2
    path = write(tmp_path / "text.txt", "")
    assert check_corpus(CorpusConfig(text=path)) == [
        f"{path}: expected at least one line of text, but there is none."
    ]


def test_a_corpus_without_files_is_a_config_error() -> None:
    corpus = CorpusConfig.model_construct()
    with pytest.raises(ConfigError, match="must name `source` and `target`"):
        read_corpus(corpus)
