"""The command `s2s`, one file a subcommand.

`main` turns arguments into an exit code; `options` holds what several commands share, `text_io`
reads and writes lines, `tables` lays out values for people. At start only click is imported, so
that help comes at once: each command imports what it needs when it runs, TensorFlow last.
"""

from seq2seq_kit.cli.main import main

__all__ = ["main"]
