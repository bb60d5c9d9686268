"""A file or a folder, whole or not at all, and on the disk when the call returns.

What is written grows in a scratch folder beside its place, under a lock that the system releases
when its process dies. Whoever writes beside it next removes what such a process left behind.
"""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from seq2seq_kit.errors import RunError
from seq2seq_kit.files import why_not_regular

_SUFFIX = ".s2s-partial"
_LOCK, _CONTENT = "lock", "content"

# The names that earlier versions gave to what they were writing, here and in the cache.
_OLDER_LEFTOVERS = re.compile(
    r"\.?[\w-]+(\.(npz|yaml|json|jsonl|model))?(\.\d+)?\.(partial|tmp)|building-\w+"
)
_DAY = 24 * 60 * 60

# File systems allow 255 bytes for a name: the scratch folder's begins with a part of its target's.
_MAX_NAME = 40

_CURES = {
    errno.ENOSPC: "Free space on that disk",
    errno.EDQUOT: "Free some of your quota there",
    errno.EACCES: "Allow writing to that folder",
    errno.EPERM: "Allow writing to that folder",
    errno.EROFS: "Make that disk writable",
    errno.EIO: "Check that disk",
    errno.EFBIG: "Use a file system that holds files of this size",
    errno.ENAMETOOLONG: "Use a shorter name",
}


@contextmanager
def write_file(
    path: Path, what: str, *, private: bool = False, setting: str = ""
) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` once the body has ended without an error.

    Args:
        path: The file. Where it is a link, what the link points to is replaced.
        what: What is written, for messages, such as "The config".
        private: Whether nobody but its owner may read it. Otherwise a file that is replaced hands
            on its permissions.
        setting: What chooses another folder, for messages, such as "--run-dir".

    Raises:
        RunError: If it cannot be written, or `path` is a folder, a device or a pipe; `path` is then
            unchanged.
    """
    path = Path(os.path.realpath(path))
    # A user who may write to /dev would replace the device that a link points to.
    if path.exists() and (reason := why_not_regular(path)):
        raise RunError(
            f"{what} cannot be written to {path}: {reason}. Remove it, or choose another place"
            f"{f' ({setting})' if setting else ''}."
        )
    with explain_write_errors(path, what, setting), _scratch_folder(path) as content:
        with content.open("xb") as file:
            if private:
                content.chmod(0o600)
            elif path.exists():
                shutil.copymode(path, content)
            yield file
            file.flush()
            os.fsync(file.fileno())
        content.replace(path)
        _sync_names(path.parent)


def write_bytes(
    path: Path, data: bytes, what: str, *, private: bool = False, setting: str = ""
) -> None:
    """Writes a file of these bytes, as `write_file` does."""
    with write_file(path, what, private=private, setting=setting) as file:
        file.write(data)


@contextmanager
def write_folder(
    path: Path, what: str, *, private: bool = False, setting: str = ""
) -> Iterator[Path]:
    """Gives a folder to fill, which is moved to `path` once the body has ended without an error.

    Args:
        path: The folder; there must be none, or an empty one.
        what: What is written, for messages.
        private: Whether nobody but its owner may look into it.
        setting: As for `write_file`.

    Raises:
        FileExistsError: If there is a folder with files at `path`, or a file.
        RunError: If it cannot be written; nothing is left at `path`.
    """
    path = Path(os.path.realpath(path))
    with explain_write_errors(path, what, setting), _scratch_folder(path) as content:
        content.mkdir(0o700 if private else 0o777)
        yield content
        for parent, _, names in os.walk(content):
            for file in (Path(parent, name) for name in names):
                if private:
                    file.chmod(0o600)
                _sync(file)
            _sync_names(Path(parent))
        try:
            content.replace(path)
        except OSError as error:
            if path.is_dir() or path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            raise
        _sync_names(path.parent)


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it; nobody ever sees a part of it at `path`."""
    with _scratch_folder(path) as content:
        path.replace(content)


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder."""
    for scratch in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError):  # Another user's, or there are no locks there.
            if lock := try_lock(scratch / _LOCK):
                _remove_scratch_folder(scratch, lock)


def remove_older_leftovers(folder: Path) -> None:
    """Removes what killed processes of earlier versions have left in a folder of this package.

    They used no locks, so whatever was not written to for a day counts as left.

    Args:
        folder: A run folder or the cache.
    """
    for path in folder.iterdir():
        with suppress(OSError):
            if not _OLDER_LEFTOVERS.fullmatch(path.name):
                continue
            if time.time() - path.stat().st_mtime < _DAY:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def try_lock(path: Path) -> FileLock | None:
    """Returns a lock on a file, which is made if it is missing; None if another one holds it.

    The system releases it when this process ends, however it ends.

    Raises:
        OSError: If the file cannot be made, or its file system has no locks.
    """
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


@contextmanager
def explain_write_errors(path: Path, what: str, setting: str = "") -> Iterator[None]:
    """Turns what a full or read-only disk raises in the body into one error that says all of it.

    Args:
        path: What is written in the body.
        what: What that is, as the beginning of a sentence.
        setting: What chooses another folder.

    Raises:
        RunError: In place of such an error, TensorFlow's included; others pass.
    """
    try:
        yield
    except Exception as error:
        code = _disk_fault(error, path)
        if code is None:
            raise
        kept = "What was there before is unchanged." if path.exists() else "Nothing is left there."
        raise RunError(
            f"{what} could not be written to {path}: {os.strerror(code)}. {kept} "
            f"{_CURES[code]}, or choose another folder{f' ({setting})' if setting else ''}."
        ) from error


def _disk_fault(error: Exception, path: Path) -> int | None:
    """Returns the system's number for what keeps `path` from being written; None if it is else."""
    if isinstance(error, FileExistsError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        # An error of reading names what was read; one of writing to an open file names nothing.
        name = str(error.filename or path)
        is_ours = _SUFFIX in name or Path(name).is_relative_to(path)
        return error.errno if is_ours and error.errno in _CURES else None
    # TensorFlow reports a full disk as ResourceExhaustedError, the class of "out of memory" too.
    if type(error).__module__.startswith("tensorflow."):
        return next((code for code in _CURES if os.strerror(code) in str(error)), None)
    return None


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """Gives a place on the disk of `path` that is removed afterwards, with what is still there."""
    remove_leftovers(path.parent)
    scratch, lock = _make_scratch_folder(path)
    try:
        yield scratch / _CONTENT
    finally:
        _remove_scratch_folder(scratch, lock)


def _make_scratch_folder(path: Path) -> tuple[Path, FileLock | None]:
    """Returns a new folder and the lock that shows that its writer lives."""
    while True:
        scratch = _scratch_path(path)
        scratch.mkdir(0o700)
        try:
            if lock := try_lock(scratch / _LOCK):
                return scratch, lock
        except FileNotFoundError:
            pass
        except OSError:  # There are no locks here, so nobody can take it for a leftover.
            return scratch, None
        except BaseException:  # A signal.
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        # Not locked yet, it was taken for a leftover.


def _remove_scratch_folder(scratch: Path, lock: FileLock | None) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    if lock is not None:
        lock.release()
        if os.name == "nt":  # It keeps the file of a lock until now. Elsewhere what is there by now
            # belongs to a process that came into this folder meanwhile.
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.name[:_MAX_NAME]}.{secrets.token_hex(4)}{_SUFFIX}")


def _sync(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # Windows and some file systems cannot do that for a folder.
        _sync(folder)
