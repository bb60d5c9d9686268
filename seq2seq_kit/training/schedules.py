"""Learning-rate schedules: parts that set the optimizer's learning rate."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.model.dropout import DropoutStrength
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.stopping import Limits

# The shape of one_cycle: where it begins and where it ends, as factors of the highest learning
# rate, and the share of the training in which it rises. PyTorch and fastai have the same defaults.
_CYCLE_BEGIN = 1 / 25
_CYCLE_END = _CYCLE_BEGIN / 10_000
_CYCLE_RISE = 0.3


def make_schedules(
    config: TrainingConfig, limits: Limits, optimizer: keras.optimizers.Optimizer
) -> list[TrainingPart]:
    """Returns the learning-rate schedules of a config, in the order in which they are called."""
    if config.schedule != "plateau":
        return [Schedule(optimizer, config, limits)]
    return [
        WarmUp(optimizer, config.learning_rate, config.warmup_steps),
        PlateauDecay(
            optimizer, config.plateau_factor, config.plateau_patience, config.warmup_steps
        ),
    ]


def learning_rate_factor(
    schedule: str, *, step: int, progress: float, warmup_steps: int = 0
) -> float:
    """Returns the learning rate of a step as a share of the highest one.

    - `"cosine"`: Loshchilov and Hutter, 2017, equation 5, without restarts, down to 0
      (https://arxiv.org/abs/1608.03983).
    - `"one_cycle"`: Smith and Topin, 2018 (https://arxiv.org/abs/1708.07120), with cosines instead
      of straight lines, as in PyTorch and fastai.
    - `"inverse_sqrt"`: Vaswani et al., 2017, equation 3, scaled to a highest value of 1
      (https://arxiv.org/abs/1706.03762).

    Args:
        schedule: One of these names.
        step: The number of steps before this one.
        progress: The share of the training that is done, from 0 to 1.
        warmup_steps: The number of steps over which the learning rate rises linearly from 0; the
            cosine is multiplied by this rise.

    Example:

    >>> [learning_rate_factor("cosine", step=0, progress=share) for share in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    rise = min(1.0, (step + 1) / max(warmup_steps, 1))
    if schedule == "inverse_sqrt":
        return rise * math.sqrt(warmup_steps / max(step + 1, warmup_steps))
    if schedule == "cosine":
        return rise * _along_cosine(1.0, 0.0, progress)
    if progress < _CYCLE_RISE:
        return _along_cosine(_CYCLE_BEGIN, 1.0, progress / _CYCLE_RISE)
    return _along_cosine(1.0, _CYCLE_END, (progress - _CYCLE_RISE) / (1 - _CYCLE_RISE))


def _along_cosine(begin: float, end: float, share: float) -> float:
    """Returns the value between `begin` and `end` on half a cosine, at a share of the way."""
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


class Schedule(TrainingPart):
    """Sets the learning rate before each step, as a function of the counters alone.

    Args:
        optimizer: Its learning rate is set.
        config: The `training` section.
        limits: Where training ends at the latest.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, config: TrainingConfig, limits: Limits
    ) -> None:
        self._optimizer = optimizer
        self._config = config
        self._limits = limits
        self._steps_per_epoch = 1

    def begin_epoch(self, state: TrainingState, epoch: int, num_steps: int) -> None:
        self._steps_per_epoch = num_steps

    def before_step(self, state: TrainingState) -> None:
        factor = learning_rate_factor(
            self._config.schedule,
            step=state.step,
            progress=self._limits.progress(state, self._steps_per_epoch),
            warmup_steps=self._config.warmup_steps,
        )
        highest = self._config.learning_rate * state.learning_rate_factor
        self._optimizer.learning_rate = highest * factor


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
            highest = self._learning_rate * state.learning_rate_factor
            self._optimizer.learning_rate = highest * ((state.step + 1) / self._num_steps)


class DropoutWarmUp(TrainingPart):
    """Raises dropout linearly from none to its full rates, as a function of the steps alone.

    Dropout from the first step slows learning while there is nothing to overfit yet.

    Args:
        strength: The strength of the dropout layers.
        num_steps: Steps until the rates are reached, at least 1.
    """

    def __init__(self, strength: DropoutStrength, num_steps: int) -> None:
        self._strength = strength
        self._num_steps = num_steps

    def before_step(self, state: TrainingState) -> None:
        self._strength.variable.assign(min(1.0, state.step / self._num_steps))


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
