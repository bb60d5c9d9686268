"""Checkpoints: the newest state of a training, and the variables in any checkpoint.

Variables are saved by their position in the network, because Keras numbers the names of a second
network in the same process differently.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seq2seq_kit.archive import Archive, load_archive, save_archive
from seq2seq_kit.config import SavedConfig
from seq2seq_kit.digests import read_verified
from seq2seq_kit.errors import RunError
from seq2seq_kit.pretrained.compact import expand
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.run_folder import RunFolder

# A killed process loses at most this much training.
SAVE_EVERY_SECONDS = 600

_MISFIT = "The run's config.yaml was changed after training, or the file belongs to another run."


class Checkpoint:
    """The newest state of a training in the file `last.npz`: variables, counters and parts.

    Args:
        run: The run folder.
        run_name: The name of the run, which its config has too.
        model: The network, compiled.
        state: The counters; restored in place.
        parts: The parts, whose states and variables are saved and restored.
        writes: Whether this process writes the run folder.
    """

    def __init__(
        self,
        run: RunFolder,
        run_name: str | None,
        model: keras.Model,
        state: TrainingState,
        parts: Sequence[TrainingPart],
        *,
        writes: bool,
    ) -> None:
        self._run = run
        self._run_name = run_name
        self._model = model
        self._state = state
        self._parts = parts
        self._writes = writes
        self._saved_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last one is so old that a killed process would lose too much training.

        By the time of training, which is the same on all workers: they save together.
        """
        return self._state.seconds - self._saved_at > SAVE_EVERY_SECONDS

    def save(self) -> None:
        """Writes the file, whole or not at all; then the parts may write theirs.

        All workers must call this together.
        """
        self._saved_at = self._state.seconds
        for part in self._parts:
            part.before_save(self._state)
        if self._writes:
            arrays = chain.from_iterable(
                variable_arrays(variables, prefix) for prefix, variables in self._variables()
            )
            metadata = {"run": self._run_name, **self._values()}
            save_archive(self._run.last, arrays, metadata, "The state of training")
        for part in self._parts:
            part.after_save(self._state)

    def restore(self) -> None:
        """Restores what the file holds; values that older versions did not save stay as they are.

        Raises:
            RunError: If there is no file, it is damaged, or does not fit the model.
        """
        checkpoint = load_of_run(self._run.last, self._run_name)
        saved = {name: value for name, value in checkpoint.metadata.items() if name != "run"}
        if unknown := sorted(saved.keys() - self._values().keys()):
            raise RunError(
                f"The checkpoint {self._run.last} holds values that this version of seq2seq_kit "
                f"does not know: {', '.join(unknown)}. Resume with the version that wrote it, or "
                f"train again."
            )
        for prefix, variables in self._variables():
            self._check_has(checkpoint, prefix)
            assign_variables(variables, checkpoint, prefix)
        for name in asdict(self._state).keys() & saved.keys():
            setattr(self._state, name, saved[name])
        self._saved_at = self._state.seconds
        for part in self._parts:
            part.restore({name: saved.get(name, value) for name, value in part.state().items()})
        for part in self._parts:
            part.after_resume(self._state)

    def _check_has(self, checkpoint: Archive, prefix: str) -> None:
        """Raises RunError if a part has no variables in a checkpoint: it is of an older version."""
        if not any(name.startswith(f"{prefix}/") for name in checkpoint.arrays):
            raise RunError(
                f"{checkpoint.path} was written by an earlier version of seq2seq_kit, which "
                f"trained otherwise and saved no `{prefix}`. Resume with that version, or train "
                f"again. The best weights can be used as they are."
            )

    def _variables(self) -> Iterator[tuple[str, Sequence[keras.Variable]]]:
        """Yields all variables by the prefix of their names in the file."""
        yield "model", self._model.variables
        yield "optimizer", self._model.optimizer.variables
        for part in self._parts:
            if part.variables:
                yield type(part).__name__, part.variables

    def _values(self) -> dict[str, Any]:
        """Returns the counters and the states of all parts, in one dict.

        The format is flat because it was so before there were parts.
        """
        values: dict[str, Any] = asdict(self._state)
        for part in self._parts:
            state = part.state()
            if clash := values.keys() & state.keys():
                raise ValueError(
                    f"Names in the states of training parts must be unique. Received twice: "
                    f"{', '.join(sorted(clash))}."
                )
            values |= state
        return values


def load_best(run: RunFolder, saved: SavedConfig) -> Archive:
    """Returns the best weights of a trained run, float32.

    A packaged model stores them smaller, and lists their digest in its config.

    Raises:
        RunError: If the file is missing, damaged, or belongs to another run.
    """
    if (expected := saved.files.get(run.best.name)) is not None:
        read_verified(run.best, expected)
    best = load_of_run(run.best, saved.run)
    return best._replace(arrays=expand(best.arrays))


def load_of_run(path: Path, run: str | None) -> Archive:
    """Returns a checkpoint if it belongs to the run that a config names.

    Args:
        path: The checkpoint.
        run: `SavedConfig.run`; older versions wrote none into configs and checkpoints.

    Raises:
        RunError: If it is missing, damaged, or belongs to another run.
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
    """Assigns the values saved under `prefix` to the variables; to none if one does not fit.

    Raises:
        RunError: If their number, a shape or a type differs, or a weight is not finite.
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
    """Raises RunError if an array has another type, or a weight is not finite."""
    if str(array.dtype) != variable.dtype:
        raise RunError(
            f"{path} does not fit the model: {variable.path} should have type "
            f"{variable.dtype}, but has type {array.dtype}. {_MISFIT}"
        )
    if variable.trainable and not np.isfinite(array).all():
        raise RunError(
            f"{path} is damaged: {variable.path} holds values that are not finite. "
            f"Restore it from a copy, or train again."
        )
