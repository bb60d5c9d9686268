"""Tables: which columns of a TSV, CSV or JSONL hold the texts, and which rows lack columns."""

import csv
import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.config.sections import Column, CorpusKind
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.lines import read_chosen_lines, read_lines

# Rows of a file without a header from which the usual number of columns is taken.
_FIRST_ROWS = 1000


class Table(NamedTuple):
    """The layout and the rows of a table."""

    path: Path
    layout: "Layout"
    source_columns: list[int]
    target_columns: list[int]
    num_columns: int
    """The usual number of cells of a row."""
    known_from: str
    """Where that number comes from, for messages."""
    join: str
    """Put between the texts of several columns of one side."""
    rows: Iterator[tuple[int, list[str]]]
    """Line numbers and cells; an empty line has no cells."""

    def is_bad(self, cells: list[str]) -> bool:
        """Whether a row has an unusual number of cells; empty ones at its end do no harm."""
        return len(cells) < self.num_columns or any(cells[self.num_columns :])

    def chosen_rows(self, lines: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        """Yields the rows on some lines, ascending; it ends early if the file does."""
        if self.layout.kind == "csv":  # A row may have several lines.
            chosen = set(lines)
            yield from (row for row in self.rows if row[0] in chosen)
            return
        for number, line in zip(lines, read_chosen_lines(self.path, lines), strict=False):
            yield number, self.layout.cells(number, line)

    def sides(self, cells: list[str]) -> tuple[str, str]:
        """Returns the source and the target text of a row."""
        return (
            self.join.join(cells[column] for column in self.source_columns),
            self.join.join(cells[column] for column in self.target_columns),
        )

    def explain_bad_rows(self, number: int, examples: list[tuple[int, int]]) -> str:
        """Returns the message for rows with an unusual number of columns.

        Args:
            number: How many there are.
            examples: Line number and columns of the first ones.
        """
        (line, found), *others = examples
        more = ""
        if others:
            listed = ", ".join(f"{line} ({found})" for line, found in others)
            more = f" {number:,} rows have an unusual number of columns, also lines {listed}"
            more += ", ..." if number > len(examples) else "."
        return (
            f"{self.path}, line {line}: expected {self.num_columns} {self.layout.columns}, "
            f"{self.known_from}, but found {found}.{more} {self.layout.likely_cause}Fix or remove "
            f"these rows, or skip them: `bad_lines: skip` beside `{self.layout.kind}`."
        )


class Layout(NamedTuple):
    """How the lines of a table become rows of cells."""

    path: Path
    kind: CorpusKind
    """tsv, csv or jsonl."""
    delimiter: str
    """Of a CSV."""
    fields: list[str]
    """The fields of a JSONL's objects that become cells; empty for arrays and other kinds."""

    @property
    def columns(self) -> str:
        """What the cells are, for messages."""
        if self.kind == "jsonl":
            return "fields"
        name = "tabs" if self.kind == "tsv" else repr(self.delimiter)
        return f"columns, separated by {name}"

    @property
    def likely_cause(self) -> str:
        """What often goes wrong, for messages; empty or a sentence with a space."""
        if self.kind == "tsv":
            return "A tab inside a text shifts the columns after it. "
        if self.kind == "csv":
            return f"A text that contains {self.delimiter!r} must be in double quotes. "
        return ""

    def rows(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        """Yields line numbers and cells."""
        if self.kind == "csv":
            return self._csv_rows(lines)
        return ((number, self.cells(number, line)) for number, line in lines)

    def cells(self, number: int, line: str) -> list[str]:
        """Returns the cells of a line of a TSV or JSONL; none for an empty line."""
        if self.kind == "tsv":
            return line.split("\t") if line else []
        if not line.strip():
            return []
        record = parse_record(self.path, number, line)
        if isinstance(record, list):
            return record
        # A row that lacks a field has fewer cells than the others.
        return [record[name] for name in self.fields if name in record]

    def _csv_rows(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        # Within quotes, line breaks belong to the text.
        with_ends = (line + "\n" for _, line in lines)
        reader = csv.reader(with_ends, delimiter=self.delimiter, strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{self.path}, line {first}: expected a row of CSV, but it cannot be read "
                    f"({error}, at line {reader.line_num}). Put a text that contains a quote into "
                    "quotes, and write the quote twice."
                ) from error
            yield first, cells


def parse_record(path: Path, number: int, line: str) -> dict[str, str] | list[str]:
    """Returns the texts in a line of JSONL: fields of an object by name, or the items of an array.

    The fields of nested objects get names like `translation.de`. Fields that hold no string are
    left out of an object, so that a table may have others beside its texts.

    Raises:
        DataError: If the line is no JSON object or array, or an array holds something else.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: expected a JSON object or array, but the line is not JSON "
            f"({error}). Write each object on one line."
        ) from error
    if isinstance(record, dict):
        return dict(_strings(record, ""))
    if isinstance(record, list) and all(isinstance(item, str) for item in record):
        return record
    raise DataError(
        f"{path}, line {number}: expected a JSON object or an array of strings. "
        f"Received: {line[:80]}"
    )


def _strings(record: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, str):
            yield prefix + name, value
        elif isinstance(value, dict):
            yield from _strings(value, f"{prefix}{name}.")


def open_table(path: Path, corpus: CorpusConfig) -> Table:
    """Finds out which columns a table has.

    Args:
        path: The file.
        corpus: The corpus that it belongs to, with the columns to use.

    Raises:
        DataError: If it cannot be read or lacks a column that the corpus names.
    """
    lines: Iterator[tuple[int, str]] = enumerate(read_lines(path), start=1)
    layout = Layout(path, corpus.kind, corpus.delimiter, [])
    if corpus.kind == "jsonl":
        layout, lines = _read_fields(layout, lines)
    rows = layout.rows(lines)
    names = _read_header(path, rows) if corpus.header else layout.fields
    source_columns = _column_indices(corpus.source_columns, names, path)
    target_columns = _column_indices(corpus.target_columns, names, path)
    needed = 1 + max(source_columns + target_columns)
    if needed <= len(layout.fields):  # Objects need no fields but these, in whatever order.
        names = [names[column] for column in source_columns + target_columns]
        layout = layout._replace(fields=names)
        rows, needed = layout.rows(lines), len(names)
        source_columns = list(range(len(source_columns)))
        target_columns = list(range(len(source_columns), needed))
    first_rows = list(islice(rows, _FIRST_ROWS))
    counts = Counter(len(cells) for _, cells in first_rows if cells)
    # Of two equally frequent numbers, one that has the needed columns; of such, the smaller.
    num_columns = len(names) or max(
        counts, key=lambda number: (counts[number], number >= needed, -number), default=needed
    )
    if num_columns < needed:
        number = 1 if names else next(n for n, cells in first_rows if len(cells) == num_columns)
        raise DataError(
            f"{path}, line {number}: expected at least {needed} {layout.columns}, but found "
            f"{num_columns}. {_advise(corpus)}"
        )
    return Table(
        path,
        layout,
        source_columns,
        target_columns,
        num_columns,
        known_from=_known_from(corpus, layout),
        join=corpus.join,
        rows=chain(first_rows, rows),
    )


def _known_from(corpus: CorpusConfig, layout: Layout) -> str:
    """Returns what says how many columns a row has, for messages."""
    if layout.fields:
        return " and ".join(map(repr, layout.fields))
    return "like the header" if corpus.header else "like most of the first rows"


def _advise(corpus: CorpusConfig) -> str:
    """Returns what to do about a table that lacks columns."""
    fix = "Fix the file, or choose other `source_columns` and `target_columns`."
    if corpus.kind == "csv":
        return f"{fix} If another character separates the columns, name it: `delimiter: ';'`."
    if corpus.kind == "jsonl":
        return f"{fix} A column is a field that holds a string."
    return (
        f"{fix} If the file is not a TSV, name it as `csv` or `jsonl`, or use `source` with "
        "`target` (two files), or for continuation `text` or `lines`."
    )


def _read_fields(
    layout: Layout, lines: Iterator[tuple[int, str]]
) -> tuple[Layout, Iterator[tuple[int, str]]]:
    """Returns the layout with the fields of a JSONL's first object, and all its lines."""
    read: list[tuple[int, str]] = []
    for number, line in lines:
        read.append((number, line))
        if line.strip():
            record = parse_record(layout.path, number, line)
            layout = layout._replace(fields=list(record) if isinstance(record, dict) else [])
            break
    return layout, chain(read, lines)


def _read_header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    """Takes the first row off `rows` and returns the column names in it."""
    for _, cells in rows:
        return cells or [""]
    raise DataError(f"{path}: expected a first line with column names (`header`), but it is empty.")


def _column_indices(columns: Iterable[Column], names: list[str], path: Path) -> list[int]:
    """Converts columns counted from 1, or named in the header, to list indices."""
    return [
        column - 1 if isinstance(column, int) else _named_column(column, names, path)
        for column in columns
    ]


def _named_column(column: str, names: list[str], path: Path) -> int:
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise DataError(
            f"{path}, line 1: {names.count(column)} columns are named {column!r}. "
            "Rename them, or give the column's number."
        )
    close = difflib.get_close_matches(column, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(name) for name in names)
    raise DataError(f"{path}, line 1: no column is named {column!r}, only {listed}.{hint}")
