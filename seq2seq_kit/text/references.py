"""Test sets: each source text with its references, one or more, from parallel files or a table."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.text.corpus import BadRow, read_corpus

logger = logging.getLogger(__name__)

_SHOWN_LINES = 5


class SourceWithReferences(NamedTuple):
    """A source text and the correct outputs for it."""

    line: int
    """Its line number, counted from 1; in a table that of the first row with this source."""
    source: str
    references: list[str]


def read_parallel_references(
    source: Path, references: Sequence[Path]
) -> list[SourceWithReferences]:
    """Returns each line of a file with its references, one from each of the other files.

    Raises:
        InputError: If several references need `source` to be read more than once, but it is a pipe.
        DataError: If a file cannot be read, is not UTF-8 or has another number of lines.
    """
    if len(references) > 1 and (reason := why_not_regular(source)):
        raise InputError(f"{source}: is read once for each reference, but {reason}.")
    corpora = [read_corpus(CorpusConfig(source=source, target=path)) for path in references]
    return [
        SourceWithReferences(pairs[0].line, pairs[0].source, [pair.target for pair in pairs])
        for pairs in zip(*corpora, strict=True)
    ]


def table_like(trained_on: CorpusConfig, path: Path) -> CorpusConfig:
    """Returns a table as a corpus.

    Args:
        trained_on: The training corpus. If it is such a file, its columns are used; else 1 and 2.
        path: A TSV, or a CSV or JSONL if its name ends so.
    """
    corpus = CorpusConfig.model_validate(path)
    if trained_on.kind == corpus.kind:
        corpus = trained_on.model_copy(update={corpus.kind: path})
    return corpus


def read_table_references(
    path: Path, trained_on: CorpusConfig, normalize: Callable[[str], str]
) -> list[SourceWithReferences]:
    """Returns each source of a table with all its references, in the order of the sources.

    Rows whose columns do not match are skipped and reported, if `trained_on` skips them.

    Args:
        path: A TSV, or a CSV or JSONL if its name ends so.
        trained_on: The training corpus. If it is such a file, its columns are used; else 1 and 2.
        normalize: Maps equivalent spellings of a source to the same text.

    Raises:
        DataError: If the file cannot be read, is not UTF-8 or has a faulty row.
    """
    answers: dict[str, SourceWithReferences] = {}
    pairs = list(read_corpus(table_like(trained_on, path)))
    if bad := [str(pair.line) for pair in pairs if isinstance(pair, BadRow)]:
        shown = ", ".join(bad[:_SHOWN_LINES]) + ", ..." * (len(bad) > _SHOWN_LINES)
        logger.warning(
            "%s: %d rows with another number of columns were skipped (lines %s).",
            path,
            len(bad),
            shown,
        )
    for pair in pairs:
        if pair.source or pair.target:  # A blank line is no pair; the last one often is blank.
            source = normalize(pair.source)
            answer = answers.setdefault(source, SourceWithReferences(pair.line, source, []))
            answer.references.append(pair.target)
    return list(answers.values())
