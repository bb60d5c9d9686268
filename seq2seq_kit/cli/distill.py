"""`s2s distill`: trains a student on the outputs of teachers."""

import functools
from pathlib import Path
from typing import Any

import click

from seq2seq_kit.cli.fit import config_argument, report_training, run_dir_option, set_option
from seq2seq_kit.cli.options import FILE, DistillCommand, debug_option, take_augmentation


@click.command(cls=DistillCommand)
@config_argument
@click.option(
    "--teacher",
    "teachers",
    type=FILE,
    multiple=True,
    required=True,
    metavar="RUN",
    help="A run folder or packaged model to learn from. Repeat it for an ensemble.",
)
@click.option(
    "--with-original", is_flag=True, help="Learn from the original pairs of the config, too."
)
@run_dir_option
@set_option
@click.option("--resume", is_flag=True, help="Continue the run in the run folder.")
@debug_option
def distill(
    config: Path,
    teachers: tuple[Path, ...],
    with_original: bool,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    **options: Any,
) -> int:
    """Train a student as CONFIG.yaml describes, on the outputs of teachers.

    The teachers translate the sources of the training data, and the student learns from their
    outputs (Kim and Rush, 2016): it is nearly as good greedily as with a beam, and a small one
    loses little. The pairs and a record of where they come from are kept in the run folder. After
    Ctrl-C or a kill, --resume goes on with the pairs or with the training.

    The options after --debug are those of the teachers' search, by default as in the config of the
    first one, and which of their outputs are kept.
    """
    from seq2seq_kit.config import load_config

    given = {name: value for name, value in options.items() if value is not None}
    kept = take_augmentation(given)
    load_config(config, overrides)  # Faults are reported before TensorFlow's seconds of start.
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit import distillation

    run_dir = run_dir or Path("runs", config.stem)
    return report_training(
        functools.partial(
            distillation.distill,
            config,
            teachers,
            run_dir,
            options=kept,
            search=given,
            with_original=with_original,
            overrides=overrides,
            resume=resume,
        ),
        run_dir,
        [
            *("s2s", "distill", str(config), "--run-dir", str(run_dir)),
            *_spell(teacher=teachers, set=overrides, with_original=with_original or None),
            *_spell(**options),
        ],
    )


def _spell(**options: Any) -> list[str]:
    """Returns options as arguments of a command; those that are None are left out."""
    arguments = []
    for name, value in options.items():
        dashed = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif value is not None:
            values = value if isinstance(value, tuple) else (value,)
            arguments += [part for one in values for part in (f"--{dashed}", str(one))]
    return arguments
