"""The errors that users can meet, and the parts that their messages share."""

import difflib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """An argument is wrong: an option, a file, a text. The exit code is 2."""


class ConfigError(InputError):
    """A config that cannot work; the message lists every fault found, each under its key."""


class DataError(InputError):
    """A text file that cannot be used as it is; the message names the file and the line."""


class RunError(RuntimeError):
    """The work failed: a damaged run folder, an export that differs. The exit code is 1."""


class TrainingInterrupted(RunError):
    """Training was stopped by Ctrl-C, SIGTERM or SIGHUP. The exit code is 130, 143 or 129."""

    def __init__(
        self, run_dir: Path, number: int = signal.SIGINT, *, can_resume: bool = True
    ) -> None:
        self.run_dir = run_dir
        """The folder of the run."""
        self.signal = signal.Signals(number)
        """The signal."""
        self.can_resume = can_resume
        """Whether a state was saved from which the run can resume."""
        name = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        saved = f"; its state is saved in {run_dir}." if can_resume else " before its first step."
        super().__init__(f"Training was interrupted by {name}{saved}")


def shorten(value: Any, width: int = 60) -> str:
    """Returns `repr(value)`, cut to `width` characters; what is cut off is never built."""
    text = ""
    for piece in _pieces(value, width):
        text += piece
        if len(text) > width:
            return f"{text[: width - 3]}..."
    return text


def _pieces(value: Any, width: int) -> Iterator[str]:
    """Yields the parts of `repr(value)` in order, none much longer than `width`."""
    if isinstance(value, str | bytes):
        yield repr(value[:width]) if len(value) > width else repr(value)
    elif type(value) is int and value.bit_length() > 4 * width:
        # Python refuses to write out thousands of digits.
        yield f"a whole number of about {value.bit_length() * 30103 // 100000} digits"
    elif type(value) is dict:
        yield "{"
        for place, (key, item) in enumerate(value.items()):
            yield ", " if place else ""
            yield from _pieces(key, width)
            yield ": "
            yield from _pieces(item, width)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if isinstance(value, list) else "("
        for place, item in enumerate(value):
            yield ", " if place else ""
            yield from _pieces(item, width)
        if isinstance(value, tuple):
            yield ",)" if len(value) == 1 else ")"
        else:
            yield "]"
    else:
        yield repr(value)


def suggest(name: str, known: Sequence[str]) -> str:
    """Returns the known name closest to a misspelled one, or all known names if none is close."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"Did you mean `{close[0]}`?"
    return f"Known: {', '.join(known)}."
