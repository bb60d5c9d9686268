"""Inputs of a file that are too long for the model: refused by line, or counted.

`evaluate` and `score` use it, which read whole files; `generate` reads line by line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq


def check_lengths(
    model: "Seq2Seq",
    sources: Sequence[str],
    lines: Sequence[int],
    path: Path | None,
    long_lines: str,
) -> None:
    """Refuses inputs that are too long, or prints how many will be truncated.

    Args:
        model: The model that will read them.
        sources: The inputs.
        lines: The line number of each input in its file.
        path: The file, for the message.
        long_lines: "error" or "truncate".

    Raises:
        InputError: If an input is too long and `long_lines` is "error".
    """
    overlong = model.inputs.overlong(sources)
    if long_lines == "truncate":
        click.echo(describe_truncated(len(overlong)), err=True)
    elif overlong:
        place, length = overlong[0]
        raise model.inputs.too_long(f"{path}, line {lines[place]}: the input", length)


def describe_truncated(number: int) -> str:
    """Returns a sentence on how many inputs were truncated."""
    inputs = "over-long input was" if number == 1 else "over-long inputs were"
    return f"{number} {inputs} truncated."
