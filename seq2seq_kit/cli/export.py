"""`s2s export`: writes a SavedModel from text to text, or models for LiteRT."""

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
    from seq2seq_kit.export.folder import ExportFormat, LongLines
    from seq2seq_kit.pretrained.compact import Storage


@click.command(cls=SearchCommand)
@run_argument
@click.argument("folder", type=FILE, metavar="DIR")
@click.option(
    "--format",
    "export_format",
    type=click.Choice(["saved_model", "litert"]),
    default="saved_model",
    show_default=True,
    help="A TensorFlow SavedModel; or models for LiteRT with a runner that needs no TensorFlow, for"
    " small machines.",
)
@click.option(
    "--long-lines",
    type=click.Choice(["error", "truncate", "mark"]),
    default="error",
    show_default=True,
    help="What to do with an input that is too long: refuse its whole batch, truncate it, or mark"
    " it by an empty output with the score -inf.",
)
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="How the weights are stored; LiteRT has no bfloat16. A SavedModel expands smaller ones in"
    " memory at the first call.",
)
@debug_option
def export(
    run: Path,
    folder: Path,
    export_format: "ExportFormat",
    long_lines: "LongLines",
    weights: "Storage",
    **options: Any,
) -> None:
    """Write a SavedModel that maps text to text, or models for LiteRT.

    It contains tokenizer and search. A SavedModel needs only tensorflow and tensorflow_text; for
    LiteRT, `python DIR/run.py` needs only ai-edge-litert, sentencepiece and numpy. Its outputs are
    compared with those of the run before the command ends. The search options become part of it;
    those that are not given are as in the run's config. `s2s info DIR` prints its description.
    """
    from seq2seq_kit.export.folder import check_unused

    check_unused(folder)  # before TensorFlow takes seconds to start
    check_against_config(run, options)
    from seq2seq_kit import Seq2Seq

    model = Seq2Seq.load(run)
    model.export(
        folder, export_format=export_format, long_lines=long_lines, weights=weights, **options
    )
    name = {"saved_model": "SavedModel", "litert": "export for LiteRT"}[export_format]
    click.echo(f"The {name} is in {folder}.", err=True)
