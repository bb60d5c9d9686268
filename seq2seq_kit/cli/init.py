"""`s2s init`: writes example configs and their data."""

import shlex
from pathlib import Path

import click

from seq2seq_kit.cli.options import FILE, debug_option


@click.command
@click.argument("folder", type=FILE, metavar="DIR")
@debug_option
def init(folder: Path) -> None:
    """Write example configs and their data to DIR."""
    from seq2seq_kit.samples import write_starter

    configs = write_starter(folder)
    click.echo("Written; train with one of these:", err=True)
    for config in configs:
        click.echo(shlex.join(["s2s", "fit", str(config)]))
