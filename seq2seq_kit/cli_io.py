r"""Lines in and lines out for the commands: UTF-8 whatever the locale, "\n" on every system.

Standard input and output are read and written as bytes, since Python's text streams would decode
by the locale and split lines in more places than `corpus` does.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.generation import Hypothesis

STANDARD_STREAM = Path("-")

# Enough that lines of like length fill their batches, few enough that a million fit in memory.
LINES_AT_ONCE = 4096


def read_in_chunks(path: Path | None) -> Iterator[tuple[int, list[str]]]:
    """Yields some thousands of lines at a time, each time with the number of the first.

    At a terminal they come one by one, so that a person gets an answer to each.

    Args:
        path: A file; None or `-` for standard input.

    Raises:
        DataError: On the way, if the file cannot be read or a line is not UTF-8.
    """
    from seq2seq_kit.corpus import decode_lines, read_lines

    if path is None or path == STANDARD_STREAM:
        lines = decode_lines(sys.stdin.buffer, name="standard input")
        size = 1 if sys.stdin.isatty() else LINES_AT_ONCE
    else:
        lines, size = read_lines(path), LINES_AT_ONCE
    number = 1
    while chunk := list(itertools.islice(lines, size)):
        yield number, chunk
        number += len(chunk)


@contextmanager
def open_output(path: Path | None) -> Iterator[IO[bytes]]:
    """Opens a file that is written whole or not at all, or standard output for None and `-`.

    Raises:
        InputError: If there is no folder for the file, or it is a folder itself.
    """
    if path is None or path == STANDARD_STREAM:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else "has no folder to be in"
        raise InputError(
            f"The output must be a file in an existing folder. Received: {path}, which {problem}."
        )
    if path.exists() and not path.is_file():
        # A device or a named pipe, such as /dev/null: it must not be replaced.
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()  # What a link points to is written, the link stays.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def escape(text: str) -> str:
    r"""Returns a text as one line: a newline as `\n`, a backslash doubled.

    Example:

    >>> print(escape("one\ntwo"))
    one\ntwo
    """
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def as_text(_line: int, before: str, hypotheses: "list[Hypothesis]") -> str:
    """Returns the best output as it is."""
    return f"{before}{hypotheses[0].text}\n"


def as_line(_line: int, before: str, hypotheses: "list[Hypothesis]") -> str:
    """Returns the best output as one line."""
    return f"{escape(before + hypotheses[0].text)}\n"


def as_tsv(line: int, before: str, hypotheses: "list[Hypothesis]") -> str:
    """Returns a row for each hypothesis: line, rank, score, text."""
    return "".join(
        f"{line}\t{rank}\t{hypothesis.score:.6f}\t{escape(before + hypothesis.text)}\n"
        for rank, hypothesis in enumerate(hypotheses, start=1)
    )
