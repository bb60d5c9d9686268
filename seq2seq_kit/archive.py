"""Named arrays and JSON metadata in one file, written whole or not at all.

An archive is a NumPy `.npz` without pickles: loading one runs no code. Each member has a CRC-32,
which is checked while it is read and detects every flipped bit, so that checkpoints need no digest:
a hash would be a second pass over all weights.
"""

import json
import zipfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seq2seq_kit.atomic import write_file
from seq2seq_kit.errors import RunError

_METADATA = "__facts__"  # Part of the file format.


class Archive(NamedTuple):
    """The contents of an archive."""

    arrays: dict[str, np.ndarray]
    """Each array under its name."""
    metadata: dict[str, Any]
    """Values that JSON can hold."""
    path: Path
    """The file."""


def save_archive(
    path: Path,
    arrays: Iterable[tuple[str, np.ndarray]],
    metadata: dict[str, Any],
    what: str = "The checkpoint",
) -> None:
    """Writes an archive; readers of `path` see the old one or the new one, never a part.

    Args:
        path: The file.
        arrays: Names and arrays; each is written before the next is requested, so that they are
            never in memory together.
        metadata: Values that JSON can hold.
        what: Its name in messages, at the beginning of a sentence.

    Raises:
        RunError: If it cannot be written.
    """
    with write_file(path, what) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in chain(arrays, [(_METADATA, np.array(json.dumps(metadata)))]):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_archive(path: Path) -> Archive:
    """Returns an archive that `save_archive` wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(arrays.pop(_METADATA).item())
    except FileNotFoundError as error:
        raise RunError(
            f"Expected a checkpoint at {path}, which does not exist. Train the run first, or give "
            f"the folder of one that was trained."
        ) from error
    except Exception as error:
        # A damaged archive can raise almost anything: zlib.error, BadZipFile, RuntimeError.
        raise RunError(
            f"The checkpoint {path} is damaged: it cannot be read to the end. Restore it from a "
            f"copy, or train again into another folder."
        ) from error
    return Archive(arrays, metadata, path)


def _check_sizes(path: Path) -> None:
    """Raises ValueError if an archive is compressed: a small file could then fill the memory."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"its members have {size} bytes")
