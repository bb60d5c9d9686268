"""Digests, which show that a file still has the contents that were written.

The digest of a file that is written once is kept in another one (`config.yaml` lists the files of a
run). A file that is replaced while others stay holds its own digest, because two files cannot be
replaced in one step.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq_kit import bounds
from seq2seq_kit.errors import DataError, RunError
from seq2seq_kit.files import why_not_regular

_GZIP_MAGIC = b"\x1f\x8b"
_SEAL = "digest"


def digest(data: bytes) -> str:
    """Returns the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Returns the SHA-256 of the bytes of a file, in hex.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileDigests:
    """The SHA-256 of each text file of a run, computed at the first request and kept.

    The files are read several times: for the tokenizer, for the ids, for the texts that outputs are
    compared with. Each result is stored under the digests of its files, so each reading ends with
    `check_unchanged`: it compares size, time of change and inode with those before the hashing.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Version, str]] = {}

    def of(self, path: Path) -> str:
        """Returns the digest of the contents of a text file; a gzip file is unpacked first.

        Raises:
            DataError: If it cannot be read, or changes while it is read.
        """
        if path not in self._known:
            try:
                version = _version(path)
                self._known[path] = version, _hash_text(path)
            except (OSError, EOFError, zlib.error) as error:
                reason = getattr(error, "strerror", None) or error
                raise DataError(
                    f"{path}: expected a readable text file, but: {reason}. Correct the path in "
                    "the config's data section (relative paths start from data.root)."
                ) from error
            self.check_unchanged([path])
        return self._known[path][1]

    def check_unchanged(self, paths: Iterable[Path]) -> None:
        """Raises DataError if a file was written or replaced since its digest was computed.

        Args:
            paths: Files whose digests were asked for.
        """
        for path in paths:
            try:
                is_same = _version(path) == self._known[path][0]
            except OSError:
                is_same = False
            if not is_same:
                raise DataError(
                    f"{path}: the file changed while it was in use. Start again, and leave the "
                    "texts of a run as they are until its training has begun."
                )


class _Version(NamedTuple):
    """What changes when a file is written or replaced."""

    device: int
    inode: int
    size: int
    modified: int


def _version(path: Path) -> _Version:
    status = path.stat()
    return _Version(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _hash_text(path: Path) -> str:
    with path.open("rb") as file:
        if file.peek(2).startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file) as unpacked:
                return hashlib.file_digest(unpacked, "sha256").hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_verified(path: Path, expected: str | None) -> bytes:
    """Returns the bytes of a file if they have the expected digest.

    Args:
        path: The file.
        expected: Their digest; None if it was not kept, as in older versions.

    Raises:
        RunError: If it cannot be read, or its digest is another one.
    """
    if reason := why_not_regular(path, bounds.MAX_ARRAY_BYTES):
        raise RunError(f"{path} cannot be read ({reason}). Restore it from a copy, or train again.")
    data = path.read_bytes()
    if expected is not None and digest(data) != expected:
        raise RunError(
            f"{path} is damaged or of another run: its contents are not those that were written. "
            f"Restore it from a copy, or train again."
        )
    return data


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values together with their digest, for `unseal`.

    Args:
        values: Values that JSON can hold.
    """
    return {**values, _SEAL: _digest_of(values)}


def unseal(values: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    """Returns the values without their digest, after checking it.

    Args:
        values: The result of `seal`, also after a round trip through JSON.
        required: Whether there must be a digest; older versions wrote none.

    Raises:
        ValueError: If the digest is that of other values.

    Example:

    >>> unseal(seal({"bleu": 31.5}))
    {'bleu': 31.5}
    """
    rest = dict(values)
    found = rest.pop(_SEAL, None)
    # Damage may also be in the name of the digest, which then looks like a separate value.
    is_sealed = found is not None or any(map(_is_seal, rest.values()))
    if found != _digest_of(rest) and (required or is_sealed):
        raise ValueError("the values are not those that were written")
    return rest


def _is_seal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


def _digest_of(values: Mapping[str, Any]) -> str:
    # 64 bits are enough to find damage, and keep a line of the history short.
    return digest(json.dumps(values, sort_keys=True).encode())[:16]
