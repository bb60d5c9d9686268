"""`s2s rerank`: chooses among the outputs of a beam by what other models say of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.loading import load_runs
from seq2seq_kit.cli.options import (
    FILE,
    SearchCommand,
    check_against_config,
    debug_option,
    runs_argument,
)
from seq2seq_kit.cli.text_io import escape, open_output, read_in_chunks
from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seq2seq_kit.inference.reranking import Judge, Kind
    from seq2seq_kit.seq2seq import Seq2Seq

_JUDGES: "dict[Kind, str]" = {
    "forward": "A model of the same direction, which scores an output after its input.",
    "reverse": "A model of the reverse direction, which scores the input after an output.",
    "language_model": "A language model of the target language, which scores an output alone.",
}


def _judge_option(kind: "Kind") -> Any:
    return click.option(
        f"--{kind.replace('_', '-')}",
        kind,
        type=FILE,
        multiple=True,
        metavar="RUN",
        help=f"{_JUDGES[kind]} May be repeated.",
    )


@click.command(cls=SearchCommand)
@runs_argument
@_judge_option("forward")
@_judge_option("reverse")
@_judge_option("language_model")
@click.option("--source", type=FILE, help="The inputs, one a line.  [default: standard input]")
@click.option(
    "--reference",
    "references",
    type=FILE,
    multiple=True,
    help="With --tune: the correct outputs, line by line with --source. May be repeated.",
)
@click.option("--tune", type=FILE, help="Tune the weights on --source and write them to this file.")
@click.option("--weights", type=FILE, help="The weights, as --tune wrote them.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="Write to this file, which appears when all outputs are in it.",
)
@debug_option
def rerank(
    runs: tuple[Path, ...],
    source: Path | None,
    references: tuple[Path, ...],
    tune: Path | None,
    weights: Path | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Write the output of a beam that several models together find best.

    Other models judge all outputs in the beam of the RUN, and a weighted sum of log-probabilities
    chooses. Tune the weights on validation data first, then use them:

    \b
    s2s rerank runs/de-en --reverse runs/en-de --source dev.de --reference dev.en --tune w.json
    s2s rerank runs/de-en --reverse runs/en-de --weights w.json --source test.de -o test.out

    Several RUNs with the same vocabularies are an ensemble. A larger --beam-size gives a larger
    choice.
    """  # noqa: D301 (click wants the control character itself: it keeps the lines as they are)
    judges: list[tuple[Kind, Path]] = [(kind, run) for kind in _JUDGES for run in options.pop(kind)]
    if not judges:
        raise click.UsageError(
            "Expected models that judge. Give --forward, --reverse or --language-model."
        )
    if (tune is None) == (weights is None):
        raise click.UsageError("Expected either --tune or --weights.")
    if (tune is not None) != bool(references) or (tune is not None and source is None):
        raise click.UsageError("--tune needs --source and --reference, which --weights does not.")
    given = {name: value for name, value in options.items() if value is not None}
    check_against_config(runs[0], given)
    from seq2seq_kit.startup import compute_operations_on_one_thread

    compute_operations_on_one_thread()
    from seq2seq_kit.inference.reranking import Judge

    saved = None if weights is None else _read_weights(weights, judges)
    model = load_runs(runs)
    loaded = [Judge(kind, load_runs([run])) for kind, run in judges]
    if tune is not None and source is not None:
        _tune(model, loaded, judges, source, references, tune, given)
    elif saved is not None:
        _write(model, loaded, saved, source, output, given)


def _tune(
    model: "Seq2Seq",
    judges: "Sequence[Judge]",
    names: "Sequence[tuple[Kind, Path]]",
    source: Path,
    references: "Sequence[Path]",
    path: Path,
    options: dict[str, Any],
) -> None:
    """Tunes the weights, writes them to a file and reports what they gain."""
    from seq2seq_kit.augmenting import identify
    from seq2seq_kit.inference.reranking import bleu_against, find_candidates, tune_weights
    from seq2seq_kit.text.references import read_parallel_references
    from seq2seq_kit.training.run_folder import save_json

    answers = read_parallel_references(source, references)
    if not answers:
        raise InputError(f"{source}: expected at least one line. Found: none.")
    found = find_candidates(model, judges, [one.source for one in answers], **options)
    bleu = bleu_against([one.references for one in answers], model)
    weights = tune_weights(found, bleu)
    results = {
        "bleu_before": bleu([one.best([0.0] * len(judges)) for one in found]),
        "bleu_after": bleu([one.best(weights) for one in found]),
    }
    judged = []
    for (kind, run), weight in zip(names, weights, strict=True):
        digest = identify([run])[0]
        judged.append({"kind": kind, "run": str(run), "digest": digest, "weight": weight})
        click.echo(f"weight {weight:g}  {kind.replace('_', ' ')}: {run}")
    save_json(path, {"judges": judged, **results})
    click.echo(
        f"BLEU {results['bleu_before']:.2f} of the beam's first, "
        f"{results['bleu_after']:.2f} reranked, on the lines that the weights are tuned on"
    )


def _read_weights(path: Path, judges: "Sequence[tuple[Kind, Path]]") -> list[float]:
    """Returns the weights of a file.

    Raises:
        InputError: If they are those of other models.
        RunError: If the file is missing or damaged.
    """
    from seq2seq_kit.augmenting import identify
    from seq2seq_kit.training.run_folder import read_json

    saved = read_json(path).get("judges", [])
    tuned = [(one["kind"], one["digest"]) for one in saved]
    if tuned != [(kind, identify([run])[0]) for kind, run in judges]:
        listed = ", ".join(f"--{one['kind'].replace('_', '-')} {one['run']}" for one in saved)
        raise InputError(
            f"{path} has weights for other models, or for these before they were trained further: "
            f"{listed}. Give those, or tune again."
        )
    return [float(one["weight"]) for one in saved]


def _write(
    model: "Seq2Seq",
    judges: "Sequence[Judge]",
    weights: "Sequence[float]",
    source: Path | None,
    output: Path | None,
    options: dict[str, Any],
) -> None:
    """Writes the best output of each line, in the order of the lines."""
    from seq2seq_kit.inference.reranking import find_candidates

    with open_output(output) as file:
        for first, lines in read_in_chunks(source):
            for found in find_candidates(model, judges, lines, first_line=first, **options):
                file.write(f"{escape(found.best(weights))}\n".encode())
            file.flush()
