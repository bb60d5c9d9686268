"""Digests: what shows that a file is still the one that was written.

A file that is written once is listed with its digest elsewhere (`config.yaml` lists the files of a
run). One that is replaced while others stay holds its own digest, because two files cannot be
replaced in one step.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seq2seq_kit.errors import DataError, RunError
from seq2seq_kit.files import why_not_regular

_GZIP_MAGIC = b"\x1f\x8b"
_SEAL = "digest"


def digest(data: bytes) -> str:
    """Returns the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def text_digest(path: Path) -> str:
    """Returns the SHA-256 of a file of texts, of one in gzip that of its contents.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2).startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return hashlib.file_digest(unpacked, "sha256").hexdigest()
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: expected a readable text file, but: {reason}. Correct the path in "
            "the config's data section (relative paths start from data.root)."
        ) from error


def read_verified(path: Path, expected: str | None) -> bytes:
    """Returns the bytes of a file if they are those that were written.

    Args:
        path: The file.
        expected: Their digest; None where it was not kept, as by older versions.

    Raises:
        RunError: If it cannot be read, or is another one.
    """
    if reason := why_not_regular(path):
        raise RunError(f"{path} cannot be read ({reason}). Restore it from a copy, or train again.")
    data = path.read_bytes()
    if expected is not None and digest(data) != expected:
        raise RunError(
            f"{path} is damaged or of another run: its contents are not those that were written. "
            f"Restore it from a copy, or train again."
        )
    return data


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values together with their digest: what `unseal` takes.

    Args:
        values: What JSON can hold.
    """
    return {**values, _SEAL: _digest_of(values)}


def unseal(values: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    """Returns the values that `seal` was given, after JSON or not.

    Args:
        values: With their digest; those of older versions have none.
        required: Whether they must have one.

    Raises:
        ValueError: If they are not the same values.

    Example:

    >>> unseal(seal({"bleu": 31.5}))
    {'bleu': 31.5}
    """
    rest = dict(values)
    found = rest.pop(_SEAL, None)
    if found != _digest_of(rest) and (required or found is not None):
        raise ValueError("the values are not those that were written")
    return rest


def _digest_of(values: Mapping[str, Any]) -> str:
    # 64 bits tell a damaged file, and keep a line of the history short.
    return digest(json.dumps(values, sort_keys=True).encode())[:16]
