"""Paths as users write them, and whether a path can be read more than once."""

import os
import stat
from pathlib import Path

from seq2seq_kit.errors import InputError, shorten

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe, which can be read only once"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISSOCK, "it is a socket"),
)


def why_not_regular(path: Path, max_bytes: int | None = None) -> str | None:
    """Returns why a path is not a regular file of a size to read whole, or None if it is one.

    Configs, corpora, tokenizer models and the files of a run are read more than once, and opening
    a pipe that no process writes to never returns.

    Args:
        path: The path; symbolic links are followed.
        max_bytes: The largest size; None for any.
    """
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:  # NUL, or half of a surrogate pair
        return "no file can have such a name"
    for is_kind, reason in _KINDS:
        if is_kind(status.st_mode):
            return reason
    if max_bytes is not None and status.st_size > max_bytes:
        return f"it has {status.st_size:,} bytes, far more than it can need"
    return None


def make_parents(path: Path) -> None:
    """Makes the folders above a path that will be written.

    Raises:
        InputError: If one of them cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: its folder cannot be made ({error.strerror}). Choose "
            f"another path."
        ) from error


def path_fault(path: Path) -> str | None:
    """Returns why no file can be found under a path as it is written, or None.

    Args:
        path: The path as a user wrote it; `~` is a home folder.
    """
    text = os.fspath(path)
    if "\0" in text:
        return "a path cannot have a NUL character in it"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return "half of a surrogate pair is no character"
    try:
        path.expanduser()
    except RuntimeError:
        return f"`{path.parts[0]}` is not the home folder of any user of this machine"
    return None


def user_path(path: str | Path) -> Path:
    """Returns the path that a user wrote: `~` is a home folder.

    Raises:
        InputError: If no file can have it.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"Expected a path. Received: {shorten(path)}.")
    path = Path(path)
    if fault := path_fault(path):
        raise InputError(f"Expected a path. Received: {shorten(str(path))}: {fault}.")
    return path.expanduser()
