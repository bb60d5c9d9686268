"""Keras callbacks in our training loop: called with the hooks and logs of `keras.Model.fit`."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.batches import Batches
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.training.history import History
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import validation_results
from seq2seq_kit.training.stopping import Limits


class KerasCallbacks(TrainingPart):
    """Calls Keras callbacks as `keras.Model.fit` does.

    The loss in the logs is the mean of the epoch so far. `val_loss`, `val_perplexity` and, if they
    are measured, `val_bleu` and `val_chrf` are in the logs at the end of an epoch in which there
    was a validation.

    Args:
        callbacks: The callbacks.
        model: The network, compiled.
        history: The history of the same training.
        limits: Where training ends at the latest.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        history: History,
        limits: Limits,
    ) -> None:
        self.list = keras.callbacks.CallbackList(list(callbacks), add_history=True, model=model)
        """The callbacks as one; their hooks around a validation are the trainer's to call."""
        self._model = model
        self._history = history
        self._limits = limits
        self._epoch: int | None = None  # the last one whose beginning the callbacks know
        self._batch = 0

    def begin(self, state: TrainingState, num_steps: int) -> None:
        self._model.stop_training = False
        self._set_params(state.epoch, num_steps)
        self.list.on_train_begin()

    def begin_epoch(self, state: TrainingState, epoch: int, num_steps: int) -> None:
        self._set_params(state.epoch, num_steps)
        if self._epoch != epoch:
            self._epoch = epoch
            self.list.on_epoch_begin(epoch)

    def before_step(self, state: TrainingState) -> None:
        self._batch = state.batch
        self.list.on_train_batch_begin(self._batch)

    def after_update(self, state: TrainingState) -> None:
        self.list.on_train_batch_end(self._batch, {"loss": state.epoch_loss})

    def end_epoch(self, state: TrainingState) -> None:
        self.list.on_epoch_end(state.last_epoch, self._epoch_logs(state))

    def end(self, state: TrainingState) -> None:
        self.list.on_train_end(self._epoch_logs(state))

    def reason_to_stop(self, state: TrainingState) -> str | None:
        return "a callback asked to stop" if getattr(self._model, "stop_training", False) else None

    def has_restored_backup(self, *, is_resumed: bool) -> bool:
        """Returns whether BackupAndRestore has put its backup into the model, once.

        Raises:
            InputError: If the training is a new one, so that the backup is of another training.
        """
        epoch = self._model._initial_epoch
        if epoch is None:
            return False
        if not is_resumed:
            raise InputError(
                f"BackupAndRestore has put the weights of a training that ended before epoch "
                f"{epoch + 1} into a new run. Remove its backup_dir to train from the start, or "
                f"resume that run (--resume, in Python resume=True)."
            )
        self._model._initial_epoch = None
        return True

    def _set_params(self, epoch: int, num_steps: int) -> None:
        """Sets the numbers of epochs and steps as Keras does.

        Where training is limited by steps or minutes only, the epochs are those known so far.
        """
        epochs = self._limits.epochs
        if epochs is None:
            epochs = epoch + 1
            if self._limits.steps is not None:
                epochs = max(epochs, math.ceil(self._limits.steps / num_steps))
        params = {"verbose": "auto", "epochs": epochs, "steps": num_steps}
        if params != self.list.params:
            self.list.set_params(params)

    def _epoch_logs(self, state: TrainingState) -> dict[str, float]:
        """Returns the loss of the last epoch, and its last validation if there was one."""
        logs = {"loss": state.epoch_loss}
        records = self._history.records
        if records and records[-1]["epoch"] == state.last_epoch + 1:
            logs |= validation_results(records[-1])
        return logs


def check_callbacks(callbacks: Iterable[Any]) -> list[keras.callbacks.Callback]:
    """Returns callbacks as a list.

    Raises:
        InputError: If one is not a Keras callback, or cannot work here.
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
                "weights, which training here does not use. Leave it out, and set "
                "training.averaging=ema: the averaged weights are then validated and kept."
            )
    return callbacks


def need_validation_in_each_epoch(
    callbacks: Sequence[keras.callbacks.Callback], config: TrainingConfig, train_set: Batches
) -> bool:
    """Returns whether a callback's path contains results of validation, such as `{val_loss}`.

    Raises:
        InputError: If so, but epochs end without a validation.
    """
    paths = [str(getattr(callback, "filepath", "")) for callback in callbacks]
    with_results = [path for path in paths if "{val_" in path]
    if not with_results:
        return False
    num_steps = len(train_set.plan(0))
    if num_steps < config.validation_interval:
        raise InputError(
            f"The path {with_results[0]} of a callback holds a result of validation, but epochs of "
            f"{num_steps} steps end without a validation. Set training.validate_every to "
            f"{num_steps}, or choose another path."
        )
    return True
