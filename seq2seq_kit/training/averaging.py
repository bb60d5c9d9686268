"""Averages of the weights: a part that updates them at each step and lends them to validation.

Averaged weights are often better than those of any single step, above all while the learning rate
is still high.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.training.parts import TrainingPart, TrainingState


class AveragedWeights(TrainingPart):
    """Keeps the average of the weights that a config asks for; none with `averaging: none`.

    After step `n` since averaging began, the average `a` moves towards the weights `w` by
    `a += rate * (w - a)`. With "triggered" the rate is `1 / n`, so that `a` is their mean. With
    "ema" it is `max(1 - decay, 1 / n)`: the mean at first, so that the initial weights do not
    count, then an exponential moving average.

    "triggered" begins when a validation loss is higher than the lowest of those that are more than
    `patience` validations old (Merity et al., 2018, algorithm 1, https://arxiv.org/abs/1708.02182).

    Args:
        model: The network.
        config: The `training` section.
    """

    def __init__(self, model: keras.Model, config: TrainingConfig) -> None:
        self._model = model
        self._kind = config.averaging
        self._lowest_rate = 1.0 - config.averaging_decay if self._kind == "ema" else 0.0
        self._patience = config.averaging_patience
        self._is_triggered = self._kind == "ema"
        self._num_averaged = 0
        self._losses: list[float] = []  # Of the validations before the average begins.
        self._update = tf.function(self._move, autograph=False)
        if self._kind != "none":
            self.variables = [
                keras.Variable(
                    np.zeros(weight.shape, weight.dtype),
                    dtype=weight.dtype,
                    trainable=False,
                    name=f"average_{index}",
                )
                for index, weight in enumerate(model.trainable_variables)
            ]

    @property
    def weights(self) -> Sequence[keras.Variable]:
        """The weights to validate and to keep: the averages, or the network's own."""
        weights: Sequence[keras.Variable] = (
            self.variables if self._num_averaged else self._model.trainable_variables
        )
        return weights

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the network the averaged weights for the time of a `with` block."""
        own = self._model.trainable_variables
        if not self._num_averaged:
            yield
            return
        kept = [weight.value.numpy() for weight in own]
        _assign(own, [average.value for average in self.variables])
        try:
            yield
        finally:
            _assign(own, kept)

    def restart(self) -> None:
        """Has the average begin again with the next step."""
        self._num_averaged = 0
        for average in self.variables:  # They may hold values that are not finite.
            average.assign(np.zeros(average.shape, average.dtype))

    def after_update(self, state: TrainingState) -> None:
        if self._is_triggered:
            self._num_averaged += 1
            self._update(tf.constant(max(self._lowest_rate, 1 / self._num_averaged), tf.float32))

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        if self._kind != "triggered" or self._is_triggered:
            return
        earlier = self._losses[: -self._patience]
        self._is_triggered = bool(earlier) and record["val_loss"] > min(earlier)
        self._losses.append(record["val_loss"])

    def state(self) -> dict[str, Any]:
        if self._kind == "none":
            return {}
        return {
            "averaging_triggered": self._is_triggered,
            "num_averaged": self._num_averaged,
            "losses_before_averaging": self._losses,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        if self._kind != "none":
            self._is_triggered = saved["averaging_triggered"]
            self._num_averaged = saved["num_averaged"]
            self._losses = saved["losses_before_averaging"]

    def _move(self, rate: tf.Tensor) -> None:
        for average, weight in zip(self.variables, self._model.trainable_variables, strict=True):
            average.assign_add(tf.cast(rate, average.dtype) * (weight.value - average.value))


def _assign(variables: Sequence[keras.Variable], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
