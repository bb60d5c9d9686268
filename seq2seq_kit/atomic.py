"""Writes a file or folder whole or not at all, and to the disk before the call returns.

The content is written to a scratch folder beside its final place, under a lock that the system
releases when the process dies. The next process that writes there removes what a dead one left.
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

# Names of unfinished files of earlier versions, in run folders and in the cache.
_OLDER_LEFTOVERS = re.compile(
    r"\.?[\w-]+(\.(npz|yaml|json|jsonl|model))?(\.\d+)?\.(partial|tmp)|building-\w+"
)
_DAY = 24 * 60 * 60

# File systems allow 255 bytes for a name; a scratch folder's begins with a part of its target's.
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
        path: The file. If it is a link, the file that it points to is replaced.
        what: The file's name in messages, at the beginning of a sentence, such as "The config".
        private: Whether only its owner may read it. Otherwise it gets the permissions of the file
            that it replaces.
        setting: The option that chooses another folder, for messages, such as "--run-dir".

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
    """Yields a folder to fill, which is moved to `path` once the body has ended without an error.

    Args:
        path: The folder; it must not exist, or be empty.
        what: As in `write_file`.
        private: Whether only its owner may read it.
        setting: As in `write_file`.

    Raises:
        FileExistsError: If there is a file or a folder with files at `path`.
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
    """Removes a folder with its contents in one step: no part of it remains visible at `path`."""
    with _scratch_folder(path) as content:
        path.replace(content)


def remove_leftovers(folder: Path) -> None:
    """Removes the scratch folders of processes that were killed while writing in a folder."""
    for scratch in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError):  # Another user's, or there are no locks there.
            if lock := try_lock(scratch / _LOCK):
                _remove_scratch_folder(scratch, lock)


def remove_older_leftovers(folder: Path) -> None:
    """Removes unfinished files that killed processes of earlier versions left in a folder.

    They used no locks, so a file counts as abandoned after a day without a change.

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
    """Returns a lock on a file, created if missing; None if another process holds the lock.

    The system releases it when this process ends, however it ends.

    Raises:
        OSError: If the file cannot be created, or its file system has no locks.
    """
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


@contextmanager
def explain_write_errors(path: Path, what: str, setting: str = "") -> Iterator[None]:
    """Converts errors of a full or read-only disk in the body to a RunError with cause and cure.

    Args:
        path: The file or folder that the body writes.
        what: As in `write_file`.
        setting: As in `write_file`.

    Raises:
        RunError: Instead of such an error, TensorFlow's included; other errors pass.
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
    """Returns the system's number of an error of writing `path`; None for any other error."""
    if isinstance(error, FileExistsError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        # An error of reading names the file; one of writing to an open file names none.
        name = str(error.filename or path)
        is_ours = _SUFFIX in name or Path(name).is_relative_to(path)
        return error.errno if is_ours and error.errno in _CURES else None
    # TensorFlow reports a full disk as ResourceExhaustedError, the class of "out of memory" too.
    if type(error).__module__.startswith("tensorflow."):
        return next((code for code in _CURES if os.strerror(code) in str(error)), None)
    return None


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """Yields a path on the disk of `path`, in a folder that is removed afterwards."""
    remove_leftovers(path.parent)
    scratch, lock = _make_scratch_folder(path)
    try:
        yield scratch / _CONTENT
    finally:
        _remove_scratch_folder(scratch, lock)


def _make_scratch_folder(path: Path) -> tuple[Path, FileLock | None]:
    """Returns a new folder and the lock that shows that its process is alive."""
    while True:
        scratch = _scratch_path(path)
        scratch.mkdir(0o700)
        try:
            if lock := try_lock(scratch / _LOCK):
                return scratch, lock
        except FileNotFoundError:
            pass
        except OSError:  # Without locks, no process takes it for a leftover.
            return scratch, None
        except BaseException:  # A signal.
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        # Not locked yet, it was taken for a leftover.


def _remove_scratch_folder(scratch: Path, lock: FileLock | None) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    if lock is not None:
        lock.release()
        if os.name == "nt":  # Windows keeps the file of a lock until now. Elsewhere, a folder that
            # exists now belongs to another process.
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.name[:_MAX_NAME]}.{secrets.token_hex(4)}{_SUFFIX}")


def _sync(path: Path) -> None:
    """Makes the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # Windows and some file systems cannot sync a folder.
        _sync(folder)
