"""`s2s evaluate`: compares a model's outputs with references."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.lengths import check_lengths
from seq2seq_kit.cli.loading import load_runs
from seq2seq_kit.cli.options import (
    FILE,
    SearchCommand,
    check_against_config,
    debug_option,
    long_lines_option,
    runs_argument,
)
from seq2seq_kit.cli.tables import results_table
from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.text.references import SourceWithReferences


@click.command(cls=SearchCommand)
@runs_argument
@click.option("--source", type=FILE, help="The inputs, one a line.")
@click.option(
    "--reference",
    "references",
    type=FILE,
    multiple=True,
    help="The correct outputs, line by line with --source. Repeat it for several files.",
)
@click.option(
    "--tsv",
    type=FILE,
    help="Inputs and correct outputs; rows with the same input belong together. The file may also "
    "be a .csv or .jsonl.",
)
@click.option(
    "--tokenize",
    type=click.Choice(["13a", "intl", "zh", "char", "none"]),
    help="sacrebleu's tokenizer for BLEU.  [default: as in the run's config]",
)
@long_lines_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@debug_option
def evaluate(
    runs: tuple[Path, ...],
    source: Path | None,
    references: tuple[Path, ...],
    tsv: Path | None,
    tokenize: str | None,
    long_lines: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare a model's outputs with references.

    Prints BLEU and chrF with sacrebleu's signatures, exact match and perplexity. Several RUNs with
    the same vocabularies are an ensemble.

    Give either --source and --reference, or --tsv, in which the rows that share an input are its
    alternative correct outputs. The columns of --tsv are those of the run's training data if that
    was such a file, otherwise 1 and 2. The perplexity is that of the first reference; there is none
    per word where no spaces separate the words. --json has the names that results.json has.
    """
    if (source is None) == (tsv is None) or bool(references) != (source is not None):
        raise click.UsageError("Expected either --source with --reference, or --tsv.")
    check_against_config(runs[0], options)
    import json

    from seq2seq_kit.startup import compute_operations_on_one_thread
    from seq2seq_kit.text.references import read_parallel_references, read_table_references

    compute_operations_on_one_thread()
    model = load_runs(runs)
    if source is not None:
        answers = read_parallel_references(source, references)
    elif tsv is not None:
        trained_on = model.config.data.train[0]
        answers = read_table_references(tsv, trained_on, model.source_tokenizer.normalize)
    if not answers:
        raise InputError(f"{tsv or source}: expected at least one line to evaluate. Found: none.")
    sources, lines = [one.source for one in answers], [one.line for one in answers]
    check_lengths(model, sources, lines, tsv or source, long_lines)
    results = _evaluate(model, answers, tokenize, options)
    click.echo(json.dumps(results, indent=2) if as_json else results_table(results))


def _evaluate(
    model: "Seq2Seq",
    answers: "Sequence[SourceWithReferences]",
    tokenize: str | None,
    options: Mapping[str, Any],
) -> dict[str, float | str | None]:
    import dataclasses

    from seq2seq_kit.inference.scorer import perplexity
    from seq2seq_kit.training.advice import describe_cut

    sources = [answer.source for answer in answers]
    references = [answer.references for answer in answers]
    firsts = [texts[0] for texts in references]
    # Inputs that are too long have been refused by now, or may be truncated.
    if model.config.decoding.override(**options).sample:
        click.echo(
            "The outputs are random samples, so other seeds give other results; --greedy compares "
            "the most likely outputs.",
            err=True,
        )
    quality = model.evaluate(sources, references, tokenize=tokenize, truncate=True, **options)
    if quality.cut_outputs:
        limit = options["max_length"] or model.config.decoding.max_length
        click.echo(describe_cut(quality.cut_outputs, quality.num_lines, limit), err=True)
    threads = model.config.decoding.override(threads=options["threads"]).threads
    scores = model.score(sources, firsts, threads=threads, truncate=True)
    surprise = perplexity(scores, list(map(model.tokenizer.normalize, firsts)))
    return dataclasses.asdict(quality) | {
        f"perplexity_{unit}": value for unit, value in dataclasses.asdict(surprise).items()
    }
