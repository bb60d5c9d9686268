"""`s2s info`: shows what a run folder or an export contains."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.options import debug_option, run_argument
from seq2seq_kit.cli.tables import format_value, results_table, table

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

_NO_METADATA = "This export has no metadata: it was made before exports had any."


@click.command
@run_argument
@debug_option
def info(run: Path) -> None:
    """Show what a run folder or an export contains.

    Of a run: its config, vocabulary sizes, parameters of each layer, the LSTM kernel that this
    machine would use, the history of validations, the results, and what to change if they are
    poor. Of an export: its description.
    """
    from seq2seq_kit.export.folder import (
        as_json,
        check_digests,
        is_export,
        is_litert_export,
        read_metadata,
    )

    if is_export(run) or is_litert_export(run):
        check_digests(run)
        metadata = read_metadata(run)
        click.echo(as_json(metadata) if metadata else _NO_METADATA, nl=not metadata)
        return

    from seq2seq_kit.pretrained.catalog import run_path
    from seq2seq_kit.training.run_folder import RunFolder

    folder = RunFolder(run_path(run)).open_trained()
    from seq2seq_kit import Seq2Seq

    model = Seq2Seq.load(run)
    click.echo(folder.config.read_text(encoding="utf-8"))
    click.echo(table(_describe_model(model)))
    for record in model.history:
        click.echo("  ".join(f"{name} {format_value(value)}" for name, value in record.items()))
    if model.results:
        click.echo(results_table(model.results))
    else:
        click.echo(
            f"No results: training has not ended, or {folder.results.name} is missing.", err=True
        )
    for sentence in model.advice():
        click.echo(f"Advice: {sentence}")


def _describe_model(model: "Seq2Seq") -> dict[str, Any]:
    import tensorflow as tf

    from seq2seq_kit.model.matmul import has_bfloat16

    gpus = tf.config.list_physical_devices("GPU")
    described: dict[str, Any] = {
        "source vocabulary": model.source_tokenizer.vocab_size,
        "target vocabulary": model.tokenizer.vocab_size,
    }
    for layer in model.model.layers:
        described[f"parameters of {layer.name}"] = layer.count_params()
    described["parameters"] = model.model.count_params()
    loop = "FastLSTM's loop" if model.config.model.cell == "lstm" else "Keras's loop"
    has_cudnn = gpus and model.config.model.cell != "simple_rnn"
    described["recurrent kernel here"] = "cuDNN" if has_cudnn else f"{loop} on the CPU (no GPU)"
    described["bfloat16 on this processor"] = {True: "fast", False: "slow", None: "not known"}[
        has_bfloat16()
    ]
    return described
