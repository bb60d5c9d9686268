"""When a model is validated, and what a validation measures."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.batches import Batches
from seq2seq_kit.training.parts import TrainingState
from seq2seq_kit.training.records import Record, validation_results
from seq2seq_kit.training.step import TrainingSteps


class Validation:
    """Measures a model on its validation set.

    Args:
        steps: What validates the model batch by batch.
        config: The `training` section.
        validation_set: The validation batches.
        text_metrics: Decodes the validation texts and returns `bleu` and `chrf`; None for neither.
    """

    def __init__(
        self,
        steps: TrainingSteps,
        config: TrainingConfig,
        validation_set: Batches,
        text_metrics: Callable[[], Mapping[str, float]] | None,
    ) -> None:
        self._steps = steps
        self._config = config
        self._validation_set = validation_set
        self._text_metrics = text_metrics

    def is_due(self, state: TrainingState, epoch_has_ended: bool) -> bool:
        """Whether the interval between two validations has passed."""
        interval = self._config.validation_interval
        if self._config.validate_every is not None:
            return state.step % interval == 0
        return epoch_has_ended and state.step - state.validated_step >= interval

    def measure(self, state: TrainingState, tokens_per_second: float, callbacks: Any) -> Record:
        """Returns the record of a validation. Changes nothing, so that it can be interrupted.

        Args:
            state: The state of training.
            tokens_per_second: The speed of training, for the record.
            callbacks: Keras's `CallbackList`, which is called before and after.
        """
        callbacks.on_test_begin()
        record = {
            "step": state.step,
            "epoch": state.last_epoch + 1,
            "seconds": round(state.seconds, 1),
            "learning_rate": float(self._steps.model.optimizer.learning_rate.numpy()),
            "tokens_per_second": round(tokens_per_second, 1),
            "loss": state.loss_sum / max(state.num_tokens, 1.0),
            "val_loss": self._steps.mean_loss(self._validation_set, callbacks=callbacks),
        }
        if state.divergences:
            record["divergences"] = state.divergences
        record["val_perplexity"] = math.exp(min(record["val_loss"], 700.0))
        if self._text_metrics is not None:
            record |= {f"val_{name}": value for name, value in self._text_metrics().items()}
        results = validation_results(record)
        callbacks.on_test_end({name.removeprefix("val_"): results[name] for name in results})
        return record
