r"""Reads and writes the lines of the commands: UTF-8 whatever the locale, "\n" on every system.

Standard input and output are read and written as bytes, since Python's text streams would decode
by the locale and split lines in more places than `text.lines` does.
"""

import itertools
import os
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from seq2seq_kit import bounds
from seq2seq_kit.atomic import write_file
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import make_parents

if TYPE_CHECKING:
    from seq2seq_kit.inference.generator import Hypothesis

STANDARD_STREAM = Path("-")

NO_OUTPUT = "Standard output is closed, so there is nowhere to write to. Open it."

# Enough to fill batches with lines of similar length, few enough to keep memory small.
LINES_AT_ONCE = 16_384

# A file of this size, packed or not, has lines for many batches.
_MANY_BYTES = 20_000

_GZIP_MAGIC = b"\x1f\x8b"

# The size of one read.
_READ_BYTES = 2**18


def read_in_chunks(path: Path | None) -> Iterator[tuple[int, list[str]]]:
    """Yields lines as they arrive, a few thousand at most, with the number of the first.

    A line is yielded as soon as it is complete and no more input is ready, so that a program that
    writes a line and waits gets its answer. A last line needs no newline.

    Args:
        path: A file or a named pipe; None or `-` for standard input. Any of them may be
            gzipped.

    Raises:
        InputError: If there is no standard input.
        DataError: While iterating, if the file cannot be read or unpacked, or a line is not UTF-8;
            the lines before it have been yielded.
    """
    from seq2seq_kit.errors import DataError
    from seq2seq_kit.text.lines import decode_lines

    name = "standard input" if path is None or path == STANDARD_STREAM else str(path)
    number = 1
    for raw_lines in _groups(path, name):
        lines: list[str] = []
        try:
            lines.extend(decode_lines(raw_lines, name=name, first_line=number))
        except DataError:
            if lines:
                yield number, lines
            raise
        if lines:
            yield number, lines
        number += len(raw_lines)


def has_many_lines(path: Path | None) -> bool:
    """Whether an input is a file so large that searching for its lines occupies all cores.

    False where that is not known beforehand, as of a pipe.

    Args:
        path: As in `read_in_chunks`.
    """
    try:
        if path is None or path == STANDARD_STREAM:
            status = os.fstat(sys.stdin.fileno())
        else:
            status = path.stat()
    except (AttributeError, OSError, ValueError):  # Closed, missing, or a stream in memory.
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size >= _MANY_BYTES


def _groups(path: Path | None, name: str) -> Iterator[list[bytes]]:
    """Yields the raw lines of an input, called `name`, in groups that are answered together."""
    from seq2seq_kit.errors import DataError
    from seq2seq_kit.text.lines import raw_lines, unreadable

    if path is None or path == STANDARD_STREAM:
        if sys.stdin is None:
            raise InputError("Standard input is closed. Give INPUT or --prompt.")
        yield from _arriving_lines(sys.stdin.buffer, name)
    elif path.exists() and not path.is_file():  # a named pipe or a device
        try:
            with path.open("rb") as file:
                yield from _arriving_lines(file, name)
        except OSError as error:
            raise DataError(unreadable(path, error)) from error
    else:
        lines = raw_lines(path)
        yield from iter(lambda: list(itertools.islice(lines, LINES_AT_ONCE)), [])


def _arriving_lines(file: Any, name: str) -> Iterator[list[bytes]]:
    r"""Yields the complete lines that have arrived, each with its "\n", whenever no more is ready.

    Args:
        file: A binary stream with `read1`.
        name: The name of the input in errors.

    Raises:
        DataError: If gzipped data cannot be unpacked; the lines before have been yielded.
    """
    from seq2seq_kit.errors import DataError

    lines: list[bytes] = []
    try:
        for complete in _complete_lines(_arriving_parts(file, name)):
            lines += complete
            while len(lines) >= LINES_AT_ONCE:
                yield lines[:LINES_AT_ONCE]
                del lines[:LINES_AT_ONCE]
            if lines and not _is_ready(file):
                yield lines
                lines = []
    except DataError:
        if lines:
            yield lines
        raise
    if lines:
        yield lines


def _complete_lines(parts: Iterator[bytes]) -> Iterator[list[bytes]]:
    r"""Yields the lines that each part of a stream completes; the last line needs no "\n"."""
    begun: list[bytes] = []  # the parts of a line whose end has not arrived
    size = 0  # their bytes
    for data in parts:
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            lines.append(b"".join([*begun, end, b"\n"]))
            begun.clear()
            size = 0
        if rest:
            begun.append(rest)
            size += len(rest)
        yield lines
        if size > bounds.MAX_LINE_BYTES:
            break  # `decode_lines` refuses such a line: the rest of it is not needed.
    if begun:
        yield [b"".join(begun)]


def _arriving_parts(file: Any, name: str) -> Iterator[bytes]:
    """Yields the bytes of each read, unpacked if the stream begins as gzip data do."""
    first = _read(file)
    while first and len(first) < len(_GZIP_MAGIC) and _GZIP_MAGIC.startswith(first):
        more = _read(file)
        if not more:
            break
        first += more
    reads = itertools.chain([first], iter(lambda: _read(file), b""))
    yield from _unpacked(reads, name) if first.startswith(_GZIP_MAGIC) else reads


def _unpacked(reads: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yields the contents of gzip data, which may have several members, as they arrive."""
    from seq2seq_kit.errors import DataError

    with_header = 16 + zlib.MAX_WBITS
    member = zlib.decompressobj(with_header)
    is_inside = True
    try:
        for data in reads:
            while data:
                if not is_inside:
                    data = data.lstrip(b"\0")  # padding, as on tapes
                    if not data:
                        break
                    member, is_inside = zlib.decompressobj(with_header), True
                if unpacked := member.decompress(data, _READ_BYTES):
                    yield unpacked
                is_inside = not member.eof
                data = member.unconsumed_tail or member.unused_data
    except zlib.error as error:
        raise DataError(f"{name}: the gzip data are damaged ({error}). Send them again.") from error
    if is_inside:
        raise DataError(f"{name}: expected whole gzip data, but they are cut off. Send them again.")


def _read(file: Any) -> bytes:
    """Returns the bytes of one read, waiting for the first byte; empty at the end."""
    try:
        if not os.get_blocking(file.fileno()):
            # Another program that shares the pipe may have set it so: a read would not wait.
            select.select([file], [], [])
    except (AttributeError, OSError, ValueError):  # Windows, or a stream in memory: reads do wait.
        pass
    return bytes(file.read1(_READ_BYTES))


def _is_ready(file: Any) -> bool:
    """Whether a read would return at once. False where this is unknown, as on Windows."""
    try:
        return bool(select.select([file], [], [], 0)[0])
    except (OSError, ValueError):
        return False


@contextmanager
def open_output(path: Path | None) -> Iterator[IO[bytes]]:
    """Opens a file that is written whole or not at all, or standard output for None and `-`.

    A missing folder is created.

    Raises:
        InputError: If the file is a folder or its folder cannot be created, or there is no
            standard output.
    """
    if path is None or path == STANDARD_STREAM:
        if sys.stdout is None:
            raise InputError(NO_OUTPUT)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.is_dir():
        raise InputError(f"The output must be a file. Received: {path}, which is a folder.")
    make_parents(path)
    if path.exists() and not path.is_file():
        # A device or a named pipe, such as /dev/null: it must not be replaced.
        with path.open("wb") as file:
            yield file
        return
    with write_file(path, "The output") as file:
        yield file


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
    """Returns a row for each hypothesis: line, rank, score, text, and `cut` or `ended`."""
    return "".join(
        f"{line}\t{rank}\t{hypothesis.score:.6f}\t{escape(before + hypothesis.text)}"
        f"\t{'cut' if hypothesis.is_cut else 'ended'}\n"
        for rank, hypothesis in enumerate(hypotheses, start=1)
    )
