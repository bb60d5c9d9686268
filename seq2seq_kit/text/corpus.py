r"""Text files to aligned lines: parallel files, TSV, one text a line, running text; plain or gzip.

Everything streams, so memory does not grow with a corpus. A line ends at "\n" and nowhere else, so
that two files keep their alignment. Knows nothing of tokens.
"""

import difflib
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit import bounds
from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.config.sections import Column
from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.files import why_not_regular

_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
# Rows of a TSV file without a header that say how many columns it has.
_FIRST_ROWS = 1000
_EXAMPLES = 5
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Pair(NamedTuple):
    """A source text with its target text, and where they stand."""

    line: int
    """Line number in the file, counted from 1; in parallel files the same on both sides."""
    source: str
    """Empty for continuation."""
    target: str
    """For continuation: the text."""


class BadRow(Pair):
    """A TSV row that is to be skipped: it has another number of columns. Both sides are empty."""

    __slots__ = ()


def read_corpus(corpus: CorpusConfig) -> Iterator[Pair]:
    """Yields the pairs of a corpus in file order, none left out.

    An empty line is a pair with an empty side: whether to keep it is for the caller to say. So is
    a `BadRow`, which comes where the corpus has bad lines skipped.

    Args:
        corpus: One corpus, with paths that need no further folder.

    Returns:
        An iterator over the pairs. It raises on the way, at the line that is at fault.

    Raises:
        ConfigError: If `corpus` names no files.
        DataError: If a file cannot be read or is not UTF-8, if parallel files differ in their
            number of lines, or if a TSV line lacks a column or has another number of them and
            `bad_lines` is "error". Each names the file and the line.
    """
    if corpus.source is not None and corpus.target is not None:
        return _read_parallel(corpus.source, corpus.target)
    if corpus.tsv is not None:
        return _read_tsv(corpus.tsv, corpus)
    texts = corpus.lines or corpus.text
    if texts is not None:
        return _read_texts(texts)
    raise ConfigError(
        "A corpus must name `source` and `target`, or `tsv`, or `lines`, or `text`. "
        "Received none of them."
    )


def check_corpus(corpus: CorpusConfig) -> list[str]:
    """Lists what is wrong with a corpus as far as can be told before training.

    Parallel files and TSV are read to the end, for their line counts and columns; of the other
    kinds the first line is read.

    Args:
        corpus: One corpus, as for `read_corpus`.

    Returns:
        A message for each fault, with the file's name. Empty if none was found.
    """
    once_only = [
        f"{path}: expected a text file, but {reason}. Write the text to a file."
        for path in corpus.files
        if path.exists() and not path.is_dir() and (reason := why_not_regular(path))
    ]
    if once_only:
        return once_only
    if corpus.source is not None and corpus.target is not None:
        return _check_parallel(corpus.source, corpus.target)
    try:
        if corpus.tsv is not None:
            return _check_tsv(corpus.tsv, corpus)
        if next(read_corpus(corpus), None) is None:
            return [_empty_file(corpus.lines or corpus.text)]
    except (ConfigError, DataError) as error:
        return [str(error)]
    return []


def read_lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file, plain or gzip, without their ends.

    A line ends at "\n"; one "\r" before it is dropped, and a last line needs no "\n". Every other
    character stays, NUL, form feed and U+2028 included. A byte order mark at the start is dropped.

    Args:
        path: The file. Gzip is told by the first bytes, not by the name.

    Returns:
        An iterator that holds one line at a time.

    Raises:
        DataError: On the way, if the file cannot be opened or unpacked, or is not UTF-8.
    """
    return decode_lines(raw_lines(path), name=str(path))


def count_lines(path: Path) -> int:
    """Counts the lines that `read_lines` yields. It raises the same errors.

    Args:
        path: The file, as for `read_lines`.

    Returns:
        The number of lines.
    """
    return sum(1 for _ in read_lines(path))


def decode_lines(raw_lines: Iterable[bytes], *, name: str, first_line: int = 1) -> Iterator[str]:
    r"""Yields lines as text, by the rules of `read_lines`. Use it for standard input.

    Args:
        raw_lines: Lines of bytes that end at "\n", as a binary file yields them.
        name: What errors call the input, such as its path.
        first_line: The number of the first line; a byte order mark is dropped from line 1 only.

    Returns:
        An iterator over the lines, without their ends.

    Raises:
        DataError: On the way, at a line that is not UTF-8.

    Example:

    >>> list(decode_lines([b"one\r\n", b"\n", b"three"], name="example"))
    ['one', '', 'three']
    """
    for number, raw in enumerate(raw_lines, start=first_line):
        if len(raw) > bounds.MAX_LINE_BYTES:
            raise DataError(
                f"{name}, line {number}: expected a line of at most {bounds.MAX_LINE_BYTES:,} "
                "bytes, but it is longer. Give a text with line ends."
            )
        if number == 1:
            if raw == _BOM:  # nothing but a mark: an empty file
                return
            raw = raw.removeprefix(_BOM)
        if raw.endswith(b"\n"):
            raw = raw[:-1].removesuffix(b"\r")
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(_not_utf8(name, number, error)) from error


def raw_lines(path: Path) -> Iterator[bytes]:
    r"""Yields the unpacked lines of a file with their ends: a binary file splits at "\n" only."""
    num_read = 0
    try:
        with path.open("rb") as file:
            is_gzip = file.peek(2).startswith(_GZIP_MAGIC)
            lines = gzip.GzipFile(fileobj=file) if is_gzip else file
            # Of a longer line a part is enough to refuse it.
            for raw in iter(partial(lines.readline, bounds.MAX_LINE_BYTES + 1), b""):
                yield raw
                num_read += 1
    except EOFError as error:
        raise DataError(
            f"{path}: expected a whole gzip file, but it is cut off after line {num_read}. "
            "Copy or download it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip data are damaged after line {num_read} ({error}). "
            "Copy or download the file again."
        ) from error
    except OSError as error:
        raise DataError(unreadable(path, error)) from error


def _read_parallel(source_path: Path, target_path: Path) -> Iterator[Pair]:
    # A plain zip would stop without a word at the end of the shorter file.
    lines = zip_longest(read_lines(source_path), read_lines(target_path))
    for number, (source, target) in enumerate(lines, start=1):
        if source is None or target is None:
            shorter, longer = number - 1, number + sum(1 for _ in lines)
            counts = (shorter, longer) if source is None else (longer, shorter)
            raise DataError(_different_counts(source_path, target_path, *counts))
        yield Pair(number, source, target)


def _read_texts(path: Path) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), start=1):
        yield Pair(number, "", line)


def _read_tsv(path: Path, corpus: CorpusConfig) -> Iterator[Pair]:
    table = _open_table(path, corpus)
    for number, cells in table.rows:
        if not cells:
            cells = [""] * table.num_columns  # An empty line has empty sides, in any layout.
        elif table.is_bad(cells):
            if corpus.bad_lines == "error":
                raise DataError(_bad_rows(table, 1, [(number, len(cells))]))
            yield BadRow(number, "", "")
            continue
        source = corpus.join.join(cells[column] for column in table.source_columns)
        target = corpus.join.join(cells[column] for column in table.target_columns)
        yield Pair(number, source, target)


class _Table(NamedTuple):
    """A TSV file as it is laid out."""

    path: Path
    source_columns: list[int]
    target_columns: list[int]
    num_columns: int
    """Cells that a row usually has."""
    known_from: str
    rows: Iterator[tuple[int, list[str]]]
    """Line numbers and cells; an empty line has none."""

    def is_bad(self, cells: list[str]) -> bool:
        """Whether a row has another number of cells; empty ones at its end shift nothing."""
        return len(cells) < self.num_columns or any(cells[self.num_columns :])


def _open_table(path: Path, corpus: CorpusConfig) -> _Table:
    """Finds out what columns a TSV file has.

    Raises:
        DataError: If it lacks a column that the corpus names.
    """
    lines = enumerate(read_lines(path), start=1)
    names = _read_header(path, lines) if corpus.header else []
    source_columns = _column_indices(corpus.source_columns, names, path)
    target_columns = _column_indices(corpus.target_columns, names, path)
    needed = 1 + max(source_columns + target_columns)
    rows = ((number, line.split("\t") if line else []) for number, line in lines)
    first_rows = list(islice(rows, _FIRST_ROWS))
    counts = Counter(len(cells) for _, cells in first_rows if cells)
    # Of two numbers that are as frequent, one that has the columns, and of such the smaller.
    num_columns = len(names) or max(
        counts, key=lambda number: (counts[number], number >= needed, -number), default=needed
    )
    if num_columns < needed:
        number = 1 if names else next(n for n, cells in first_rows if len(cells) == num_columns)
        raise DataError(
            f"{path}, line {number}: expected at least {needed} columns, separated by tabs, but "
            f"found {num_columns}. Fix the file, or choose other `source_columns` and "
            "`target_columns`. If this is no TSV, name it as what it is: `source` with `target` "
            "(two files), or for continuation `text` or `lines`."
        )
    known_from = "as the header has" if names else "as most of the first rows have"
    table = chain(first_rows, rows)
    return _Table(path, source_columns, target_columns, num_columns, known_from, table)


def _bad_rows(table: _Table, number: int, examples: list[tuple[int, int]]) -> str:
    """Returns what to say of rows with another number of columns.

    Args:
        table: Their file.
        number: Of the rows.
        examples: Line number and columns of the first ones.
    """
    (line, found), *others = examples
    more = ""
    if others:
        listed = ", ".join(f"{line} ({found})" for line, found in others)
        more = f" So have {number:,} rows in all, also lines {listed}"
        more += ", ..." if number > len(examples) else "."
    return (
        f"{table.path}, line {line}: expected {table.num_columns} columns, separated by tabs, "
        f"{table.known_from}, but found {found}.{more} A tab inside a text shifts the columns "
        "behind it. Fix or remove such rows, or have them skipped: `bad_lines: skip` beside `tsv`."
    )


def _check_tsv(path: Path, corpus: CorpusConfig) -> list[str]:
    table = _open_table(path, corpus)
    number, num_bad = 0, 0
    examples: list[tuple[int, int]] = []
    for line, cells in table.rows:
        number += 1
        if cells and table.is_bad(cells):
            num_bad += 1
            if len(examples) < _EXAMPLES:
                examples.append((line, len(cells)))
    if not number:
        return [_empty_file(path)]
    if num_bad and corpus.bad_lines == "error":
        return [_bad_rows(table, num_bad, examples)]
    return []


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Takes the first line off `lines` and returns the column names in it."""
    for _, line in lines:
        return line.split("\t")
    raise DataError(f"{path}: expected a first line with column names (`header`), but it is empty.")


def _column_indices(columns: Iterable[Column], names: list[str], path: Path) -> list[int]:
    """Turns columns counted from 1, or named in the header, into list indices."""
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


def _check_parallel(source_path: Path, target_path: Path) -> list[str]:
    counts: list[int] = []
    faults: list[str] = []
    for path in (source_path, target_path):
        try:
            counts.append(count_lines(path))
        except DataError as error:
            faults.append(str(error))
    if faults:
        return faults
    if counts[0] != counts[1]:
        return [_different_counts(source_path, target_path, *counts)]
    return [] if counts[0] else [_empty_file(source_path), _empty_file(target_path)]


def _different_counts(
    source_path: Path, target_path: Path, num_sources: int, num_targets: int
) -> str:
    return (
        f"Parallel files must have the same number of lines, but {source_path} has {num_sources} "
        f"and {target_path} has {num_targets}: line {min(num_sources, num_targets) + 1} has no "
        "partner. Look for a line that was lost or split on one side."
    )


def _empty_file(path: Path | None) -> str:
    return f"{path}: expected at least one line of text, but there is none."


def _not_utf8(name: str, number: int, error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    is_utf16 = number == 1 and error.object.startswith(_UTF16_MARKS)
    encoding = "UTF-16" if is_utf16 else "LATIN1"
    return (
        f"{name}, line {number}: expected UTF-8, but byte {error.start + 1} of the line "
        f"(0x{byte:02x}) is not{'; the file looks like UTF-16' if is_utf16 else ''}. "
        f"Convert the file, for example with `iconv -f {encoding} -t UTF-8`."
    )


def unreadable(path: Path, error: OSError) -> str:
    """Returns what to say about a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: expected a text file, but there is no such file. Check the path."
    if isinstance(error, IsADirectoryError):
        return f"{path}: expected a text file, but it is a folder. Name a file in it."
    return f"{path}: the file cannot be read ({error.strerror or error})."
