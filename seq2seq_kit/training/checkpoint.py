"""The variables of a run's checkpoints: out of the network, checked, and into it.

They go by their place in the network, because Keras counts on with the names of a second network in
a process.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from seq2seq_kit.archive import Archive, load_archive
from seq2seq_kit.errors import RunError

_MISFIT = "The run's config.yaml was changed after training, or the file is of another run."


def load_of_run(path: Path, run: str | None) -> Archive:
    """Returns a checkpoint if it is of the run that a config names.

    Args:
        path: The checkpoint.
        run: `SavedConfig.run`; older versions named none in configs and checkpoints.

    Raises:
        RunError: If it is missing, damaged, or of another run.
    """
    checkpoint = load_archive(path)
    found = checkpoint.metadata.get("run")
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


def assign_variables(variables: Iterable[keras.Variable], checkpoint: Archive, prefix: str) -> None:
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
