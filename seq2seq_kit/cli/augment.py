"""`s2s augment`: writes training pairs from the outputs of a model."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.options import (
    FILE,
    AugmentCommand,
    check_against_config,
    debug_option,
    runs_argument,
    take_augmentation,
)
from seq2seq_kit.cli.text_io import STANDARD_STREAM, read_in_chunks

if TYPE_CHECKING:
    from seq2seq_kit.text.references import SourceWithReferences


@click.command(cls=AugmentCommand)
@runs_argument
@click.option("--source", type=FILE, help="The texts to read, one a line; - for standard input.")
@click.option("--target", type=FILE, help="Their references, line by line, for --keep closest.")
@click.option(
    "--tsv",
    type=FILE,
    help="Texts with their references, in the columns of the run's training data. The file may "
    "also be a .csv or .jsonl.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    help="Write the pairs to this file, which appears when all are in it: a .jsonl with `source` "
    "and `target`, otherwise a TSV; gzipped if the name ends with .gz.",
)
@debug_option
def augment(
    runs: tuple[Path, ...],
    source: Path | None,
    target: Path | None,
    tsv: Path | None,
    output: Path,
    **options: Any,
) -> None:
    """Write training pairs from a model's outputs.

    Pairs of given texts with the outputs of the RUN for distillation (Kim and Rush, 2016), of its
    outputs with given texts for back-translation (Sennrich et al., 2016), or of monolingual texts
    with outputs for self-training. Several RUNs with the same vocabularies are an ensemble. A
    config can name the file as `data.train`, alone or beside others.

    Texts that are empty or too long and outputs that are empty or cut are left out, and others as
    the options say; all are counted. After Ctrl-C or a kill, the same command goes on where it
    was. The options after --debug are those of the search, by default as in the run's config.
    """
    _check_files(source, target, tsv, output)
    given = {name: value for name, value in options.items() if value is not None}
    kept = take_augmentation(given)
    if kept.keep == "closest" and target is None and tsv is None:
        raise click.UsageError("--keep closest needs references: give --target or --tsv.")
    check_against_config(runs[0], {"sample": kept.keep == "sample"} | given)
    from seq2seq_kit.startup import compute_operations_on_one_thread

    compute_operations_on_one_thread()
    from seq2seq_kit.augmenting import augment as write_pairs
    from seq2seq_kit.augmenting import describe_counts

    lines = _read(runs[0], source, target, tsv)
    number = _number_of_lines(source or tsv)
    counts = write_pairs(runs, lines, output, kept, search=given, num_lines=number)
    for sentence in describe_counts(counts):
        click.echo(sentence, err=True)
    if kept.tag:
        click.echo(
            f"A model that learns from these pairs should know the tag: tokenizer."
            f"user_defined_symbols: [{kept.tag!r}].",
            err=True,
        )


def _check_files(source: Path | None, target: Path | None, tsv: Path | None, output: Path) -> None:
    """Raises UsageError or InputError if files are missing, or the output cannot be written."""
    from seq2seq_kit.text.pairs import pair_layout

    if (source is None) == (tsv is None) or (target is not None and source is None):
        raise click.UsageError("Expected either --source, alone or with --target, or --tsv.")
    if output == STANDARD_STREAM or output in (source, target, tsv):
        raise click.UsageError(
            f"--output must be a file other than those that are read. Received: {output}."
        )
    pair_layout(output)


def _read(
    run: Path, source: Path | None, target: Path | None, tsv: Path | None
) -> "Iterator[SourceWithReferences]":
    """Yields the texts with their references, if there are any."""
    from seq2seq_kit.config import CorpusConfig, load_saved_config
    from seq2seq_kit.pretrained.catalog import run_path
    from seq2seq_kit.text.corpus import read_corpus
    from seq2seq_kit.text.references import SourceWithReferences, table_like
    from seq2seq_kit.training.run_folder import RunFolder

    if tsv is None and target is None:
        for first_line, chunk in read_in_chunks(source):
            for number, text in enumerate(chunk, first_line):
                yield SourceWithReferences(number, text, [])
        return
    if tsv is None:
        corpus = CorpusConfig(source=source, target=target)
    else:
        config = load_saved_config(RunFolder(run_path(run)).open_trained().config).config
        corpus = table_like(config.data.train[0], tsv)
    for pair in read_corpus(corpus):
        yield SourceWithReferences(pair.line, pair.source, [pair.target])


def _number_of_lines(path: Path | None) -> int | None:
    """Returns the number of lines of a file; None for a pipe or standard input."""
    from seq2seq_kit.text.lines import count_lines

    return count_lines(path) if path is not None and path.is_file() else None
