"""`s2s fit`: trains a model as a config describes."""

import functools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seq2seq_kit.cli.exit_codes import SIGNALED
from seq2seq_kit.cli.options import FILE, debug_option
from seq2seq_kit.cli.tables import results_table

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq


config_argument = click.argument("config", type=FILE, metavar="CONFIG.yaml")

run_dir_option = click.option(
    "--run-dir", type=FILE, metavar="DIR", help="Run folder.  [default: runs/CONFIG]"
)

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a key of the config by a YAML value: training.epochs=3. Can be repeated.",
)


@click.command
@config_argument
@run_dir_option
@set_option
@click.option("--resume", is_flag=True, help="Continue the run in the run folder.")
@click.option(
    "--find-learning-rate",
    is_flag=True,
    help="Train 200 steps with a growing learning rate, suggest one, and keep no run.",
)
@debug_option
def fit(
    config: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    find_learning_rate: bool,
) -> int:
    """Train a model as CONFIG.yaml describes.

    Trains a tokenizer unless the config names one, encodes the data, trains the model, keeps the
    best checkpoint and prints the results. Settings that the config leaves out are chosen to suit
    the data, and printed. Ctrl-C, SIGTERM and SIGHUP save the state and stop; --resume continues.
    Relative paths in the config and in --set start from the folder of the config file. With
    `init_from` in the config, training starts from the weights of a run or packaged model.

    With --find-learning-rate, nothing is kept but a picture beside the run folder: the loss over
    the learning rate, with the suggestion.
    """
    from seq2seq_kit.config import load_config
    from seq2seq_kit.pretrained.catalog import model_names

    if not config.exists() and str(config) in model_names():
        raise click.UsageError(
            f"{config} is a packaged model, which has no state of training to resume. To train on "
            f"from its weights, write `init_from: {config}` into a config."
        )
    load_config(config, overrides)  # Faults are reported before TensorFlow's seconds of start.
    run_dir = run_dir or Path("runs", config.stem)
    if find_learning_rate:
        if resume:
            raise click.UsageError("--find-learning-rate starts from first weights: no --resume.")
        _find_learning_rate(config, run_dir, overrides)
        return 0
    from seq2seq_kit import Seq2Seq

    settings = [argument for override in overrides for argument in ("--set", override)]
    return report_training(
        functools.partial(Seq2Seq.fit, config, overrides=overrides, run_dir=run_dir, resume=resume),
        run_dir,
        ["s2s", "fit", str(config), "--run-dir", str(run_dir), *settings],
    )


def report_training(train: "Callable[[], Seq2Seq]", run_dir: Path, again: Sequence[str]) -> int:
    """Trains and prints the results; returns the exit code.

    Args:
        train: Trains the model.
        run_dir: The run folder.
        again: The command without --resume, to print after an interruption.
    """
    from seq2seq_kit.errors import TrainingInterrupted

    try:
        fitted = train()
    except TrainingInterrupted as error:
        if error.can_resume:
            message = f"Resume it with: {shlex.join([*again, '--resume'])}"
        else:
            message = f"Start it again with: {shlex.join(again)}"
        click.echo(f"{error} {message}", err=True)
        return SIGNALED + error.signal
    click.echo(results_table(fitted.results))
    try_it = shlex.join(["s2s", "generate", str(run_dir), "--prompt"])
    click.echo(f"Try it: {try_it} TEXT", err=True)
    return 0


def _find_learning_rate(config: Path, run_dir: Path, overrides: tuple[str, ...]) -> None:
    """Prints the suggestion of a range test, and draws it into a file beside the run folder."""
    from seq2seq_kit.atomic import write_file
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from matplotlib.figure import Figure

    from seq2seq_kit.fitting import find_learning_rate
    from seq2seq_kit.insight.plots import plot_range_test

    found = find_learning_rate(config, overrides=overrides)
    figure = Figure(layout="constrained")
    plot_range_test(found, figure.subplots())
    picture = run_dir.with_name(f"{run_dir.name}.learning-rate.svg")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with write_file(picture, "The picture of the range test", setting="--run-dir") as file:
        figure.savefig(file, format="svg")
    click.echo(f"{found.suggestion:g}")
    setting = f"training.learning_rate={found.suggestion:g}"
    click.echo(
        f"The loss was lowest at {found.lowest:.2g}; a tenth of that is suggested. {picture} shows "
        f"it. Train with: {shlex.join(['s2s', 'fit', str(config), '--set', setting])}",
        err=True,
    )
