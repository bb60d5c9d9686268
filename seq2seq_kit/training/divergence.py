"""What happens when the loss is not finite any more, or explodes: back to good weights, slower."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from seq2seq_kit.errors import RunError
from seq2seq_kit.training.checkpoint import assign_variables, load_of_run
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.stopping import EarlyStopping

_logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
"""How often a training that diverges goes on from good weights."""

# A loss has exploded if it is this many times that of giving all tokens the same probability.
_EXPLODED = 1.5
# The share of the past in the smoothed loss, and how many steps it needs to mean something.
_SMOOTHING = 0.9
_LEAST_STEPS = 10


class Follower(Protocol):
    """What depends on the weights of earlier steps, such as their average."""

    def restart(self) -> None:
        """Called when the weights have been replaced by earlier ones."""


class Divergence(TrainingPart):
    """Restores the last good weights when training diverges, and halves the learning rate.

    Training diverges where the loss is not a finite number, or where its smoothed value is higher
    than `_EXPLODED` times the logarithm of the vocabulary's size: the model is then much worse than
    one that knows nothing. The good weights are those of the best validation; before the first one,
    those that this process began with. The moments of the optimizer start again from 0, and
    training continues with the next batch. After `MAX_RESTARTS` restarts, the next divergence is an
    error.

    Args:
        model: The network, compiled.
        run: The run folder, which has the best weights.
        run_name: The name of the run.
        early_stopping: Knows whether there are best weights.
        followers: What starts again with the restored weights.
    """

    def __init__(
        self,
        model: keras.Model,
        run: RunFolder,
        run_name: str | None,
        early_stopping: EarlyStopping,
        followers: Sequence[Follower],
    ) -> None:
        self._model = model
        self._run = run
        self._run_name = run_name
        self._early_stopping = early_stopping
        self._followers = followers
        self._highest = _EXPLODED * math.log(int(model.output_bias.shape[0]))
        self._first_weights: list[np.ndarray] | None = None
        self._sums = (0.0, 0.0, 0.0, 0.0)
        self._restart_smoothing()

    def _restart_smoothing(self) -> None:
        self._smoothed = 0.0
        self._num_smoothed = 0

    def begin(self, state: TrainingState, num_steps: int) -> None:
        if not self._early_stopping.has_best:
            self._first_weights = [
                np.asarray(weight.value.numpy()) for weight in self._model.trainable_variables
            ]

    def before_step(self, state: TrainingState) -> None:
        self._sums = _sums_of(state)

    def after_update(self, state: TrainingState) -> None:
        loss = (state.loss_sum - self._sums[0]) / max(state.num_tokens - self._sums[1], 1.0)
        if math.isfinite(loss):
            # Without a bias towards 0, as in Adam.
            self._smoothed = _SMOOTHING * self._smoothed + (1 - _SMOOTHING) * loss
            self._num_smoothed += 1
            smoothed = self._smoothed / (1 - _SMOOTHING**self._num_smoothed)
            if self._num_smoothed < _LEAST_STEPS or smoothed <= self._highest:
                return
            self.restore_weights(state, f"training loss rose to {smoothed:.3g}")
        else:
            # Without this step, whose loss would make the sums meaningless.
            state.loss_sum, state.num_tokens, state.epoch_loss_sum, state.epoch_tokens = self._sums
            self.restore_weights(state, f"loss became {loss}")

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        self._first_weights = None  # From now on there are best weights in the run folder.

    def restore_weights(self, state: TrainingState, what: str) -> None:
        """Goes back to good weights with half the learning rate.

        Args:
            state: The counters, among them how often this has happened.
            what: What was noticed, as a clause without an article.

        Raises:
            RunError: If it has happened `MAX_RESTARTS` times before.
        """
        if state.divergences == MAX_RESTARTS:
            raise RunError(self._explain(state, what))
        state.divergences += 1
        where = self._assign_good_weights()
        optimizer = self._model.optimizer
        learning_rate = float(optimizer.learning_rate.numpy()) / 2
        for variable in optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        optimizer.learning_rate = learning_rate
        for follower in self._followers:
            follower.restart()
        self._restart_smoothing()
        _logger.warning(
            "The %s at step %d. Training goes on with half the learning rate, from %s (%d of at "
            "most %d times).",
            what,
            state.step,
            where,
            state.divergences,
            MAX_RESTARTS,
        )

    def _assign_good_weights(self) -> str:
        """Assigns good weights to the network; returns what they are."""
        weights = self._model.trainable_variables
        if self._first_weights is not None:
            for variable, array in zip(weights, self._first_weights, strict=True):
                variable.assign(array)
            return "the weights it began with"
        best = load_of_run(self._run.best, self._run_name)
        assign_variables(weights, best, "weights")
        return f"the best weights, those of step {best.metadata['step']:,}"

    def _explain(self, state: TrainingState, what: str) -> str:
        kept = "No state was saved yet."
        if self._run.last.is_file():
            kept = f"The last saved state is kept in {self._run.last.name} and can be resumed."
        return (
            f"The {what} at step {state.step}, after earlier weights were restored and the "
            f"learning rate was halved {MAX_RESTARTS} times. {kept} Lower training.learning_rate "
            f"or training.clip_norm and train again; `s2s fit CONFIG.yaml --find-learning-rate` "
            f"suggests a learning rate."
        )

    def state(self) -> dict[str, Any]:
        return {"smoothed_loss": self._smoothed, "smoothed_losses": self._num_smoothed}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._smoothed, self._num_smoothed = saved["smoothed_loss"], saved["smoothed_losses"]


def _sums_of(state: TrainingState) -> tuple[float, float, float, float]:
    return state.loss_sum, state.num_tokens, state.epoch_loss_sum, state.epoch_tokens
