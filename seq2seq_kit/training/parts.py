"""What a training consists of beside its steps: counters, and parts that are called at each event.

Learning-rate schedules, early stopping, the history, the progress display, TensorBoard and Keras
callbacks are parts. A new one is a subclass of `TrainingPart` and a line where it is created.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass
class TrainingState:
    """The counters of the training loop; saved in the newest checkpoint."""

    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Batches completed in the current epoch."""
    step: int = 0
    """Optimizer steps completed."""
    validated_step: int = 0
    """The step of the last validation."""
    seconds: float = 0.0
    """Wall-clock training time, over all resumptions."""
    validation_seconds: float = 0.0
    """Wall-clock time of the last validation, for which `max_minutes` leaves room."""
    loss_sum: float = 0.0
    """Training loss since the last validation, in nats, summed over tokens."""
    num_tokens: float = 0.0
    """Target tokens since the last validation."""
    epoch_loss_sum: float = 0.0
    """Training loss of the current epoch, in nats, summed over tokens."""
    epoch_tokens: float = 0.0
    """Target tokens of the current epoch."""
    divergences: int = 0
    """How often training diverged and went on from earlier weights."""
    step_is_open: bool = False
    """Whether something that follows the last step, such as a validation, is still to be done."""
    finished: str | None = None
    """Why training ended; None while it has not."""

    @property
    def last_epoch(self) -> int:
        """The index, from 0, of the epoch that the last step belongs to."""
        return self.epoch - (self.batch == 0)

    @property
    def learning_rate_factor(self) -> float:
        """What schedules multiply the learning rate by: it is halved at each divergence."""
        return float(0.5**self.divergences)

    @property
    def epoch_loss(self) -> float:
        """Mean training loss of a token of the current epoch, in nats."""
        return self.epoch_loss_sum / max(self.epoch_tokens, 1.0)

    def count_step(self, loss: float, num_tokens: float, num_steps: int) -> None:
        """Counts an optimizer step.

        Args:
            loss: Mean loss of its tokens, in nats.
            num_tokens: Its target tokens.
            num_steps: Steps of the current epoch.
        """
        self.loss_sum += loss * num_tokens
        self.num_tokens += num_tokens
        self.epoch_loss_sum += loss * num_tokens
        self.epoch_tokens += num_tokens
        self.step += 1
        self.batch += 1
        if self.batch == num_steps:
            self.epoch, self.batch = self.epoch + 1, 0


class TrainingPart:
    """Base class of a part of training: its hooks do nothing unless a subclass overrides them.

    The trainer calls the hooks of its parts in the order in which it lists the parts. A part that
    keeps anything from one step to another returns it in `state` or lists it in `variables`: it is
    saved in the newest checkpoint, so that a resumed training ends with the same weights as one
    that was never stopped. Names in `state` are unique among all parts of a training.

    The hooks, in the order in which they are called:

    - `after_resume`, once everything is restored from a checkpoint.
    - `begin`, when training begins or is resumed; then for each epoch
    - `begin_epoch`; then for each step
    - `before_step`; the optimizer updates the weights;
    - `after_update`; the step is counted. Where a validation is due, it is made, then
    - `after_validation`;
    - `end_epoch`, after the last step of an epoch, or of the training;
    - `before_save`, on all workers, where the state is about to be saved;
    - `after_save`, where the state has been saved;
    - `after_step`, when all of this is done.
    - `end`, when training has ended, at a limit or for another reason.
    - `close`, in any case, also after an error or a signal.
    """

    variables: Sequence[keras.Variable] = ()
    """Variables that are saved and restored, such as averages of weights."""

    def state(self) -> dict[str, Any]:
        """Returns what must be saved, as values that JSON can hold."""
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restores what `state` returned; a value that was not saved is the current one."""

    def after_resume(self, state: TrainingState) -> None:
        """Called once the counters and all parts are restored from a checkpoint."""

    def begin(self, state: TrainingState, num_steps: int) -> None:
        """Called before the first step; `num_steps` are those of the current epoch."""

    def begin_epoch(self, state: TrainingState, epoch: int, num_steps: int) -> None:
        """Called when an epoch, counted from 0, begins, or continues after training was resumed."""

    def before_step(self, state: TrainingState) -> None:
        """Called before each optimizer step."""

    def after_update(self, state: TrainingState) -> None:
        """Called as soon as the weights are updated and the step is counted."""

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        """Called after each validation.

        Args:
            state: The counters.
            record: What was measured: a record of the history.
            counts: Whether a result that is no better counts against patience. It does not where a
                limit ended training early after the previous validation: such a result says little,
                and a resumption with a higher limit would pay for it.
        """

    def end_epoch(self, state: TrainingState) -> None:
        """Called at the end of an epoch, and when training ends within one."""

    def before_save(self, state: TrainingState) -> None:
        """Called on all workers before `variables` are read to be saved."""

    def after_save(self, state: TrainingState) -> None:
        """Called once the state of training has been written to the run folder."""

    def after_step(self, state: TrainingState) -> None:
        """Called when a step and everything that follows it are done."""

    def reason_to_stop(self, state: TrainingState) -> str | None:
        """Returns why training should end now, as a clause for the log; None to continue."""
        return None

    def end(self, state: TrainingState) -> None:
        """Called when training has ended, but not after an error or a signal."""

    def close(self) -> None:
        """Called last, however training ended."""
