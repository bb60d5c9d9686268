"""`s2s verify`: checks that an export is what was made, and answers as it did then."""

from pathlib import Path

import click

from seq2seq_kit.cli.options import FILE, debug_option


@click.command
@click.argument("export", type=FILE)
@debug_option
def verify(export: Path) -> None:
    """Check an export, also on another machine.

    Its files must be those that were made, by their digests, and it must answer the probes inside
    it as it did when it was exported: the same texts and samples, with scores that may differ in
    the last digits on another processor. A SavedModel must also describe itself as its metadata
    do, and have all signatures. An export for LiteRT needs `pip install 'seq2seq_kit[litert]'`.
    The exit code is 1 if anything was damaged or changed.
    """
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.export.replay import replay_probes

    found = replay_probes(export)
    signatures = f" Signatures: {', '.join(found.signatures)}." if found.signatures else ""
    click.echo(
        f"{export} is whole: {found.num_probes} probes have the answers that they had when it was "
        f"exported.{signatures}"
    )
