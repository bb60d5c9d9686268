"""Learning-rate schedules: parts that set the optimizer's learning rate."""

from collections.abc import Mapping
from typing import Any

import keras

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.training.parts import TrainingPart, TrainingState


def make_schedules(
    config: TrainingConfig, optimizer: keras.optimizers.Optimizer
) -> list[TrainingPart]:
    """Returns the learning-rate schedules of a config, in the order in which they are called."""
    return [
        WarmUp(optimizer, config.learning_rate, config.warmup_steps),
        PlateauDecay(
            optimizer, config.plateau_factor, config.plateau_patience, config.warmup_steps
        ),
    ]


class WarmUp(TrainingPart):
    """Raises the learning rate linearly from 0.

    Args:
        optimizer: Its learning rate is set.
        learning_rate: The learning rate after the warm-up.
        num_steps: Steps of the warm-up; 0 leaves the learning rate alone.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, learning_rate: float, num_steps: int
    ) -> None:
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._num_steps = num_steps

    def before_step(self, state: TrainingState) -> None:
        if state.step < self._num_steps:
            self._optimizer.learning_rate = self._learning_rate * (
                (state.step + 1) / self._num_steps
            )


class PlateauDecay(TrainingPart):
    """Multiplies the learning rate by a factor when the validation loss has stopped falling.

    Args:
        optimizer: Its learning rate is multiplied.
        factor: The factor.
        patience: Validations in a row without a lower loss, after which it is applied.
        warmup_steps: Steps before which the learning rate is left to `WarmUp`.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        factor: float,
        patience: int,
        warmup_steps: int,
    ) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._patience = patience
        self._warmup_steps = warmup_steps
        self._best_loss: float | None = None
        self._num_validations = 0  # since the best loss, or since the last decay

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        loss = record["val_loss"]
        if self._best_loss is None or loss < self._best_loss:
            self._best_loss, self._num_validations = loss, 0
            return
        self._num_validations += counts
        is_warm = state.step >= self._warmup_steps
        if is_warm and self._num_validations >= self._patience:
            self._num_validations = 0
            learning_rate = float(self._optimizer.learning_rate.numpy())
            self._optimizer.learning_rate = learning_rate * self._factor

    def state(self) -> dict[str, Any]:
        return {"best_loss": self._best_loss, "validations_on_plateau": self._num_validations}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._best_loss = saved["best_loss"]
        self._num_validations = saved["validations_on_plateau"]
