"""The command `s2s`: arguments in, exit code out. Imports only click at start."""

from seq2seq_kit.cli.commands import main

__all__ = ["main"]
