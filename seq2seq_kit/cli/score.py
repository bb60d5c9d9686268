"""`s2s score`: writes how probable a model finds given outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.lengths import check_lengths
from seq2seq_kit.cli.loading import load_runs
from seq2seq_kit.cli.options import (
    FILE,
    AdaptationCommand,
    debug_option,
    long_lines_option,
    runs_argument,
)

if TYPE_CHECKING:
    from seq2seq_kit.inference.scorer import Score


@click.command(cls=AdaptationCommand)
@runs_argument
@click.option("--source", type=FILE, help="The inputs, one a line.")
@click.option("--target", type=FILE, help="Their outputs, line by line with --source.")
@click.option(
    "--text",
    type=FILE,
    help="Continuation only: running text, or texts without a prompt, one a line.",
)
@click.option("--adapt", is_flag=True, help="Let the model learn from --text while it reads it.")
@long_lines_option
@debug_option
def score(
    runs: tuple[Path, ...],
    source: Path | None,
    target: Path | None,
    text: Path | None,
    adapt: bool,
    long_lines: str,
    **options: Any,
) -> None:
    """Write how probable a model finds given outputs.

    For each output a line with its log-probability in nats, a tab and its number of tokens. The
    perplexities of the whole file go to standard error: per token, per whitespace-separated word
    (if spaces separate the words) and per character; the last two compare across models with
    different vocabularies. Several RUNs with the same vocabularies are an ensemble.

    A language model that was trained on running text reads --text from beginning to end: each line
    is scored after all lines before it. With --adapt it predicts each token before it learns from
    it; the run is not changed. The options after --long-lines are those of the adaptation, by
    default as in the run's config.

    RUN may also be an exported SavedModel, which scores --source with --target in its precision and
    does with inputs that are too long what it was made to do.
    """
    if (text is None) == (source is None) or (source is None) != (target is None):
        raise click.UsageError("Expected either --source with --target, or --text.")
    options = {name: value for name, value in options.items() if value is not None}
    if options and not adapt:
        option = f"--{min(options).replace('_', '-')}"
        raise click.UsageError(f"{option} has an effect only with --adapt.")
    if adapt and text is None:
        raise click.UsageError("--adapt needs --text: pairs are scored each for itself.")
    from seq2seq_kit.config import CorpusConfig
    from seq2seq_kit.export.folder import is_export
    from seq2seq_kit.text.corpus import read_corpus

    is_exported = any(map(is_export, runs))
    if is_exported and (len(runs) > 1 or text is not None or long_lines == "truncate"):
        raise click.UsageError(
            f"An exported SavedModel scores --source with --target, alone, without --text and "
            f"--long-lines truncate. Use the run folder. Received: {', '.join(map(str, runs))}."
        )
    pairs = list(read_corpus(CorpusConfig(source=source, target=target, lines=text)))
    if is_exported:
        _score_with_export(
            runs[0], [pair.source for pair in pairs], [pair.target for pair in pairs]
        )
        return
    model = load_runs(runs)
    if text is not None and model.config.task != "continuation":
        raise click.UsageError(f"--text is for continuation; {runs[0]} translates: give --source.")
    sources = [pair.source for pair in pairs]
    targets = [pair.target for pair in pairs]
    if text is not None and (adapt or model.config.reads_streams):
        scores = model.score_text(targets, adapt=adapt, **options)
    else:
        check_lengths(model, sources, [pair.line for pair in pairs], source, long_lines)
        scores = model.score(sources, targets, truncate=True)
    _print_scores(scores, [model.tokenizer.normalize(line) for line in targets])


def _score_with_export(path: Path, sources: Sequence[str], targets: Sequence[str]) -> None:
    """Prints the scores that an export gives."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.export.saved_model import ExportedModel

    model = ExportedModel(path)
    normalize = model.rebuilt.tokenizer.normalize
    _print_scores(model.score(sources, targets), [normalize(target) for target in targets])


def _print_scores(scores: Sequence["Score"], targets: Sequence[str]) -> None:
    """Prints a line for each score, and the perplexities of all to standard error.

    Args:
        scores: The scores.
        targets: What was scored, normalized.
    """
    from seq2seq_kit.inference.scorer import perplexity

    for line in scores:
        click.echo(f"{line.log_prob:.6f}\t{line.num_tokens}")
    # A line that separates texts has no tokens.
    scored = [pair for pair in zip(scores, targets, strict=True) if pair[0].num_tokens]
    whole = perplexity([score for score, _ in scored], [line for _, line in scored])
    units = {
        "token": whole.per_token,
        "word": whole.per_word,
        "character": whole.per_character,
    }
    listed = (f"{value:.6g} per {unit}" for unit, value in units.items() if value is not None)
    click.echo(f"{len(scores)} lines; perplexity {', '.join(listed)}", err=True)
