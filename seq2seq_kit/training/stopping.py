"""When training ends: at a limit, or without improvement.

Early stopping also decides which weights are the best, and keeps them.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from seq2seq_kit.archive import save_archive
from seq2seq_kit.config import EarlyStoppingConfig, TrainingConfig
from seq2seq_kit.data.batches import Batches
from seq2seq_kit.errors import RunError
from seq2seq_kit.training.averaging import AveragedWeights
from seq2seq_kit.training.checkpoint import load_of_run, variable_arrays
from seq2seq_kit.training.history import History
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import Record
from seq2seq_kit.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class Limits(NamedTuple):
    """Where training ends at the latest; None is no limit."""

    epochs: int | None
    steps: int | None
    minutes: float | None

    def progress(self, state: TrainingState, steps_per_epoch: int) -> float:
        """Returns the share of the training that is done, from 0 to 1, by the nearest limit.

        Args:
            state: The counters.
            steps_per_epoch: Steps of the current epoch.
        """
        shares = []
        if self.epochs is not None:
            shares.append((state.epoch + state.batch / steps_per_epoch) / self.epochs)
        if self.steps is not None:
            shares.append(state.step / self.steps)
        if self.minutes is not None:
            # The time of the last validation is left free, as by `StopAtLimit`.
            seconds = 60 * self.minutes - state.validation_seconds
            shares.append(state.seconds / seconds if seconds > 0 else 1.0)
        return min(max(shares), 1.0)


def limits_of(config: TrainingConfig, train_set: Batches) -> Limits:
    """Returns the limits of a config; where it has none, a number of epochs that suits the data."""
    epochs = config.epochs
    if config.has_no_limit:
        epochs = config.default_epochs(len(train_set.plan(0)))
    return Limits(epochs, config.max_steps, config.max_minutes)


class StopAtLimit(TrainingPart):
    """Ends training when a limit is reached; leaves time for the last validation.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def reason_to_stop(self, state: TrainingState) -> str | None:
        epochs, steps, minutes = self._limits
        seconds = state.seconds
        if state.validated_step != state.step:
            seconds += state.validation_seconds
        if epochs is not None and state.epoch >= epochs:
            return _limit_reached(epochs, "epoch", "done")
        if steps is not None and state.step >= steps:
            return _limit_reached(steps, "step", "done")
        if minutes is not None and seconds >= 60 * minutes:
            return _limit_reached(minutes, "minute", "over")
        return None


def _limit_reached(number: float, unit: str, how: str) -> str:
    """Returns why training ended, such as `1 epoch is done` or `2.5 minutes are over`."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {unit} is {how}" if number == 1 else f"{shown} {unit}s are {how}"


class EarlyStopping(TrainingPart):
    """Keeps the weights with the best validation result; ends training when none has been better.

    The best weights are written after the state that says which they are: where training is killed
    between the two, resuming writes them.

    Args:
        config: The section `training.early_stopping`.
        averaged: The weights that are validated, and kept if they are the best.
        history: The history of the same training.
        run: The run folder.
        run_name: The name of the run that is written into its checkpoints.
        writes: Whether this process writes the run folder.
    """

    def __init__(
        self,
        config: EarlyStoppingConfig,
        averaged: AveragedWeights,
        history: History,
        run: RunFolder,
        run_name: str | None,
        *,
        writes: bool,
    ) -> None:
        self._averaged = averaged
        self._run = run
        self._history = history
        self._metric = config.metric
        self._patience = config.patience
        self._run_name = run_name
        self._writes = writes
        self._best_value: float | None = None
        self._best_step: int | None = None
        self._validations_since_best = 0
        self._saved_step: int | None = None

    @property
    def has_best(self) -> bool:
        """Whether a validation has chosen best weights."""
        return self._best_value is not None

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        value = record[f"val_{self._metric}"]
        sign = -1.0 if self._metric == "loss" else 1.0
        if self._best_value is None or sign * value > sign * self._best_value:
            self._best_value, self._best_step = value, state.step
            self._validations_since_best = 0
        else:
            self._validations_since_best += counts

    def reason_to_stop(self, state: TrainingState) -> str | None:
        if self._validations_since_best < self._patience:
            return None
        return f"no better validation {self._metric} for {self._validations_since_best} validations"

    def after_save(self, state: TrainingState) -> None:
        if self._best_step == state.step != self._saved_step:
            self._save(self._history.records[-1])

    def _save(self, record: Record) -> None:
        """Writes the weights that were validated last as the best ones."""
        if not self._writes:
            return
        arrays = variable_arrays(self._averaged.weights, "weights")
        metadata = {"run": self._run_name, **record}
        save_archive(self._run.best, arrays, metadata, "The best weights")
        self._saved_step = self._best_step

    def after_resume(self, state: TrainingState) -> None:
        """Makes sure that the file of the best weights belongs to the restored state.

        Raises:
            RunError: If the file is damaged.
        """
        if self._best_value is None:
            return
        if self._best_step == state.step:
            # Training may have been killed after the state and before the best weights were saved.
            self._save(self._history.records[-1])
            return
        if not self._run.best.is_file():
            logger.warning(
                "%s is missing. Training resumes without it: the best weights are chosen among "
                "those from step %d on.",
                self._run.best,
                state.step,
            )
            self._best_value, self._best_step, self._validations_since_best = None, None, 0
            return
        try:
            best = load_of_run(self._run.best, self._run_name).metadata
        except RunError as error:
            raise RunError(
                f"{error} Or remove it and resume: the best weights are then chosen among those "
                f"from step {state.step} on."
            ) from error
        if self._best_step not in (None, best["step"]):
            logger.warning(
                "%s is from step %d, but step %d was the best: the weights of step %d count as the "
                "best from now on.",
                self._run.best,
                best["step"],
                self._best_step,
                best["step"],
            )
            self._best_step = best["step"]
            self._best_value = best[f"val_{self._metric}"]

    def state(self) -> dict[str, Any]:
        return {
            "best_value": self._best_value,
            "best_step": self._best_step,
            "validations_since_best": self._validations_since_best,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._best_value = saved["best_value"]
        self._best_step = saved["best_step"]  # None in runs of older versions
        self._validations_since_best = saved["validations_since_best"]
