"""Trainers on a few random rows, with and without a network, for the tests of training."""

import functools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.plan import BatchSet
from seq2seq_kit.data.report import EncodingReport
from seq2seq_kit.data.streams import StreamSet
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.training.parts import TrainingPart
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.step import TrainingSteps
from seq2seq_kit.training.trainer import Trainer

VOCAB_SIZE = 20


NUM_ROWS = 22  # Four batches of six at most: 6, 6, 6, 4.


NETWORKS = {"encoder_decoder": EncoderDecoder, "language_model": LanguageModel}


def random_rows(number: int = NUM_ROWS, seed: int = 0) -> EncodedData:
    """Pairs of one to nine random tokens a side."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum(rng.integers(1, 10, 2 * number))])
    ids = rng.integers(4, VOCAB_SIZE, bounds[-1]).astype(np.uint16)
    report = EncodingReport(number, number, 0, 0, 0, 0, 0, 0, (), (), ())
    corpora = (CorpusRows("tsv", 1.0, 0, number),)
    lines = np.arange(1, number + 1)
    return EncodedData(ids, bounds[:-1:2], bounds[1::2], bounds[2::2], lines, corpora, report)


def random_texts(seed: int = 0) -> EncodedData:
    """Three texts of random tokens: 90, 25 and 40."""
    rng = np.random.default_rng(seed)
    begins, ends = np.array([0, 90, 115]), np.array([90, 115, 155])
    ids = rng.integers(4, VOCAB_SIZE, 155).astype(np.uint16)
    report = EncodingReport(3, 3, 0, 0, 0, 0, 0, 0, (), (), ())
    corpora = (CorpusRows("text", 1.0, 0, 3),)
    return EncodedData(ids, begins, begins, ends, np.array([1, 3, 5]), corpora, report)


class AfterValidation(TrainingPart):
    """Does something after each validation."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def after_validation(self, *_: Any) -> None:
        self._act()


def make_trainer(
    folder: Path,
    *,
    kind: str = "language_model",
    reads_streams: bool = False,
    model: Mapping[str, Any] | None = None,
    batch_size: int = 6,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 1,
    steps: Callable[..., TrainingSteps] = TrainingSteps,
    text_metrics: Callable[[], dict[str, float]] | None = None,
    after_validation: Callable[[], None] = lambda: None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    parts: Sequence[TrainingPart] = (),
    run_name: str | None = None,
    **options: Any,
) -> Trainer:
    keras.utils.set_random_seed(seed)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = NETWORKS[kind](VOCAB_SIZE, **{"embedding_dim": 8, "units": 8} | dict(model or {}))
        network.build()
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(**{"epochs": 1, "tensorboard": False} | options)
    sets: list[Any] = [
        StreamSet(random_texts(seed=shuffle), 8, batch_size, "sentences", 1, shuffle)
        if reads_streams
        else BatchSet(random_rows(seed=shuffle), kind, 8, batch_size, "sentences", 1, shuffle)
        for shuffle in (True, False)
    ]
    return Trainer(
        steps(network, config, strategy, carried_rows=sets[0].carried_rows),
        config,
        RunFolder(folder),
        *sets,
        text_metrics=text_metrics,
        callbacks=callbacks,
        parts=[*parts, AfterValidation(after_validation)],
        run_name=run_name,
    )


Batch = dict[str, tf.Tensor]


class ScriptedSteps(TrainingSteps):
    """Steps that compute nothing: the losses are given, and weights stay as they are.

    Args:
        arguments: As of `TrainingSteps`.
        losses: Of the validations; then they fall.
        train: From a batch to the loss of a training step.
    """

    def __init__(
        self,
        *arguments: Any,
        losses: Sequence[float],
        train: Callable[[Batch], float],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._losses = iter([*losses, *np.arange(-1.0, -99.0, -1.0)])
        self._train_loss = train

    def train(self, batch: Batch) -> tuple[float, float]:
        return self._train_loss(batch), float(batch["num_tokens"])

    def mean_loss(self, *_: Any, **__: Any) -> float:
        return float(next(self._losses))


def without_network(
    losses: Sequence[float] = (),
    train_loss: float = 1.0,
    train: Callable[[Batch], float] | None = None,
) -> Callable[..., TrainingSteps]:
    """Steps for `make_trainer` with the given losses of validations and training."""
    return functools.partial(ScriptedSteps, losses=losses, train=train or (lambda _: train_loss))


class ScriptedUpdates(TrainingSteps):
    """Steps with a loss of 1 and weights that depend on all batches and their order."""

    def train(self, batch: Batch) -> tuple[float, float]:
        bias = self.model.output_bias
        bias.assign(bias * 0.9 + batch["num_tokens"])
        return 1.0, float(batch["num_tokens"])

    def validate(self, batch: Batch, states: Any) -> tuple[tf.Tensor, Any]:
        return tf.stack([batch["num_tokens"]] * 2), states


def recorded(trainer: Trainer, key: str) -> list[float]:
    return [record[key] for record in trainer.history]


def comparable(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The history without what the clock says."""
    clock = {"seconds", "tokens_per_second"}
    return [{k: v for k, v in record.items() if k not in clock} for record in history]


def weights_of(trainer: Trainer) -> list[np.ndarray]:
    return [variable.numpy() for variable in trainer.model.trainable_variables]


class AtStep(keras.callbacks.Callback):
    """Does something after one step, counted from 1."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.steps_left = step
        self.act = act

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            self.act()


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def press_ctrl_c() -> None:
    send("SIGINT")


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def finished(folder: Path, losses: Sequence[float], **options: Any) -> Trainer:
    trainer = make_trainer(folder, **options, steps=without_network(losses))
    trainer.fit()
    return trainer


class EveryHook(keras.callbacks.Callback):
    """Notes each hook with its epoch or batch and the names in its logs.

    Args:
        stop_at: The hook, with its epoch or batch, that asks to stop.
    """

    def __init__(self, stop_at: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []
        self.stop_at = stop_at
        for hook in dir(keras.callbacks.Callback):
            # `on_batch_*` are other names of `on_train_batch_*`.
            if hook.startswith("on_") and not hook.startswith("on_batch"):
                setattr(self, hook, self._noting(hook))

    def _noting(self, hook: str) -> Callable[..., None]:
        def note(*arguments: Any, logs: Any = None) -> None:
            *number, last = [*arguments, logs] if logs is not None else [*arguments]
            assert isinstance(last, dict)
            assert "epoch" not in last
            # Ours has a metric, as a compiled model may have.
            names = sorted(set(last) - {"perplexity", "val_perplexity"})
            self.seen.append((hook, *number, names))
            if (hook, *number) == self.stop_at:
                self.model.stop_training = True

        return note

    def set_params(self, params: dict[str, Any]) -> None:
        self.seen.append(("params", params))
