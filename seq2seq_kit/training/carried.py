"""The states that the rows of streams carry from one training step to the next.

On several replicas each keeps the states of the rows that it reads, on its device. This module
knows neither the step nor files.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seq2seq_kit.model.networks import LanguageModel, TokenModel
from seq2seq_kit.training.parts import TrainingPart, TrainingState


class CarriedStates(TrainingPart):
    """The states of all rows after the last step; saved and resumed.

    Args:
        model: The network, whose LSTM layers have the states.
        strategy: How the rows are spread over devices: row `r` is on replica `r % num_replicas`.
        num_rows: Rows of a batch; 0 where nothing is carried.
    """

    def __init__(self, model: TokenModel, strategy: tf.distribute.Strategy, num_rows: int) -> None:
        self._strategy = strategy
        self._model, self._num_rows = model, num_rows
        self.by_replica = zero_states(model, strategy, num_rows)
        """The states as the step takes and returns them; an empty tuple where nothing is carried.
        """
        self.variables = [
            keras.Variable(
                np.zeros((num_rows, part_size), np.float32),
                trainable=False,
                dtype="float32",
                name=f"state_{index}",
            )
            for index, part_size in enumerate(_sizes(model) if num_rows else [])
        ]

    def restart(self) -> None:
        """Has all rows begin again without a past."""
        self.by_replica = zero_states(self._model, self._strategy, self._num_rows)

    def before_save(self, state: TrainingState) -> None:
        parts = tf.nest.flatten(self.by_replica)
        for variable, part in zip(self.variables, parts, strict=True):
            variable.assign(_gather(self._strategy, part, variable.shape[0]))

    def after_resume(self, state: TrainingState) -> None:
        arrays = [variable.value.numpy() for variable in self.variables]
        parts = [_spread(self._strategy, array) for array in arrays]
        self.by_replica = tf.nest.pack_sequence_as(self.by_replica, parts)


def zero_states(model: TokenModel, strategy: tf.distribute.Strategy, num_rows: int) -> Any:
    """Returns zero states of rows, spread over replicas; an empty tuple for no rows."""
    if not num_rows:
        return ()
    if not isinstance(model, LanguageModel):
        raise TypeError(f"Only a language model carries states. Received: {type(model).__name__}.")
    parts = [_spread(strategy, np.zeros((num_rows, size), np.float32)) for size in _sizes(model)]
    return tf.nest.pack_sequence_as(model.lstm.zero_state(1), parts)


def _sizes(model: TokenModel) -> list[int]:
    """Returns the sizes of the parts of a state: hidden state and cell of each layer."""
    return [part.shape[-1] for part in tf.nest.flatten(model.lstm.zero_state(1))]


def _spread(strategy: tf.distribute.Strategy, array: np.ndarray) -> Any:
    """Returns `(rows, ...)` spread over the replicas, with rows of zeros where some are missing."""
    replicas = strategy.num_replicas_in_sync
    padding: Sequence[tuple[int, int]] = [(0, -len(array) % replicas), (0, 0)]
    padded = np.pad(array, padding)
    if replicas == 1:
        return tf.constant(padded)
    spread = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(padded[context.replica_id_in_sync_group :: replicas])
    )
    # With a single device on each worker, a step returns plain tensors: it takes the same.
    local = strategy.experimental_local_results(spread)
    return local[0] if len(local) == 1 else spread


def _gather(strategy: tf.distribute.Strategy, part: Any, num_rows: int) -> np.ndarray:
    """Returns the rows of all replicas in their order; all workers must call this."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        (whole,) = strategy.experimental_local_results(part)
        return np.asarray(whole)
    if isinstance(part, tf.Tensor):
        part = strategy.experimental_distribute_values_from_function(lambda _context: part)
    by_replica = strategy.gather(part, axis=0).numpy()
    rows = by_replica.reshape(replicas, -1, by_replica.shape[-1]).swapaxes(0, 1)
    return np.asarray(rows.reshape(-1, by_replica.shape[-1])[:num_rows])
