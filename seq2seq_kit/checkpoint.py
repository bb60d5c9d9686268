"""Checkpoints: arrays and a few facts in one file, written whole or not at all.

A checkpoint is a NumPy archive without pickles: loading one runs no code. Variables go by their
place in the network, because Keras numbers the names of a second network in a process on.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from seq2seq_kit.atomic import write_file
from seq2seq_kit.errors import RunError

_FACTS = "__facts__"
_MISFIT = "The run's config.yaml was changed after training, or the file is of another run."


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    arrays: dict[str, np.ndarray]
    """Each array under its name."""
    facts: dict[str, Any]
    """What JSON can hold."""
    path: Path
    """The file."""


def save_checkpoint(
    path: Path,
    arrays: Iterable[tuple[str, np.ndarray]],
    facts: dict[str, Any],
    what: str = "The checkpoint",
) -> None:
    """Writes a checkpoint; whoever reads `path` sees the old one or the new one, never a part.

    Args:
        path: The file.
        arrays: Names and arrays; each is written before the next is asked for, so that never all
            of them take memory.
        facts: What JSON can hold.
        what: What it is called in a message.

    Raises:
        RunError: If it cannot be written.
    """
    with write_file(path, what) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in chain(arrays, [(_FACTS, np.array(json.dumps(facts)))]):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_checkpoint(path: Path) -> Checkpoint:
    """Returns what `save_checkpoint` wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop(_FACTS).item())
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
    return Checkpoint(arrays, facts, path)


def _check_sizes(path: Path) -> None:
    """Raises ValueError if an archive holds more than it has bytes: a few may stand for many."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"its members have {size} bytes")


def load_of_run(path: Path, run: str | None) -> Checkpoint:
    """Returns a checkpoint if it is of the run that a config names.

    Args:
        path: The checkpoint.
        run: `SavedConfig.run`; older versions named none in configs and checkpoints.

    Raises:
        RunError: If it is missing, damaged, or of another run.
    """
    checkpoint = load_checkpoint(path)
    found = checkpoint.facts.get("run")
    if found is not None and found != run:
        raise RunError(
            f"{path} and the config.yaml beside it are of different runs, so that its weights do "
            f"not fit the tokenizers. Restore both from one copy, or train again."
        )
    return checkpoint


def variable_arrays(
    variables: Iterable[keras.Variable], prefix: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the values of the variables under `prefix/0`, `prefix/1`, ..."""
    for index, variable in enumerate(variables):
        yield f"{prefix}/{index}", np.asarray(variable.value.numpy())


def assign_variables(
    variables: Iterable[keras.Variable], checkpoint: Checkpoint, prefix: str
) -> None:
    """Gives the variables the values saved under `prefix`; none is changed if one does not fit.

    Raises:
        RunError: If their number, a shape or a type differs, or a weight is no finite number.
    """
    variables = list(variables)
    saved = [array for name, array in checkpoint.arrays.items() if name.startswith(f"{prefix}/")]
    if len(saved) != len(variables):
        raise RunError(
            f"{checkpoint.path} does not fit the model: expected {len(variables)} variables under "
            f"`{prefix}`, found {len(saved)}. {_MISFIT}"
        )
    for variable, array in zip(variables, saved, strict=True):
        if array.shape != tuple(variable.shape):
            raise RunError(
                f"{checkpoint.path} does not fit the model: {variable.path} should have the shape "
                f"{tuple(variable.shape)}, but has {array.shape}. {_MISFIT}"
            )
    for variable, array in zip(variables, saved, strict=True):
        _check_values(variable, array, checkpoint.path)
    for variable, array in zip(variables, saved, strict=True):
        variable.assign(array)


def _check_values(variable: keras.Variable, array: np.ndarray, path: Path) -> None:
    """Raises RunError if an array is of another type, or a weight is no finite number."""
    if str(array.dtype) != variable.dtype:
        raise RunError(
            f"{path} does not fit the model: {variable.path} should be of type "
            f"{variable.dtype}, but is of type {array.dtype}. {_MISFIT}"
        )
    if variable.trainable and not np.isfinite(array).all():
        raise RunError(
            f"{path} is damaged: {variable.path} holds values that are no numbers. "
            f"Restore it from a copy, or train again."
        )
