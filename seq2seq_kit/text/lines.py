r"""The lines of a text file, plain or gzip, as a stream: memory does not grow with the file.

A line ends at "\n" and nowhere else, so that two files keep their alignment.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from seq2seq_kit import bounds
from seq2seq_kit.errors import DataError

_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
# A binary file may have a few lines without NUL bytes.
_LINES_TO_TELL_BINARY = 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file, plain or gzip, without their ends.

    A line ends at "\n"; one "\r" before it is dropped, and a last line needs no "\n". Every other
    character is kept, even NUL, form feed and U+2028. A byte order mark at the start is dropped.

    Args:
        path: The file. Gzip is recognized by the first bytes, not by the name.

    Returns:
        An iterator that holds one line at a time.

    Raises:
        DataError: While iterating, if the file cannot be opened or unpacked, or is not UTF-8.
    """
    return decode_lines(raw_lines(path), name=str(path))


def read_chosen_lines(path: Path, numbers: Iterable[int]) -> Iterator[str]:
    """Yields some lines of a file, decoding no others; it ends early if the file does.

    Args:
        path: The file, as for `read_lines`.
        numbers: Line numbers, counted from 1, ascending.

    Raises:
        DataError: As in `read_lines`.
    """
    lines = raw_lines(path)
    position = 0
    for number in numbers:
        chosen = islice(lines, number - position - 1, number - position)
        yield from decode_lines(chosen, name=str(path), first_line=number)
        position = number


def count_lines(path: Path) -> int:
    """Counts the lines that `read_lines` yields. It raises the same errors.

    Args:
        path: The file, as for `read_lines`.

    Returns:
        The number of lines.
    """
    return sum(1 for _ in read_lines(path))


def decode_lines(raw_lines: Iterable[bytes], *, name: str, first_line: int = 1) -> Iterator[str]:
    r"""Yields lines as text, by the rules of `read_lines`. Use it for standard input.

    Args:
        raw_lines: Lines of bytes that end at "\n", as a binary file yields them.
        name: The name of the input in error messages, such as its path.
        first_line: The number of the first line; a byte order mark is dropped from line 1 only.

    Returns:
        An iterator over the lines, without their ends.

    Raises:
        DataError: While iterating, at a line that is not UTF-8.

    Example:

    >>> list(decode_lines([b"one\r\n", b"\n", b"three"], name="example"))
    ['one', '', 'three']
    """
    lines = iter(raw_lines)
    for number, raw in enumerate(lines, start=first_line):
        if len(raw) > bounds.MAX_LINE_BYTES:
            raise DataError(
                f"{name}, line {number}: expected a line of at most {bounds.MAX_LINE_BYTES:,} "
                "bytes, but it is longer. Give a text with line ends."
            )
        if number == 1:
            if raw == _BOM:  # nothing but a mark: an empty file
                return
            raw = raw.removeprefix(_BOM)
        if raw.endswith(b"\n"):
            raw = raw[:-1].removesuffix(b"\r")
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            following = islice(lines, _LINES_TO_TELL_BINARY)
            raise DataError(_not_utf8(name, number, error, following)) from error


def raw_lines(path: Path) -> Iterator[bytes]:
    r"""Yields the unpacked lines of a file with their ends: a binary file splits at "\n" only."""
    num_read = 0
    try:
        with path.open("rb") as file:
            is_gzip = file.peek(2).startswith(_GZIP_MAGIC)
            lines = gzip.GzipFile(fileobj=file) if is_gzip else file
            # The beginning of a longer line is enough to refuse it.
            for raw in iter(partial(lines.readline, bounds.MAX_LINE_BYTES + 1), b""):
                yield raw
                num_read += 1
    except EOFError as error:
        raise DataError(
            f"{path}: expected a whole gzip file, but it is cut off after line {num_read}. "
            "Copy or download it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip data are damaged after line {num_read} ({error}). "
            "Copy or download the file again."
        ) from error
    except OSError as error:
        raise DataError(unreadable(path, error)) from error


def unreadable(path: Path, error: OSError) -> str:
    """Returns the message for a text file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: expected a text file, but there is no such file. Check the path."
    if isinstance(error, IsADirectoryError):
        return f"{path}: expected a text file, but it is a folder. Name a file in it."
    return f"{path}: the file cannot be read ({error.strerror or error})."


def _not_utf8(name: str, number: int, error: UnicodeDecodeError, following: Iterable[bytes]) -> str:
    byte = error.object[error.start]
    is_utf16 = number == 1 and error.object.startswith(_UTF16_MARKS)
    encoding = "UTF-16" if is_utf16 else "LATIN1"
    place = (
        f"{name}, line {number}: expected UTF-8, but byte {error.start + 1} of the line "
        f"(0x{byte:02x}) is not"
    )
    if not is_utf16 and any(b"\0" in raw for raw in (error.object, *following)):
        return f"{place}, and there are NUL bytes: this is not a text file. Name one in UTF-8."
    return (
        f"{place}{'; the file looks like UTF-16' if is_utf16 else ''}. "
        f"Convert the file, for example with `iconv -f {encoding} -t UTF-8`."
    )
