"""Which inputs have more tokens than the model reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq


def count_overlong(model: "Seq2Seq", texts: Sequence[str]) -> int:
    """Returns how many texts are too long."""
    limit = model.config.data.max_source_length
    return sum(len(ids) > limit for ids in model.source_tokenizer.encode(texts))


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
    limit = model.config.data.max_source_length
    rows = model.source_tokenizer.encode(sources)
    too_long = [(line, len(ids)) for line, ids in zip(lines, rows, strict=True) if len(ids) > limit]
    if long_lines == "truncate":
        click.echo(f"{len(too_long)} over-long inputs were truncated.", err=True)
    elif too_long:
        line, length = too_long[0]
        raise InputError(
            f"{path}, line {line}: has {length} tokens; the model takes at most {limit} "
            f"(data.max_source_length). Split the line, or use --long-lines truncate."
        )
