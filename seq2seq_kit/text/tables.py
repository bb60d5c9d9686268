"""TSV files: which columns hold the texts, and which rows have an unusual number of columns."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.config.sections import Column
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.lines import read_lines

# Rows of a TSV file without a header from which the usual number of columns is taken.
_FIRST_ROWS = 1000


class Table(NamedTuple):
    """The layout and the rows of a TSV file."""

    path: Path
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
            f"{self.path}, line {line}: expected {self.num_columns} columns, separated by tabs, "
            f"{self.known_from}, but found {found}.{more} A tab inside a text shifts the columns "
            "after it. Fix or remove these rows, or skip them: `bad_lines: skip` beside `tsv`."
        )


def open_table(path: Path, corpus: CorpusConfig) -> Table:
    """Finds out which columns a TSV file has.

    Args:
        path: The file.
        corpus: The corpus that it belongs to, with the columns to use.

    Raises:
        DataError: If it cannot be read or lacks a column that the corpus names.
    """
    lines = enumerate(read_lines(path), start=1)
    names = _read_header(path, lines) if corpus.header else []
    source_columns = _column_indices(corpus.source_columns, names, path)
    target_columns = _column_indices(corpus.target_columns, names, path)
    needed = 1 + max(source_columns + target_columns)
    rows = ((number, line.split("\t") if line else []) for number, line in lines)
    first_rows = list(islice(rows, _FIRST_ROWS))
    counts = Counter(len(cells) for _, cells in first_rows if cells)
    # Of two equally frequent numbers, one that has the needed columns; of such, the smaller.
    num_columns = len(names) or max(
        counts, key=lambda number: (counts[number], number >= needed, -number), default=needed
    )
    if num_columns < needed:
        number = 1 if names else next(n for n, cells in first_rows if len(cells) == num_columns)
        raise DataError(
            f"{path}, line {number}: expected at least {needed} columns, separated by tabs, but "
            f"found {num_columns}. Fix the file, or choose other `source_columns` and "
            "`target_columns`. If the file is not a TSV, use `source` with `target` (two files), "
            "or for continuation `text` or `lines`."
        )
    return Table(
        path,
        source_columns,
        target_columns,
        num_columns,
        known_from="like the header" if names else "like most of the first rows",
        join=corpus.join,
        rows=chain(first_rows, rows),
    )


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Takes the first line off `lines` and returns the column names in it."""
    for _, line in lines:
        return line.split("\t")
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
