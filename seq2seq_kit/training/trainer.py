"""The training loop: fills a run folder with the best weights, the newest state and the history.

`Trainer` runs the steps, validates and saves. Everything else that happens
during training, such as learning-rate schedules and early stopping, is a `TrainingPart`. The loop
is our own because `keras.Model.fit` fails with several workers. It knows ids only: what needs
texts, such as BLEU, is passed in.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import keras
from tqdm.contrib.logging import logging_redirect_tqdm

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.batches import Batches, Plan
from seq2seq_kit.errors import TrainingInterrupted
from seq2seq_kit.interruption import Interrupted, SignalCatcher, catch_signals
from seq2seq_kit.training.averaging import AveragedWeights
from seq2seq_kit.training.checkpoint import Checkpoint
from seq2seq_kit.training.distribution import barrier, is_chief, mean_over_workers
from seq2seq_kit.training.divergence import Divergence
from seq2seq_kit.training.history import History
from seq2seq_kit.training.keras_callbacks import KerasCallbacks, need_validation_in_each_epoch
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.progress import Progress
from seq2seq_kit.training.records import Record
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.schedules import DropoutWarmUp, make_schedules
from seq2seq_kit.training.step import TrainingSteps
from seq2seq_kit.training.stopping import EarlyStopping, StopAtLimit, limits_of
from seq2seq_kit.training.tensorboard import TensorBoardEvents
from seq2seq_kit.training.validation import Validation

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a model until a limit, early stopping or a signal; can resume where it stopped.

    Args:
        steps: What trains and validates the model batch by batch.
        config: The `training` section.
        run: The folder to fill.
        train_set: The training batches.
        validation_set: The validation batches.
        text_metrics: Decodes the validation texts and returns `bleu` and `chrf`; required if early
            stopping uses one of them.
        callbacks: Keras callbacks; `KerasCallbacks` says which logs they get.
        parts: Parts of this training beside those that the config describes.
        run_name: A name that the run's config and checkpoints share, so that files of different
            runs are not mixed.
    """

    def __init__(
        self,
        steps: TrainingSteps,
        config: TrainingConfig,
        run: RunFolder,
        train_set: Batches,
        validation_set: Batches,
        *,
        text_metrics: Callable[[], Mapping[str, float]] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        parts: Sequence[TrainingPart] = (),
        run_name: str | None = None,
    ) -> None:
        self.model = steps.model
        self.run = run
        self.state = TrainingState()
        self._steps = steps
        self._config = config
        self._train_set = train_set
        self._strategy = steps.strategy
        writes = is_chief(self._strategy)
        limits = limits_of(config, train_set)
        self._history = History(run, writes=writes)
        self._averaged = AveragedWeights(self.model, config)
        self._early_stopping = EarlyStopping(
            config.early_stopping, self._averaged, self._history, run, run_name, writes=writes
        )
        self._divergence = Divergence(
            self.model, run, run_name, self._early_stopping, [self._averaged, steps.carried]
        )
        self._callbacks = KerasCallbacks(callbacks, self.model, self._history, limits)
        self._epochs_need_validation = need_validation_in_each_epoch(callbacks, config, train_set)
        self._progress = Progress(limits)
        self._validation = Validation(steps, config, validation_set, text_metrics)
        self._parts: list[TrainingPart] = [
            StopAtLimit(limits),
            self._history,
            *([TensorBoardEvents(run, self._history)] if config.tensorboard and writes else []),
            self._early_stopping,
            self._callbacks,
            self._divergence,
            self._averaged,
            *make_schedules(config, limits, self.model.optimizer),
            *([DropoutWarmUp(steps.dropout, config.dropout_warmup_steps)] if steps.dropout else []),
            steps.carried,
            *parts,
            self._progress,
        ]
        self._checkpoint = Checkpoint(
            run, run_name, self.model, self.state, self._parts, writes=writes
        )
        self._is_resumed = False
        self._signals = SignalCatcher(holds=True)
        self._started = time.monotonic()

    @property
    def history(self) -> list[Record]:
        """A record for each validation, oldest first."""
        return self._history.records

    def resume(self) -> None:
        """Restores the state that the run folder holds.

        Raises:
            RunError: If there is none, it is damaged, or it does not fit the model.
        """
        self._checkpoint.restore()
        self.state.finished = None
        self._is_resumed = True

    def fit(self) -> TrainingState:
        """Trains; returns the final state.

        Raises:
            InputError: If a callback put the weights of another training into the model.
            TrainingInterrupted: On Ctrl-C, SIGTERM or SIGHUP, after saving.
            RunError: If training diverges again and again.
        """
        with catch_signals(holds=True) as self._signals, logging_redirect_tqdm():
            try:
                self._check_whether_finished()
                if self.state.finished and not self.state.step_is_open:
                    self._report_nothing_to_train()
                else:
                    self._train()
            finally:
                for part in self._parts:
                    part.close()
        return self.state

    def _train(self) -> None:
        state = self.state
        self._begin()
        if state.step_is_open:
            self._begin_epoch(state.last_epoch)
            self._complete_step()
        while not state.finished:
            self._train_epoch()
        for part in self._parts:
            part.end(state)
        # The other workers may read the run folder only when the chief has written it.
        barrier(self._strategy)

    def _report_nothing_to_train(self) -> None:
        logger.info(
            "Nothing to train: %s. Raise that limit in `training` to continue.", self.state.finished
        )
        if not self._early_stopping.has_best:  # Interrupted before the first validation.
            self._validate()
            self._checkpoint.save()
            barrier(self._strategy)

    def _begin(self) -> None:
        state = self.state
        num_steps = len(self._train_set.plan(state.epoch))
        for part in self._parts:
            part.begin(state, num_steps)
        if self._callbacks.has_restored_backup(is_resumed=self._is_resumed):
            self.resume()  # The run's own state is at least as new, and complete.
        self._started = time.monotonic() - state.seconds

    def _begin_epoch(self, epoch: int) -> Plan:
        plan = self._train_set.plan(epoch)
        for part in self._parts:
            part.begin_epoch(self.state, epoch, len(plan))
        return plan

    def _train_epoch(self) -> None:
        """Trains the rest of the current epoch, or until training is finished."""
        state = self.state
        if state.batch == 0:
            state.epoch_loss_sum = state.epoch_tokens = 0.0
        plan = self._begin_epoch(state.epoch)
        for batch in self._steps.batches(self._train_set, plan, start=state.batch):
            self._train_step(batch, len(plan))
            self._complete_step()
            self._note_time()
            for part in self._parts:
                part.after_step(state)
            if mean_over_workers(self._strategy, self._signals.received is not None):
                # Of several workers, another one may have received the signal.
                self._stop(self._signals.received or signal.SIGTERM)
            if state.finished:
                return

    def _train_step(self, batch: Any, num_steps: int) -> None:
        """Updates the weights and counts the step."""
        state = self.state
        for part in self._parts:
            part.before_step(state)
        state.count_step(*self._steps.train(batch), num_steps)
        for part in self._parts:
            part.after_update(state)

    def _complete_step(self) -> None:
        """Does what follows a step: a validation if one is due, the end of an epoch, saving."""
        state = self.state
        state.step_is_open = True
        epoch_has_ended = state.batch == 0
        self._check_whether_finished()
        is_due = self._validation.is_due(state, epoch_has_ended)
        if state.validated_step < state.step and (is_due or self._needs_last_validation()):
            self._validate(counts=is_due)
            self._note_time()
            self._check_whether_finished()
            self._checkpoint.save()
        if epoch_has_ended or state.finished:
            for part in self._parts:
                part.end_epoch(state)
            self._check_whether_finished()
        state.step_is_open = False
        is_validated = state.validated_step == state.step
        if epoch_has_ended or state.finished or is_validated or self._checkpoint.is_due:
            self._checkpoint.save()

    def _note_time(self) -> None:
        self.state.seconds = mean_over_workers(self._strategy, time.monotonic() - self._started)

    def _check_whether_finished(self) -> None:
        """Notes why training should end, if a part gives a reason; the first reason counts."""
        for part in self._parts:
            if reason := part.reason_to_stop(self.state):
                self.state.finished = reason
                return

    def _needs_last_validation(self) -> bool:
        """Whether training is finished and the weights have changed since the last validation.

        Within a tenth of the usual interval they have changed too little to be worth another one.
        """
        state = self.state
        is_recent = state.step - state.validated_step <= self._config.validation_interval / 10
        can_skip = self._early_stopping.has_best and not self._epochs_need_validation
        return state.finished is not None and not (is_recent and can_skip)

    def _validate(self, *, counts: bool = False) -> None:
        """Measures the model on the validation set and passes the result to the parts.

        Args:
            counts: As in `TrainingPart.after_validation`.
        """
        state = self.state
        began = time.monotonic()
        record = self._measure()
        while not math.isfinite(record["val_loss"]):
            # The last update left weights that the next step would have found to be no numbers.
            self._divergence.restore_weights(state, f"validation loss became {record['val_loss']}")
            record = self._measure()
        state.loss_sum = state.num_tokens = 0.0
        state.validated_step = state.step
        with self._averaged.applied():  # Samples are those of the weights that were measured.
            for part in self._parts:
                part.after_validation(state, record, counts)
        state.validation_seconds = mean_over_workers(self._strategy, time.monotonic() - began)

    def _measure(self) -> Record:
        """Returns what a validation measures; a signal ends it, and then training."""
        # With several workers, all must do the same: they stop after the validation.
        is_alone = self._strategy.cluster_resolver is None
        try:
            with (
                self._averaged.applied(),
                self._signals.released() if is_alone else nullcontext(),
            ):
                speed = self._progress.tokens_per_second(self.state)
                return self._validation.measure(self.state, speed, self._callbacks.list)
        except Interrupted as interrupted:
            self._stop(interrupted.signal)

    def _stop(self, number: int) -> NoReturn:
        """Saves and raises TrainingInterrupted."""
        self._checkpoint.save()
        barrier(self._strategy)
        raise TrainingInterrupted(self.run.path, number)
