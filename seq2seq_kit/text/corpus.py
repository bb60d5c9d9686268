"""Corpora: aligned pairs from parallel files or tables, one text a line, or running text.

Everything is read as a stream, so memory does not grow with a corpus. Knows nothing of tokens.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.text.lines import count_lines, read_chosen_lines, read_lines
from seq2seq_kit.text.tables import open_table

_EXAMPLES = 5


class Pair(NamedTuple):
    """A source text with its target text, and their line number."""

    line: int
    """Line number in the file, counted from 1; in parallel files the same on both sides, for a row
    of several lines that of the first."""
    source: str
    """Empty for continuation."""
    target: str
    """For continuation: the text."""


class BadRow(Pair):
    """A row of a table to skip, because its number of columns is unusual. Both sides are empty."""

    __slots__ = ()


def read_corpus(corpus: CorpusConfig) -> Iterator[Pair]:
    """Yields the pairs of a corpus in file order, with none left out.

    An empty line is a pair with an empty side; the caller decides whether to keep it. A table's row
    with an unusual number of columns is a `BadRow` if the corpus has `bad_lines: skip`.

    Args:
        corpus: One corpus, with absolute paths.

    Returns:
        An iterator over the pairs. It raises while iterating, at the faulty line.

    Raises:
        ConfigError: If `corpus` names no files.
        DataError: If a file cannot be read or is not UTF-8, if parallel files differ in their
            number of lines, or if a table lacks a column or has a row with an unusual number of
            columns and `bad_lines` is "error". Each message names the file and the line.
    """
    if corpus.source is not None and corpus.target is not None:
        return _read_parallel(corpus.source, corpus.target)
    if corpus.table is not None:
        return _read_table(corpus.table, corpus)
    texts = corpus.lines or corpus.text
    if texts is not None:
        return _read_texts(texts)
    raise ConfigError(
        "A corpus must name `source` and `target`, or `tsv`, `csv`, `jsonl`, `lines` or `text`. "
        "Received none of them."
    )


def read_pairs(corpus: CorpusConfig, lines: Sequence[int]) -> Iterator[Pair]:
    """Yields the pairs on some lines of a corpus, without decoding the others.

    Args:
        corpus: One corpus, as for `read_corpus`.
        lines: Line numbers, ascending, of pairs that `read_corpus` yields with text.

    Raises:
        DataError: As in `read_corpus`.
    """
    if corpus.source is not None and corpus.target is not None:
        sources = read_chosen_lines(corpus.source, lines)
        targets = read_chosen_lines(corpus.target, lines)
        # Neither is longer unless a file has changed, which is for the caller to notice.
        yield from map(Pair, lines, sources, targets)
    elif corpus.table is not None:
        table = open_table(corpus.table, corpus)
        for number, cells in table.chosen_rows(lines):
            if table.is_bad(cells):
                raise DataError(table.explain_bad_rows(1, [(number, len(cells))]))
            yield Pair(number, *table.sides(cells))
    elif (path := corpus.lines or corpus.text) is not None:
        for number, line in zip(lines, read_chosen_lines(path, lines), strict=False):
            yield Pair(number, "", line)


def check_corpus(corpus: CorpusConfig) -> list[str]:
    """Lists the faults of a corpus that can be found before training.

    Parallel files and tables are read to the end, for their line counts and columns; of the other
    kinds only the first line is read.

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
        if corpus.table is not None:
            return _check_table(corpus.table, corpus)
        if next(read_corpus(corpus), None) is None:
            return [_empty_file(corpus.lines or corpus.text)]
    except (ConfigError, DataError) as error:
        return [str(error)]
    return []


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


def _read_table(path: Path, corpus: CorpusConfig) -> Iterator[Pair]:
    table = open_table(path, corpus)
    for number, cells in table.rows:
        if not cells:
            cells = [""] * table.num_columns  # An empty line has empty sides, in any layout.
        elif table.is_bad(cells):
            if corpus.bad_lines == "error":
                raise DataError(table.explain_bad_rows(1, [(number, len(cells))]))
            yield BadRow(number, "", "")
            continue
        yield Pair(number, *table.sides(cells))


def _check_table(path: Path, corpus: CorpusConfig) -> list[str]:
    table = open_table(path, corpus)
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
        return [table.explain_bad_rows(num_bad, examples)]
    return []


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
        f"and {target_path} has {num_targets}: line {min(num_sources, num_targets) + 1} "
        "exists on one side only. Look for a line that was lost or split."
    )


def _empty_file(path: Path | None) -> str:
    return f"{path}: expected at least one line of text, but there is none."
