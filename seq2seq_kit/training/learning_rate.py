"""The learning-rate range test: a short training with a growing learning rate, and a suggestion.

Reference: Smith, 2017, section 3.3, https://arxiv.org/abs/1506.01186
"""

import itertools
import logging
import math
from typing import NamedTuple

from seq2seq_kit.data.batches import Batches
from seq2seq_kit.errors import RunError
from seq2seq_kit.training.step import TrainingSteps

_logger = logging.getLogger(__name__)

NUM_STEPS = 200
LOWEST, HIGHEST = 1e-5, 1.0

# The share of the past in the smoothed loss.
_SMOOTHING = 0.9
# Once the smoothed loss is this many times its lowest value, training has diverged.
_DIVERGED = 1.5
# Steps before which the smoothed loss says more of single batches than of the model.
_LEAST_STEPS = 20
_STEPS_BETWEEN_LINES = 50


class RangeTest(NamedTuple):
    """What a range test found."""

    learning_rates: list[float]
    """The learning rate of each step."""
    losses: list[float]
    """The smoothed training loss after each step, in nats per token."""

    @property
    def lowest(self) -> float:
        """The learning rate at which the loss was lowest: the next ones made it rise."""
        return self.learning_rates[min(range(len(self.losses)), key=self.losses.__getitem__)]

    @property
    def suggestion(self) -> float:
        """The learning rate to train with, of two digits: a tenth of `lowest`.

        That is within a factor of two of the learning rates that proved best for two starters of
        `s2s init`: 0.0042 beside 0.003 for the continuation, 0.0022 beside 0.004 for the
        translation. The steepest descent, which others take, is lost in the noise of small
        batches: 0.0005 and 0.0034.
        """
        return float(f"{self.lowest / 10:.2g}")


def run_range_test(
    steps: TrainingSteps, train_set: Batches, *, num_steps: int = NUM_STEPS
) -> RangeTest:
    """Trains while the learning rate grows exponentially from `LOWEST` to `HIGHEST`.

    Ends early once the loss has diverged. The weights are useless afterwards.

    Args:
        steps: What trains a model that has its first weights.
        train_set: The training batches; they are read again if there are fewer than steps.
        num_steps: The number of steps if the loss does not diverge.

    Raises:
        RunError: If the loss is not finite from the first step on.
    """
    learning_rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    batches = itertools.chain.from_iterable(
        steps.batches(train_set, train_set.plan(epoch)) for epoch in itertools.count()
    )
    for step, batch in enumerate(itertools.islice(batches, num_steps)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (num_steps - 1))
        steps.model.optimizer.learning_rate = rate
        loss, _ = steps.train(batch)
        if not math.isfinite(loss):
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        learning_rates.append(rate)
        losses.append(mean / (1 - _SMOOTHING ** (step + 1)))
        if step % _STEPS_BETWEEN_LINES == 0:
            _logger.info("step %d: learning rate %.2g, loss %.3f", step + 1, rate, losses[-1])
        if step > _LEAST_STEPS and losses[-1] > _DIVERGED * min(losses):
            break
    if len(losses) <= _LEAST_STEPS:
        raise RunError(
            f"The loss was not finite after {len(losses)} steps, at a learning rate of {rate:.2g}. "
            f"Check the data, or the weights that training starts from."
        )
    return RangeTest(learning_rates, losses)
