"""Tables: their columns, and rows that have too few or too many."""

from pathlib import Path

import pytest

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.corpus import BadRow, Pair, check_corpus, read_corpus, read_pairs


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


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
    assert ("rows have an unusual number of columns" in fault) == (len(bad) > 1)


def test_all_rows_are_counted_before_training(tmp_path: Path) -> None:
    content = "".join(f"a\tb{number % 3 * chr(9)}c\n" for number in range(3000))
    (fault,) = check_corpus(tsv(tmp_path, content.replace("bc", "b")))
    assert "line 2: expected 2 columns" in fault or "line 3: expected 2 columns" in fault
    assert (
        "2,000 rows have an unusual number of columns, also lines 3 (4), 5 (3), 6 (4), 8 (3), ..."
        in fault
    )


def test_a_fault_far_down_the_file_is_found_before_training(tmp_path: Path) -> None:
    (fault,) = check_corpus(tsv(tmp_path, "a\tb\n" * 5000 + "c\td\te\n"))
    assert "line 5001: expected 2 columns" in fault
    assert "like most of the first rows, but found 3." in fault
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


def table(tmp_path: Path, name: str, content: str, **options: object) -> CorpusConfig:
    path = write(tmp_path / name, content)
    return CorpusConfig.model_validate({name.split(".")[-1]: path, **options} if options else path)


CSV_AND_JSONL = {
    "csv": (
        "a.csv",
        'a,"b ""x"", y\nz"\n\nc,d\n',
        {},
        [(1, "a", 'b "x", y\nz'), (3, "", ""), (4, "c", "d")],
    ),
    "csv with a header": (
        "a.csv",
        "de;en\r\n春;b\r\n",
        {"delimiter": ";", "header": True, "source_columns": "en", "target_columns": "de"},
        [(2, "b", "春")],
    ),
    "objects": (
        "a.jsonl",
        '{"de": "x\\ny", "n": 3, "en": "春"}\n\n{"en": "q", "de": "r", "by": "someone"}\n',
        {},
        [(1, "x\ny", "春"), (2, "", ""), (3, "r", "q")],
    ),
    "fields by name": (
        "a.jsonl",
        '{"id": "7", "t": {"de": "x", "en": "y"}}\n{"t": {"en": "z", "de": "w"}}\n',
        {"source_columns": "t.en", "target_columns": ["t.de", "t.en"], "join": "+"},
        [(1, "y", "x+y"), (2, "z", "w+z")],
    ),
    "arrays": ("a.jsonl", '["a", "b"]\n["c", "d"]\n', {}, [(1, "a", "b"), (2, "c", "d")]),
}


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"), CSV_AND_JSONL.values(), ids=CSV_AND_JSONL.keys()
)
def test_csv_and_jsonl(
    tmp_path: Path,
    name: str,
    content: str,
    options: dict[str, object],
    expected: list[tuple[int, str, str]],
) -> None:
    corpus = table(tmp_path, name, content, **options)
    assert [tuple(pair) for pair in read_corpus(corpus)] == expected
    assert check_corpus(corpus) == []
    chosen = [pair for pair in expected if pair[0] != 2 and pair[1]]
    assert [tuple(pair) for pair in read_pairs(corpus, [line for line, *_ in chosen])] == chosen


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "de;en\na;b\n",
            r"line 1: expected at least 2 columns, .*','.*delimiter",
        ),
        ("a.csv", 'a,b\nc,"d\ne,f\n', r"line 2: expected a row of CSV.*at line 3"),
        ("a.csv", "a,b\nc,d,e\n", r"line 2: expected 2 columns.*found 3. A text that contains ','"),
        (
            "a.jsonl",
            '{"de": "x", "en": "y"}\n{"de": "x"}\n',
            r"line 2: expected 2 fields, 'de' and 'en', but found 1",
        ),
        (
            "a.jsonl",
            '{"de": "x", "en": null}\n',
            r"line 1: expected at least 2 fields, but found 1",
        ),
        ("a.jsonl", '["a", 3]\n', r"line 1: expected a JSON object or an array of strings"),
        ("a.jsonl", '{"de": "x", "en": "y"}\n{oops\n', r"line 2: .*is not JSON"),
        ("a.jsonl", "3\n", r"line 1: expected a JSON object or an array"),
    ],
)
def test_faulty_csv_and_jsonl_are_refused_with_their_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    corpus = table(tmp_path, name, content)
    with pytest.raises(DataError, match=message):
        list(read_corpus(corpus))
    (fault,) = check_corpus(corpus)
    assert name in fault


def test_records_that_lack_a_field_can_be_skipped(tmp_path: Path) -> None:
    corpus = table(tmp_path, "a.jsonl", '["a", "b"]\n["c"]\n["d", "e"]\n', bad_lines="skip")
    kinds = [type(pair) for pair in read_corpus(corpus)]
    assert kinds == [Pair, BadRow, Pair]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tsv": "a", "delimiter": ";"}, "delimiter: is used only with `csv`"),
        ({"jsonl": "a", "header": True}, "header: is used only with `tsv` or `csv`"),
        ({"lines": "a", "join": "x"}, "join: is used only with `tsv`, `csv` or `jsonl`"),
        ({"csv": "a", "source_columns": "de"}, "source_columns: names a column, 'de'"),
        ({"csv": "a", "delimiter": ";;"}, "delimiter"),
        ({"csv": "a", "delimiter": '"'}, "delimiter"),
        ({"csv": "a", "tsv": "b"}, "exactly one kind of corpus"),
    ],
)
def test_keys_of_another_kind_of_table_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorpusConfig.model_validate(values)
