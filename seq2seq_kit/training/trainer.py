"""The training loop: fills a run folder with the best weights, the newest state and the history.

A loop of our own over a `tf.distribute` strategy, because Keras's `fit` fails with several
workers; Keras callbacks get their hooks all the same. Knows ids only: what needs text, such as
BLEU, is passed in as a function.
"""

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, NoReturn

import keras
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from seq2seq_kit.archive import save_archive
from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.config.sections import MIN_STEPS_TO_VALIDATION
from seq2seq_kit.data.batches import make_dataset
from seq2seq_kit.data.plan import BatchSet, EpochPlan
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted, shorten
from seq2seq_kit.interruption import Interrupted, SignalCatcher, catch_signals
from seq2seq_kit.model.matmul import matmul_precision
from seq2seq_kit.model.networks import TokenModel
from seq2seq_kit.training.checkpoint import assign_variables, load_of_run, variable_arrays
from seq2seq_kit.training.distribution import barrier, is_chief, mean_over_workers
from seq2seq_kit.training.history import add_to_history, read_metrics, write_history
from seq2seq_kit.training.losses import MaskedCrossEntropy, cross_entropy, projected_cross_entropy
from seq2seq_kit.training.optimizer import FusedAdam
from seq2seq_kit.training.progress import Limits, Place, ProgressLog
from seq2seq_kit.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

# A killed process loses at most this much training.
_SAVE_EVERY_SECONDS = 600


@dataclass
class TrainingState:
    """Where training stands, but for variables; saved as JSON in the newest checkpoint."""

    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Batches done of the present epoch's plan."""
    step: int = 0
    """Optimizer steps."""
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
    """Training loss of the present epoch, in nats, summed over tokens."""
    epoch_tokens: float = 0.0
    """Target tokens of the present epoch."""
    step_is_open: bool = False
    """Whether something that follows the last step, such as a validation, was not completed."""
    best_value: float | None = None
    """The best value of the early-stopping metric."""
    best_step: int | None = None
    """The step of that value; None in runs of older versions."""
    validations_since_best: int = 0
    best_loss: float | None = None
    """The best validation loss, by which the learning rate decays."""
    validations_on_plateau: int = 0
    finished: str | None = None
    """Why training ended; None while it has not."""


class Trainer:
    """Trains a model until a limit, early stopping or a signal; can resume where it stopped.

    Args:
        model: A built network, made under the scope of `strategy`.
        config: The `training` section.
        run: The folder to fill.
        train_set: The training batches.
        validation_set: The validation batches.
        strategy: How the work is spread over devices.
        text_metrics: Decodes the validation texts and returns `bleu` and `chrf`; needed if early
            stopping goes by one of them.
        show_samples: Called after each validation, to show outputs.
        callbacks: Keras callbacks; they get the hooks, logs and params that `keras.Model.fit`
            gives. The loss in the logs is the mean of the epoch so far; `val_loss`,
            `val_perplexity` and, if they are measured, `val_bleu` and `val_chrf` are in the logs
            at the end of an epoch in which there was a validation.
        run_name: What the run's config and checkpoints say, so that they are known to belong
            together.
    """

    def __init__(
        self,
        model: TokenModel,
        config: TrainingConfig,
        run: RunFolder,
        train_set: BatchSet,
        validation_set: BatchSet,
        *,
        strategy: tf.distribute.Strategy,
        text_metrics: Callable[[], Mapping[str, float]] | None = None,
        show_samples: Callable[[], None] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        run_name: str | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.run = run
        self.train_set = train_set
        self.validation_set = validation_set
        self.strategy = strategy
        self.text_metrics = text_metrics
        self.show_samples = show_samples
        self.run_name = run_name
        self.state = TrainingState()
        self.history: list[dict[str, float]] = []
        self._saved_best_step: int | None = None
        self._max_epochs = config.epochs
        if config.has_no_limit:
            self._max_epochs = config.default_epochs(len(train_set.plan(0)))
        with strategy.scope():
            model.compile(
                optimizer=FusedAdam(config.learning_rate),
                loss=MaskedCrossEntropy(config.label_smoothing),
            )
            model.optimizer.build(model.trainable_variables)
        self._epochs_need_validation = self._check_paths(callbacks)
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=True, model=model
        )
        self._begun_epoch: int | None = None
        self._started = time.monotonic()
        self._is_resumed = False
        self._signals = SignalCatcher(holds=True)
        self._train_function = tf.function(self._replicated_train_step, autograph=False)
        self._validation_function = tf.function(self._replicated_validation, autograph=False)
        self._train_step: Callable[[Any], Any] = self._train_function
        self._validation_step: Callable[[Any], Any] = self._validation_function
        self._saved_at = time.monotonic()
        self._progress_log = ProgressLog(
            Limits(self._max_epochs, config.max_steps, config.max_minutes), has_bar=_has_bar()
        )
        # When and at how many tokens the speed that is shown began to be measured.
        self._speed_since = (self._saved_at, 0.0)

    def resume(self) -> None:
        """Takes up the state that the run folder holds.

        Raises:
            RunError: If there is none, or it does not fit the model.
        """
        checkpoint = load_of_run(self.run.last, self.run_name)
        assign_variables(self.model.variables, checkpoint, "model")
        assign_variables(self.model.optimizer.variables, checkpoint, "optimizer")
        metadata = {name: value for name, value in checkpoint.metadata.items() if name != "run"}
        # Older versions kept the history in metrics.jsonl alone. A validation after the newest
        # checkpoint is done, and noted, again.
        records = metadata.pop("history", None) or read_metrics(self.run)
        try:
            self.state = TrainingState(**metadata)
        except TypeError as error:
            raise RunError(
                f"The checkpoint {self.run.last} is damaged ({error}). Restore it from a copy, or "
                f"train again."
            ) from error
        self.state.finished = None
        self._is_resumed = True
        self.history = [record for record in records if record["step"] <= self.state.step]
        self._find_best()
        if self._is_chief:
            write_history(self.run, self.history, tensorboard=self.config.tensorboard)

    def _find_best(self) -> None:
        """Makes sure that the best weights are those of the state that training resumes from.

        Raises:
            RunError: If they are damaged.
        """
        state = self.state
        if state.best_value is None:
            return
        if state.best_step == state.step:
            # Training may have ended between the writing of the state and of the best weights.
            if self._is_chief:
                self._save_best(self.history[-1])
            return
        if not self.run.best.is_file():
            logger.warning(
                "%s is missing. Training resumes without it: the best weights are chosen among "
                "those from step %d on.",
                self.run.best,
                state.step,
            )
            state.best_value, state.best_step, state.validations_since_best = None, None, 0
            return
        try:
            best = load_of_run(self.run.best, self.run_name).metadata
        except RunError as error:
            raise RunError(
                f"{error} Or remove it and resume: the best weights are then chosen among those "
                f"from step {state.step} on."
            ) from error
        if state.best_step not in (None, best["step"]):
            logger.warning(
                "%s is of step %d, where step %d was the best: it counts as the best from now on.",
                self.run.best,
                best["step"],
                state.best_step,
            )
            state.best_step = best["step"]
            state.best_value = best[f"val_{self.config.early_stopping.metric}"]

    def fit(self) -> TrainingState:
        """Trains; returns the final state.

        Raises:
            TrainingInterrupted: On Ctrl-C, SIGTERM or SIGHUP, after saving.
            RunError: If the loss is no number any more.
        """
        with catch_signals(holds=True) as self._signals, logging_redirect_tqdm():
            return self._fit()

    def _fit(self) -> TrainingState:
        state = self.state
        self._check_limits()
        if state.finished and not state.step_is_open:
            logger.info(
                "Nothing to train: %s. Raise what limits it in `training` to go on.", state.finished
            )
            if state.best_value is None:  # Interrupted before the first validation.
                self._validate()
                self._save_last()
                barrier(self.strategy)
            return state
        self.model.stop_training = False
        self._begin_training()
        state = self.state  # Another one, if a callback made it resume again.
        self._started = time.monotonic() - state.seconds
        self._speed_since = (time.monotonic(), state.num_tokens)
        if state.step_is_open:
            self._begin_epoch(state.epoch - (state.batch == 0))
            self._end_step()
        while not state.finished:
            plan = self.train_set.plan(state.epoch)
            with self._progress(plan) as progress:
                for logs in self._epoch(plan):
                    self._note_time()
                    self._show(progress, plan, logs)
                    if mean_over_workers(self.strategy, self._signals.received is not None):
                        # Of several workers another one may have been signaled.
                        self._stop(self._signals.received or signal.SIGTERM)
        self._callbacks.on_train_end(self._epoch_logs(state.epoch - (state.batch == 0)))
        # The other workers may read the run folder only when the chief has written it.
        barrier(self.strategy)
        return state

    def _begin_training(self) -> None:
        """Tells the callbacks that training begins.

        Raises:
            InputError: If one of them put weights of another training into the model.
        """
        self._set_params(self.train_set.plan(self.state.epoch))
        self._callbacks.on_train_begin()
        # What BackupAndRestore sets when it has restored a backup.
        if self.model._initial_epoch is None:
            return
        if not self._is_resumed:
            raise InputError(
                f"BackupAndRestore has put the weights of a training that ended before epoch "
                f"{self.model._initial_epoch + 1} into a new run. Remove its backup_dir to "
                f"train from the start, or resume that run (--resume, in Python resume=True)."
            )
        self.model._initial_epoch = None
        self.resume()  # The run's own state is as new or newer, and whole.

    def _set_params(self, plan: EpochPlan) -> None:
        """Gives the callbacks the numbers of epochs and steps as Keras does.

        Where training is limited by steps or minutes only, they get the epochs known so far.
        """
        epochs = self._max_epochs
        if epochs is None:
            epochs = self.state.epoch + 1
            if self.config.max_steps is not None:
                epochs = max(epochs, math.ceil(self.config.max_steps / len(plan)))
        params = {"verbose": "auto", "epochs": epochs, "steps": len(plan)}
        if params != self._callbacks.params:
            self._callbacks.set_params(params)

    def _begin_epoch(self, epoch: int) -> None:
        """Tells the callbacks that an epoch begins, or goes on in this process."""
        if self._begun_epoch != epoch:
            self._begun_epoch = epoch
            self._callbacks.on_epoch_begin(epoch)

    def _stop(self, number: int) -> NoReturn:
        """Saves and raises TrainingInterrupted."""
        self._save_last()
        barrier(self.strategy)
        raise TrainingInterrupted(self.run.path, number)

    def _epoch(self, plan: EpochPlan) -> Iterator[dict[str, float]]:
        """Trains the rest of an epoch, or until training is finished; yields at each step."""
        state = self.state
        self._set_params(plan)
        if state.batch == 0:
            state.epoch_loss_sum = state.epoch_tokens = 0.0
        self._begin_epoch(state.epoch)
        for batch in self._batches(self.train_set, plan, start=state.batch):
            logs = self._train(batch)
            state.batch += 1
            if state.batch == len(plan):
                state.epoch, state.batch = state.epoch + 1, 0
            self._end_step()
            yield logs
            if state.finished:
                return

    def _end_step(self) -> None:
        """Does what follows a step: a validation if one is due, the end of an epoch, saving."""
        state = self.state
        state.step_is_open = True
        ended = state.batch == 0
        self._check_limits()
        is_due = self._validation_is_due(ended)
        if state.validated_step < state.step and (is_due or self._needs_last_validation()):
            self._validate(counts=is_due)
            self._note_time()
            self._check_limits()
            self._save_last()
        if ended or state.finished:
            epoch = state.epoch - ended
            self._callbacks.on_epoch_end(epoch, self._epoch_logs(epoch))
            self._check_limits()
        state.step_is_open = False
        is_old = time.monotonic() - self._saved_at > _SAVE_EVERY_SECONDS
        if ended or state.finished or state.validated_step == state.step or is_old:
            self._save_last()

    def _note_time(self) -> None:
        self.state.seconds = mean_over_workers(self.strategy, time.monotonic() - self._started)

    def _train(self, batch: Any) -> dict[str, float]:
        """Runs one optimizer step; returns the epoch's mean loss so far."""
        state = self.state
        self._callbacks.on_train_batch_begin(state.batch)
        if state.step < self.config.warmup_steps:
            share = (state.step + 1) / self.config.warmup_steps
            self.model.optimizer.learning_rate = self.config.learning_rate * share
        loss, num_tokens = (float(value) for value in self._train_step(batch))
        state.epoch_loss_sum += loss * num_tokens
        state.epoch_tokens += num_tokens
        logs = {"loss": state.epoch_loss_sum / state.epoch_tokens}
        self._callbacks.on_train_batch_end(state.batch, logs)
        if not math.isfinite(loss):
            raise RunError(
                f"The loss became {loss} at step {state.step + 1}. {self._what_is_kept()} Lower "
                f"training.learning_rate or training.clip_norm and train again."
            )
        state.step += 1
        state.loss_sum += loss * num_tokens
        state.num_tokens += num_tokens
        return logs

    def _what_is_kept(self) -> str:
        name = self.run.last.name
        if not self.run.last.is_file():
            return "No state was saved yet."
        return f"The last saved state is kept in {name} and can be resumed."

    def _replicated_train_step(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
        losses = self.strategy.run(self._replica_train_step, args=(batch,))
        num_tokens = self.strategy.experimental_local_results(batch["num_tokens"])[0]
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None), num_tokens

    def _replica_train_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Applies the gradient of the global batch's mean loss; returns its part of that loss."""
        variables = self.model.trainable_variables
        with matmul_precision(self.config.precision):
            with tf.GradientTape() as tape:
                loss = projected_cross_entropy(
                    self.model.decoder_outputs(batch, training=True),
                    self.model.output_layer(),
                    batch["target_ids"],
                    batch["weights"] / batch["num_tokens"],
                    label_smoothing=self.config.label_smoothing,
                )
            gradients = [tf.convert_to_tensor(part) for part in tape.gradient(loss, variables)]
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            # Clipping needs the whole gradient; the optimizer will add up the replicas' again.
            summed = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [part / replicas.num_replicas_in_sync for part in summed]
        clip_norm = self.config.clip_norm / replicas.num_replicas_in_sync
        norm = tf.linalg.global_norm(gradients)
        gradients = tf.cond(
            norm > clip_norm,
            lambda: tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)[0],
            lambda: gradients,  # Most are short enough: a pass over all of them less.
        )
        self.model.optimizer.apply(gradients, variables)
        return loss

    def _replicated_validation(self, batch: Any) -> tf.Tensor:
        sums = self.strategy.run(self._replica_validation, args=(batch,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _replica_validation(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = self.model(batch, training=False)
        nll = cross_entropy(logits, batch["target_ids"]).negative_log_likelihood
        weights = batch["weights"]
        return tf.stack([tf.reduce_sum(nll * weights), tf.reduce_sum(weights)])

    def _validate(self, *, counts: bool = False) -> None:
        """Measures, notes the result, keeps the best weights and adapts the learning rate.

        Args:
            counts: Whether a result that is no better counts for early stopping and the plateau.
                After a part of the usual steps, where a limit ended training, it would say little,
                and a resumption with a higher limit would pay for it.
        """
        state = self.state
        began = time.monotonic()
        try:
            # Several workers must do the same: theirs end after the validation.
            alone = self.strategy.cluster_resolver is None
            with self._signals.released() if alone else nullcontext():
                record = self._measure()
        except Interrupted as interrupted:
            self._stop(interrupted.signal)
        state.loss_sum = state.num_tokens = 0.0
        state.validated_step = state.step
        self._note(record)
        self._keep_best(record, counts)
        self._decay_learning_rate(record["val_loss"], counts)
        if self.show_samples is not None:
            self.show_samples()
        state.validation_seconds = mean_over_workers(self.strategy, time.monotonic() - began)
        self._speed_since = (time.monotonic(), 0.0)

    def _measure(self) -> dict[str, float]:
        """Returns the record of a validation. Changes nothing, so that it can be interrupted."""
        state = self.state
        self._callbacks.on_test_begin()
        record = {
            "step": state.step,
            "epoch": state.epoch + (state.batch > 0),
            "seconds": round(state.seconds, 1),
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "tokens_per_second": round(self._tokens_per_second(), 1),
            "loss": state.loss_sum / max(state.num_tokens, 1.0),
            "val_loss": self.mean_loss(self.validation_set, callbacks=self._callbacks),
        }
        record["val_perplexity"] = math.exp(min(record["val_loss"], 700.0))
        if self.text_metrics is not None:
            record |= {f"val_{name}": value for name, value in self.text_metrics().items()}
        logs = {name.removeprefix("val_"): value for name, value in _validation(record).items()}
        self._callbacks.on_test_end(logs)
        return record

    def _tokens_per_second(self) -> float:
        """Returns the speed of training since the last validation, in target tokens."""
        since, num_tokens = self._speed_since
        return (self.state.num_tokens - num_tokens) / max(time.monotonic() - since, 1e-9)

    def mean_loss(
        self, batch_set: BatchSet, *, callbacks: keras.callbacks.CallbackList | None = None
    ) -> float:
        """Returns the mean negative log-likelihood of a target token, in nats.

        Args:
            batch_set: The batches.
            callbacks: They are called before and after each batch.
        """
        total = tf.zeros([2], tf.float64)
        for index, batch in enumerate(self._batches(batch_set, batch_set.plan(0))):
            if callbacks is not None:
                callbacks.on_test_batch_begin(index)
            total += tf.cast(self._validation_step(batch), tf.float64)
            if callbacks is not None:
                callbacks.on_test_batch_end(index, {"loss": float(total[0] / total[1])})
        nll, num_tokens = (float(value) for value in total)
        return nll / num_tokens

    def _keep_best(self, record: dict[str, float], counts: bool) -> None:
        """Notes whether the early-stopping metric is the best so far; counts if it is not.

        `_save_last` writes the weights, once the state that says so is written: where training
        ends between the two, resuming it writes them.
        """
        state, metric = self.state, self.config.early_stopping.metric
        value = record[f"val_{metric}"]
        sign = -1.0 if metric == "loss" else 1.0
        if state.best_value is None or sign * value > sign * state.best_value:
            state.best_value, state.best_step, state.validations_since_best = value, state.step, 0
            return
        state.validations_since_best += counts

    def _decay_learning_rate(self, loss: float, counts: bool) -> None:
        """Multiplies the learning rate by `plateau_factor` when the loss has stopped falling."""
        state, optimizer = self.state, self.model.optimizer
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.validations_on_plateau = loss, 0
            return
        state.validations_on_plateau += counts
        is_warm = state.step >= self.config.warmup_steps
        if is_warm and state.validations_on_plateau >= self.config.plateau_patience:
            state.validations_on_plateau = 0
            optimizer.learning_rate = (
                float(optimizer.learning_rate.numpy()) * self.config.plateau_factor
            )

    def _validation_is_due(self, epoch_ended: bool) -> bool:
        state, every = self.state, self.config.validate_every
        if every is not None:
            return state.step % every == 0
        return epoch_ended and state.step - state.validated_step >= MIN_STEPS_TO_VALIDATION

    def _needs_last_validation(self) -> bool:
        """Whether training is finished and the weights have changed since the last validation.

        Within a tenth of the usual interval they have changed too little to be worth another one.
        """
        state = self.state
        interval = self.config.validate_every or MIN_STEPS_TO_VALIDATION
        is_recent = state.step - state.validated_step <= interval / 10
        skips = is_recent and state.best_value is not None and not self._epochs_need_validation
        return state.finished is not None and not skips

    def _check_limits(self) -> None:
        """Notes why training is finished, if it is."""
        state, config = self.state, self.config
        if self._max_epochs is not None and state.epoch >= self._max_epochs:
            state.finished = _limit_reached(self._max_epochs, "epoch", "done")
        elif config.max_steps is not None and state.step >= config.max_steps:
            state.finished = _limit_reached(config.max_steps, "step", "done")
        elif config.max_minutes is not None and self._seconds_needed() >= 60 * config.max_minutes:
            state.finished = _limit_reached(config.max_minutes, "minute", "over")
        elif state.validations_since_best >= config.early_stopping.patience:
            state.finished = (
                f"no better validation {config.early_stopping.metric} for "
                f"{state.validations_since_best} validations"
            )
        elif getattr(self.model, "stop_training", False):
            state.finished = "a callback asked to stop"

    def _seconds_needed(self) -> float:
        """Returns the time trained and, where one is still to come, that of a last validation."""
        state = self.state
        is_validated = state.validated_step == state.step
        return state.seconds + (0.0 if is_validated else state.validation_seconds)

    def _share_done(self, plan: EpochPlan) -> float:
        """Returns how much of the nearest limit is used up, from 0 to 1."""
        state, config = self.state, self.config
        epochs = state.epoch + state.batch / len(plan)
        shares = [
            done / limit
            for done, limit in (
                (epochs, self._max_epochs),
                (state.step, config.max_steps),
                (state.seconds / 60, config.max_minutes),
            )
            if limit is not None
        ]
        return min(1.0, max(shares))

    def _batches(self, batch_set: BatchSet, plan: EpochPlan, start: int = 0) -> Iterator[Any]:
        """Yields the batches of a plan from `start` on, spread over the replicas."""
        replicas = self.strategy.num_replicas_in_sync
        # A dataset reads its plan only as long as somebody holds it (see `make_dataset`).
        held = []

        def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
            held.append(
                make_dataset(
                    batch_set.data,
                    plan,
                    start=start,
                    worker=context.input_pipeline_id,
                    num_workers=context.num_input_pipelines,
                    replicas_per_worker=replicas // context.num_input_pipelines,
                )
            )
            return held[-1]

        batches = self.strategy.distribute_datasets_from_function(make)
        self._trace(batch_set, batches.element_spec)
        yield from batches

    def _trace(self, batch_set: BatchSet, batch_spec: Any) -> None:
        """Traces a step for batches of any shape, or each new shape would be traced anew."""
        # What is traced here stays a graph where other code has functions run eagerly.
        if batch_set is self.train_set:
            self._train_step = self._train_function.get_concrete_function(batch_spec)
        else:
            self._validation_step = self._validation_function.get_concrete_function(batch_spec)

    def _epoch_logs(self, epoch: int) -> dict[str, float]:
        """Returns what `on_epoch_end` gets: the loss, and the last validation of that epoch."""
        logs = {"loss": self.state.epoch_loss_sum / max(self.state.epoch_tokens, 1.0)}
        if self.history and self.history[-1]["epoch"] == epoch + 1:
            logs |= _validation(self.history[-1])
        return logs

    def _check_paths(self, callbacks: Sequence[keras.callbacks.Callback]) -> bool:
        """Returns whether a callback's path needs the results of a validation in each epoch.

        Raises:
            InputError: If epochs end without a validation.
        """
        paths = [getattr(callback, "filepath", "") for callback in callbacks]
        wants = [path for path in paths if "{val_" in str(path)]
        if not wants:
            return False
        num_steps = len(self.train_set.plan(0))
        every = self.config.validate_every
        if num_steps < (MIN_STEPS_TO_VALIDATION if every is None else every):
            raise InputError(
                f"The path {wants[0]} of a callback holds a result of validation, but epochs of "
                f"{num_steps} steps end without a validation. Set training.validate_every to "
                f"{num_steps}, or choose another path."
            )
        return True

    def _note(self, record: dict[str, float]) -> None:
        """Adds a validation to the history: in memory, metrics.jsonl, TensorBoard and the log."""
        self.history.append(record)
        others = "".join(
            f", {name} {record[f'val_{name}']:.1f}"
            for name in ("bleu", "chrf")
            if f"val_{name}" in record
        )
        logger.info(
            "step %d (epoch %d): loss %.3f, validation loss %.3f, perplexity %.4g%s, "
            "%.0f tokens/s, learning rate %.2g",
            *(record[key] for key in ("step", "epoch", "loss", "val_loss", "val_perplexity")),
            others,
            record["tokens_per_second"],
            record["learning_rate"],
        )
        if self._is_chief:
            add_to_history(self.run, self.history, tensorboard=self.config.tensorboard)

    def _save_last(self) -> None:
        """Saves the state, then the weights if they are the best so far and not saved yet."""
        self._saved_at = time.monotonic()
        if not self._is_chief:
            return
        state = self.state
        model = variable_arrays(self.model.variables, "model")
        optimizer = variable_arrays(self.model.optimizer.variables, "optimizer")
        metadata = {"run": self.run_name, "history": self.history, **asdict(state)}
        save_archive(self.run.last, chain(model, optimizer), metadata, "The state of training")
        if state.best_step == state.step != self._saved_best_step:
            self._save_best(self.history[-1])

    def _save_best(self, record: Mapping[str, float]) -> None:
        """Saves the weights, which are the best so far."""
        arrays = variable_arrays(self.model.trainable_variables, "weights")
        metadata = {"run": self.run_name, **record}
        save_archive(self.run.best, arrays, metadata, "The best weights")
        self._saved_best_step = self.state.step

    @property
    def _is_chief(self) -> bool:
        return is_chief(self.strategy)

    def _progress(self, plan: EpochPlan) -> tqdm:
        """Returns the epoch's progress bar, shown on a terminal and in a notebook only."""
        of_epochs = f"/{self._max_epochs}" if self._max_epochs else ""
        return tqdm(
            total=len(plan),
            initial=self.state.batch,
            desc=f"epoch {self.state.epoch + 1}{of_epochs}",
            unit="batch",
            disable=not _has_bar(),
            leave=False,
        )

    def _show(self, progress: tqdm, plan: EpochPlan, logs: dict[str, float]) -> None:
        """Moves the progress bar and puts loss, speed and the time left behind it, or logs them."""
        state = self.state
        loss = state.loss_sum / state.num_tokens if state.num_tokens else None
        self._progress_log.step_is_done(
            Place(state.step, state.epoch + state.batch / len(plan), state.seconds),
            steps_per_epoch=len(plan),
            loss=loss,
            tokens_per_second=self._tokens_per_second(),
        )
        progress.update()
        if progress.disable or self.state.num_tokens == 0:
            return
        share = self._share_done(plan)
        left = self.state.seconds * (1 - share) / max(share, 1e-9)
        progress.set_postfix_str(
            f"loss {logs['loss']:.3f}, {self._tokens_per_second():.0f} tokens/s, "
            f"at most {tqdm.format_interval(left)} left"
        )


def _limit_reached(number: float, unit: str, how: str) -> str:
    """Returns why training is finished, such as `1 epoch is done` or `2.5 minutes are over`."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {unit} is {how}" if number == 1 else f"{shown} {unit}s are {how}"


def _has_bar() -> bool:
    """Whether a progress bar is shown: on a terminal and in a notebook."""
    return (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules


def check_callbacks(callbacks: Iterable[Any]) -> list[keras.callbacks.Callback]:
    """Returns callbacks as a list.

    Raises:
        InputError: If one is no callback of Keras, or cannot work here.
    """
    if not isinstance(callbacks, Iterable):
        raise InputError(
            f"`callbacks` must be a list of Keras callbacks. Received: {shorten(callbacks)}."
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(
                f"`callbacks` must be a list of Keras callbacks. Received: {shorten(callback)}."
            )
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            raise InputError(
                "The callback SwapEMAWeights needs an optimizer that keeps a moving average of the "
                "weights, and training here keeps none. Leave it out."
            )
    return callbacks


def _validation(record: Mapping[str, float]) -> dict[str, float]:
    """Returns the results of validation in a record of the history."""
    return {name: value for name, value in record.items() if name.startswith("val_")}
