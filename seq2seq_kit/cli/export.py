"""`s2s export`: writes a SavedModel from text to text."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.options import (
    FILE,
    SearchCommand,
    check_against_config,
    debug_option,
    run_argument,
)

if TYPE_CHECKING:
    from seq2seq_kit.export.folder import LongLines


@click.command(cls=SearchCommand)
@run_argument
@click.argument("folder", type=FILE, metavar="DIR")
@click.option(
    "--long-lines",
    type=click.Choice(["error", "truncate", "mark"]),
    default="error",
    show_default=True,
    help="What to do with an input that is too long: refuse its whole batch, truncate it, or mark"
    " it by an empty output with the score -inf.",
)
@debug_option
def export(run: Path, folder: Path, long_lines: "LongLines", **options: Any) -> None:
    """Write a SavedModel that maps text to text.

    It contains tokenizer and search, and needs only tensorflow and tensorflow_text. Its outputs are
    compared with those of the run before the command ends. The search options become part of it;
    those that are not given are as in the run's config. `s2s info DIR` prints its description.
    """
    from seq2seq_kit.export.folder import check_unused

    check_unused(folder)  # before TensorFlow's seconds of start
    check_against_config(run, options)
    from seq2seq_kit import Seq2Seq

    model = Seq2Seq.load(run)
    model.export(folder, long_lines=long_lines, **options)
    click.echo(f"The SavedModel is in {folder}.", err=True)
