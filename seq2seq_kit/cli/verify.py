"""`s2s verify`: checks that an export is what was made, and answers as it did then."""

from pathlib import Path

import click

from seq2seq_kit.cli.options import FILE, debug_option


@click.command
@click.argument("export", type=FILE)
@debug_option
def verify(export: Path) -> None:
    """Check an exported SavedModel, also on another machine.

    Its files must be those that were made, by their digests; it must describe itself as its
    metadata do, have all signatures, and answer the probes inside it as it did when it was
    exported: the same texts, with scores that may differ in the last digits on another processor.
    The exit code is 1 if anything was damaged or changed.
    """
    from seq2seq_kit.export.folder import is_litert_export

    if is_litert_export(export):
        raise click.UsageError(
            f"Expected an exported SavedModel. Received: {export}, an export for LiteRT, whose "
            f"run.py checks its files at each start. `s2s info` checks them too."
        )
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.export.replay import replay_probes

    found = replay_probes(export)
    click.echo(
        f"{export} is whole: {found.num_probes} probes have the answers that they had when it was "
        f"exported. Signatures: {', '.join(found.signatures)}."
    )
