"""The training loop on a few random rows; where only its bookkeeping matters, without a network."""

import copy
import csv
import errno
import functools
import http.server
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.config import TrainingConfig, sections
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.plan import BatchSet
from seq2seq_kit.data.report import EncodingReport
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.training import checkpoint
from seq2seq_kit.training.history import read_metrics
from seq2seq_kit.training.keras_callbacks import check_callbacks
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.step import TrainingSteps
from seq2seq_kit.training.stopping import Limits, limits_of
from seq2seq_kit.training.trainer import Trainer

VOCAB_SIZE = 20
NUM_ROWS = 22  # Four batches of six at most: 6, 6, 6, 4.
NETWORKS = {
    "encoder_decoder": lambda dropout: EncoderDecoder(
        VOCAB_SIZE, embedding_dim=8, units=8, dropout=dropout
    ),
    "language_model": lambda dropout: LanguageModel(
        VOCAB_SIZE, embedding_dim=8, units=8, dropout=dropout
    ),
}


def random_rows(number: int = NUM_ROWS, seed: int = 0) -> EncodedData:
    """Pairs of one to nine random tokens a side."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum(rng.integers(1, 10, 2 * number))])
    ids = rng.integers(4, VOCAB_SIZE, bounds[-1]).astype(np.uint16)
    report = EncodingReport(number, number, 0, 0, 0, 0, 0, 0, (), (), ())
    corpora = (CorpusRows("tsv", 1.0, 0, number),)
    lines = np.arange(1, number + 1)
    return EncodedData(ids, bounds[:-1:2], bounds[1::2], bounds[2::2], lines, corpora, report)


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
    dropout: float = 0.0,
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
        model = NETWORKS[kind](dropout)
        model.build()
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(**{"epochs": 1, "tensorboard": False} | options)
    sets = [
        BatchSet(random_rows(seed=shuffle), kind, 8, batch_size, "sentences", 1, shuffle)
        for shuffle in (True, False)
    ]
    return Trainer(
        steps(model, config, strategy),
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
        self, *arguments: Any, losses: Sequence[float], train: Callable[[Batch], float]
    ) -> None:
        super().__init__(*arguments)
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

    def validate(self, batch: Batch) -> tf.Tensor:
        return tf.stack([batch["num_tokens"]] * 2)


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


def press_ctrl_c() -> None:
    send("SIGINT")


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


@pytest.fixture(autouse=True)
def _each_epoch_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here an epoch has four steps, after which no validation would be due."""
    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 1)


# ---- Progress


def test_a_forecast_is_logged_once_after_twenty_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_trainer(tmp_path, epochs=8, steps=without_network()).fit()
    (line,) = [line for line in caplog.messages if "of memory so far" in line]
    assert line.startswith("8 epochs: about ")


def test_the_line_of_a_validation_counts_completed_epochs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    trainer = make_trainer(tmp_path, epochs=2, validate_every=2, steps=without_network())
    trainer.fit()
    lines = [line.partition(":")[0] for line in caplog.messages if "validation loss" in line]
    assert lines == [f"step {2 * n} (epoch {n / 2})" for n in range(1, 5)]
    assert recorded(trainer, "epoch") == [1, 1, 2, 2]


# ---- Resuming


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    options = {"dropout": 0.3, "epochs": 3, "validate_every": 3, "warmup_steps": 8}
    options["kind"] = "encoder_decoder"
    straight = make_trainer(tmp_path / "straight", **options)
    straight.fit()
    broken = make_trainer(tmp_path / "broken", callbacks=[AtStep(5, press_ctrl_c)], **options)
    with pytest.raises(TrainingInterrupted):
        broken.fit()
    resumed = make_trainer(tmp_path / "broken", seed=99, **options)
    resumed.resume()
    assert resumed.state.step == 5
    resumed.fit()
    for found, expected in zip(weights_of(resumed), weights_of(straight), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert comparable(resumed.history) == comparable(straight.history)
    assert len(straight.history) == 4
    assert comparable(read_metrics(resumed.run)) == comparable(straight.history)


def test_a_longer_limit_continues_a_finished_run(tmp_path: Path) -> None:
    straight = make_trainer(tmp_path / "straight", epochs=2)
    straight.fit()
    make_trainer(tmp_path / "parts", epochs=1).fit()
    resumed = make_trainer(tmp_path / "parts", epochs=2)
    resumed.resume()
    resumed.fit()
    assert comparable(resumed.history) == comparable(straight.history)


def test_a_validation_that_was_noted_but_not_saved_is_noted_once(tmp_path: Path) -> None:
    def crash() -> None:
        if len(broken.history) == 2:
            raise OSError("the machine went down")

    straight = make_trainer(tmp_path / "straight", epochs=3, steps=without_network([5.0, 4.0, 3.0]))
    straight.fit()
    broken = make_trainer(
        tmp_path / "broken", epochs=3, after_validation=crash, steps=without_network([5.0, 4.0])
    )
    with pytest.raises(OSError, match="went down"):
        broken.fit()
    resumed = make_trainer(tmp_path / "broken", epochs=3, steps=without_network([4.0, 3.0]))
    resumed.resume()
    resumed.fit()
    assert comparable(read_metrics(resumed.run)) == comparable(straight.history)


def test_patience_is_kept_over_a_resumption(tmp_path: Path) -> None:
    options = {"epochs": 9, "early_stopping": {"patience": 3}}
    trainer = make_trainer(
        tmp_path, callbacks=[AtStep(9, press_ctrl_c)], **options, steps=without_network([1.0, 2.0])
    )
    with pytest.raises(TrainingInterrupted):
        trainer.fit()
    resumed = make_trainer(tmp_path, **options, steps=without_network([2.0, 2.0, 2.0]))
    resumed.resume()
    assert resumed.fit().epoch == 4


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"checkpoint at .*last\.npz, which does not exist"):
        make_trainer(tmp_path).resume()


def test_another_network_cannot_resume(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=without_network()).fit()
    with pytest.raises(RunError, match=r"last\.npz does not fit the model"):
        make_trainer(tmp_path, kind="encoder_decoder").resume()


def test_a_long_epoch_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_SECONDS", 0)
    saved_steps = []

    def note() -> None:
        saved_steps.append(load_archive(tmp_path / "last.npz").metadata["step"])

    trainer = make_trainer(tmp_path, callbacks=[AtStep(3, note)], steps=without_network())
    trainer.fit()
    assert saved_steps == [2]


# ---- Signals


def test_ctrl_c_saves_and_says_where(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path, callbacks=[AtStep(2, press_ctrl_c)], steps=without_network())
    with pytest.raises(TrainingInterrupted, match=str(tmp_path)) as caught:
        trainer.fit()
    assert caught.value.run_dir == tmp_path
    assert load_archive(tmp_path / "last.npz").metadata["step"] == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_saves_as_ctrl_c_does(tmp_path: Path, name: str) -> None:
    trainer = make_trainer(
        tmp_path, callbacks=[AtStep(2, lambda: send(name))], steps=without_network()
    )
    with pytest.raises(TrainingInterrupted, match=f"interrupted by {name}; .* saved in") as caught:
        trainer.fit()
    assert caught.value.signal == getattr(signal, name)
    assert load_archive(tmp_path / "last.npz").metadata["step"] == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send this signal")
@pytest.mark.parametrize("stage", ["validation", "decoding"])
def test_a_signal_does_not_wait_for_a_validation_and_the_resumed_run_makes_it(
    tmp_path: Path, stage: str
) -> None:
    done = []

    def interrupt_at(place: str) -> None:
        if place == stage and trainer.state.step == 8:
            send("SIGTERM")
            done.append("the rest of the validation")

    def text_metrics() -> dict[str, float]:
        interrupt_at("decoding")
        return {"bleu": 1.0, "chrf": 1.0}

    at_batch = keras.callbacks.LambdaCallback(
        on_test_batch_begin=lambda batch, logs: interrupt_at("validation")
    )
    trainer = make_trainer(
        tmp_path / "broken",
        epochs=3,
        text_metrics=text_metrics,
        callbacks=[at_batch],
        steps=ScriptedUpdates,
    )
    with pytest.raises(TrainingInterrupted, match="SIGTERM"):
        trainer.fit()
    assert not done
    assert load_archive(tmp_path / "broken" / "last.npz").metadata["step"] == 8
    stage, recorder = "", EveryHook()
    for folder, callbacks in (("straight", []), ("broken", [recorder])):
        trainer = make_trainer(
            tmp_path / folder,
            epochs=3,
            text_metrics=text_metrics,
            callbacks=callbacks,
            steps=ScriptedUpdates,
        )
        if folder == "broken":
            trainer.resume()
        trainer.fit()
    straight, resumed = (RunFolder(tmp_path / folder) for folder in ("straight", "broken"))
    assert comparable(read_metrics(resumed)) == comparable(read_metrics(straight))
    for name, expected in load_archive(straight.last).arrays.items():
        np.testing.assert_array_equal(load_archive(resumed.last).arrays[name], expected)
    hooks = [hook for hook, *_ in recorder.seen if "_batch_" not in hook]
    assert hooks[1:6] == [
        f"on_{hook}"
        for hook in ("train_begin", "epoch_begin", "test_begin", "test_end", "epoch_end")
    ]
    assert recorder.seen[2] == ("on_epoch_begin", 1, [])


def test_a_run_that_early_stopping_has_ended_does_not_go_on(tmp_path: Path) -> None:
    options = {"epochs": 9, "early_stopping": {"patience": 1}}
    make_trainer(tmp_path, **options, steps=without_network([1.0, 2.0])).fit()
    resumed = make_trainer(tmp_path, **options, steps=without_network([0.5]))
    resumed.resume()
    assert resumed.fit().finished == "no better validation loss for 1 validations"
    assert resumed.state.step == 8


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def press_twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    trainer = make_trainer(tmp_path, callbacks=[AtStep(2, press_twice)], steps=without_network())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_training_runs_in_a_thread_of_its_own(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=without_network())
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert trainer.state.epoch == 1


# ---- The loss


def test_loss_is_the_mean_over_real_tokens_whatever_the_padding(tmp_path: Path) -> None:
    trainers = [
        make_trainer(
            tmp_path / str(size), batch_size=size, learning_rate=1e-20, label_smoothing=0.0
        )
        for size in (1, 7)
    ]
    for trainer in trainers:
        trainer.fit()
    for key, is_train in (("loss", True), ("val_loss", False)):
        expected = mean_loss_row_by_row(trainers[0].model, random_rows(seed=is_train))
        found = [trainer.history[0][key] for trainer in trainers]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def mean_loss_row_by_row(model: keras.Model, rows: EncodedData) -> float:
    """Nats a target token, each row alone and unpadded, as a language model sees it."""
    total, count = 0.0, 0
    for begin, end in zip(rows.begins, rows.ends, strict=True):
        ids = rows.ids[begin:end].astype(int)
        logits = model({"decoder_input_ids": np.array([[2, *ids]])})
        targets = np.array([[*ids, 3]])
        losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        total, count = total + float(tf.reduce_sum(losses)), count + targets.size
    return total / count


def test_each_epoch_shows_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    epochs: list[list[tuple[int, ...]]] = [[], []]

    def train(batch: Batch) -> float:
        for row, real in zip(batch["target_ids"].numpy(), batch["weights"].numpy(), strict=True):
            epochs[trainer.state.epoch].append(tuple(row[real > 0].tolist()))
        return 1.0

    trainer = make_trainer(tmp_path, epochs=2, steps=without_network(train=train))
    trainer.fit()
    rows = random_rows(seed=True)
    expected = [(*rows.ids[a:b].tolist(), 3) for a, b in zip(rows.begins, rows.ends, strict=True)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected)
    assert epochs[0] != epochs[1]


def test_two_replicas_end_with_the_loss_of_one(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]}
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
import json, pathlib
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
from seq2seq_kit.training.distribution import make_strategy
from test_training import make_trainer, tf
strategy = make_strategy("mirrored")
folder = pathlib.Path(sys.argv[1])
options = dict(epochs=1, batch_size=5, validate_every=2, clip_norm=0.1)
two = make_trainer(folder / "two", strategy=strategy, **options)
two.fit()
one = make_trainer(folder / "one", **options)
one.fit()
print(json.dumps([strategy.num_replicas_in_sync, two.history, one.history]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    replicas, two, one = json.loads(ended.stdout)
    assert replicas == 2
    for key in ("loss", "val_loss"):
        found, expected = ([record[key] for record in history] for history in (two, one))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start_workers(
    number: int, arguments: Sequence[str | Path], *, code: str
) -> list[subprocess.Popen[str]]:
    """Starts processes that know of each other over the loopback device."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(number)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=os.environ
            | {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                )
            },
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]


_FIT = """
import json, sys
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
from seq2seq_kit.seq2seq import Seq2Seq
fitted = Seq2Seq.fit(json.loads(sys.argv[1]), run_dir=sys.argv[2])
keys = ("step", "loss", "val_loss", "val_bleu")
history = [[record[key] for key in keys] for record in fitted.history]
print(json.dumps([history, fitted.generate(["ab", "cde"]), fitted.results["steps"]]))
"""


def test_two_workers_end_with_the_losses_of_one(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    translation_config["training"] |= {"max_steps": 40, "early_stopping": {"metric": "bleu"}}
    several = copy.deepcopy(translation_config)
    several["training"] |= {"strategy": "multi_worker", "max_minutes": 10}
    workers = start_workers(2, [json.dumps(several), tmp_path / "two"], code=_FIT)
    told = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told[0][1] + told[1][1]
    first, second = (json.loads(out) for out, _ in told)
    assert first == second
    alone = Seq2Seq.fit(translation_config, run_dir=tmp_path / "one")
    expected = [[r[key] for key in ("step", "loss", "val_loss")] for r in alone.history]
    np.testing.assert_allclose([record[:3] for record in first[0]], expected, rtol=1e-4)
    # One of them has written the run: what the folder holds answers as both did.
    assert len(read_metrics(RunFolder(tmp_path / "two"))) == len(expected)
    assert Seq2Seq.load(tmp_path / "two").generate(["ab", "cde"]) == first[1]


def test_a_signal_to_one_worker_stops_both(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    translation_config["training"] |= {"epochs": 99, "strategy": "multi_worker"}
    run = tmp_path / "run"
    workers = start_workers(2, [json.dumps(translation_config), run], code=_FIT)
    while not (run / "metrics.jsonl").exists() and workers[1].poll() is None:
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGINT if os.name == "nt" else signal.SIGTERM)
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert all("TrainingInterrupted" in error for error in errors), errors
    assert load_archive(run / "last.npz").metadata["step"] < 99 * 23


def test_gradients_are_clipped_to_the_global_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    for clip_norm in (1e-3, 1e3, 1e6):
        trainer = make_trainer(tmp_path / str(clip_norm), clip_norm=clip_norm)
        norm = tf.Variable(0.0)

        def note_norm(
            gradients: Sequence[tf.Tensor], variables: Any, norm: tf.Variable = norm
        ) -> None:
            norm.assign(tf.linalg.global_norm(gradients))

        monkeypatch.setattr(trainer.model.optimizer, "apply", note_norm)
        trainer.fit()
        norms.append(float(norm))
    np.testing.assert_allclose(norms[0], 1e-3, rtol=1e-4)
    assert 1e-3 < norms[1] == norms[2], "a gradient that is short enough stays as it is"


def test_a_loss_that_is_no_number_ends_training_with_advice(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.model.output_bias.assign(np.full(VOCAB_SIZE, np.nan))
    with pytest.raises(RunError, match=r"loss became nan at step 1\. No state.*learning_rate"):
        trainer.fit()


def test_a_run_whose_loss_is_no_number_can_resume_from_before(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=without_network()).fit()
    trainer = make_trainer(tmp_path, epochs=2, steps=without_network(train_loss=math.inf))
    trainer.resume()
    with pytest.raises(RunError, match=r"loss became inf at step 5.*kept in last\.npz"):
        trainer.fit()
    assert load_archive(tmp_path / "last.npz").metadata["step"] == 4


# ---- Learning rate, early stopping, limits


def test_learning_rate_rises_in_a_straight_line(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        epochs=2,
        warmup_steps=4,
        validate_every=1,
        learning_rate=0.1,
        steps=without_network(),
    )
    trainer.fit()
    expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(recorded(trainer, "learning_rate"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("patience", "warmup_steps", "losses", "rates"),
    [
        (1, 0, [5, 4, 4, 4.5, 3, 3, 2, 1], [1, 1, 1, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 8]),
        (2, 0, [5, 6, 6, 6, 6, 4, 5, 5], [1, 1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4]),
        # Warm-up sets the rate at each of its steps; what is due by then comes after.
        (2, 4, [5, 6, 6, 6, 4, 3, 2, 1], [1 / 4, 2 / 4, 3 / 4, 1, 1 / 2, 1 / 2, 1 / 2, 1 / 2]),
    ],
)
def test_learning_rate_decays_on_a_plateau(
    tmp_path: Path, patience: int, warmup_steps: int, losses: list[float], rates: list[float]
) -> None:
    trainer = make_trainer(
        tmp_path,
        epochs=2,
        learning_rate=1.0,
        plateau_patience=patience,
        plateau_factor=0.5,
        warmup_steps=warmup_steps,
        validate_every=1,
        early_stopping={"patience": 9},
        steps=without_network(losses),
    )
    trainer.fit()
    np.testing.assert_allclose(recorded(trainer, "learning_rate"), rates, rtol=1e-6)


def test_a_validation_before_its_time_costs_nothing(tmp_path: Path) -> None:
    # The limit ends training a step after a validation, and what follows it is no better.
    options = {"learning_rate": 1.0, "validate_every": 4, "early_stopping": {"patience": 1}}
    first = make_trainer(tmp_path, epochs=9, max_steps=5, **options, steps=without_network([5, 6]))
    assert first.fit().finished == "5 steps are done"
    assert recorded(first, "val_loss") == [5, 6]
    again = make_trainer(tmp_path, epochs=9, max_steps=8, **options, steps=without_network([4]))
    again.resume()
    assert again.fit().finished == "8 steps are done"
    assert recorded(again, "learning_rate") == [1, 1, 1]
    assert load_archive(tmp_path / "best.npz").metadata["step"] == 8


@pytest.mark.parametrize(
    ("patience", "losses", "validations", "best"),
    [
        (1, [5, 4, 4, 1], 3, 2),
        (2, [5, 6, 4, 5, 5, 1], 5, 3),
        (3, [5, 6, 6, 4, 5, 5, 3.9, 9, 9, 9, 1], 10, 7),
    ],
)
def test_training_stops_after_so_many_validations_without_a_better_one(
    tmp_path: Path, patience: int, losses: list[float], validations: int, best: int
) -> None:
    trainer = make_trainer(
        tmp_path, epochs=20, early_stopping={"patience": patience}, steps=without_network(losses)
    )
    state = trainer.fit()
    assert state.epoch == len(trainer.history) == validations
    assert state.finished == f"no better validation loss for {patience} validations"
    assert load_archive(tmp_path / "best.npz").metadata["epoch"] == best


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_early_stopping_may_go_by_a_score_that_rises(tmp_path: Path, metric: str) -> None:
    values = iter([10.0, 30.0, 20.0, 30.0, 99.0])
    trainer = make_trainer(
        tmp_path,
        epochs=9,
        text_metrics=lambda: {"bleu": 0.0, "chrf": 0.0, metric: next(values)},
        early_stopping={"metric": metric, "patience": 2},
        steps=without_network(),
    )
    trainer.fit()
    assert recorded(trainer, f"val_{metric}") == [10.0, 30.0, 20.0, 30.0]
    assert load_archive(tmp_path / "best.npz").metadata["epoch"] == 2


def test_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    weights = {}
    losses = iter([3.0, 2.0, 4.0])

    class Steps(ScriptedUpdates):
        def mean_loss(self, *_: Any, **__: Any) -> float:
            weights[trainer.state.epoch] = weights_of(trainer)
            return next(losses)

    trainer = make_trainer(tmp_path, epochs=3, steps=Steps)
    trainer.fit()
    best = load_archive(tmp_path / "best.npz")
    assert best.metadata["val_loss"] == 2.0
    for found, expected in zip(best.arrays.values(), weights[2], strict=True):
        np.testing.assert_array_equal(found, expected)
    changed = zip(weights[2], weights[3], strict=True)
    assert any(not np.array_equal(best, last) for best, last in changed)


@pytest.mark.parametrize(
    ("limits", "steps", "reason", "validated"),
    [
        ({"epochs": 2}, 8, "2 epochs are done", [4, 8]),
        ({"epochs": None, "max_steps": 6}, 6, "6 steps are done", [4, 6]),
        ({"epochs": 2, "max_steps": 20}, 8, "2 epochs are done", [4, 8]),
        ({"epochs": 2, "max_steps": 5, "validate_every": 2}, 5, "5 steps are done", [2, 4, 5]),
        ({"epochs": 2, "validate_every": 3}, 8, "2 epochs are done", [3, 6, 8]),
        ({"epochs": 2, "validate_every": 100}, 8, "2 epochs are done", [8]),
        ({"epochs": 1}, 4, "1 epoch is done", [4]),
        ({"epochs": 6, "max_steps": 11, "validate_every": 10}, 11, "11 steps are done", [10]),
        ({"epochs": 6, "max_steps": 12, "validate_every": 10}, 12, "12 steps are done", [10, 12]),
        ({"max_minutes": 1e-9}, 2, "1e-09 minutes are over", [2]),
    ],
)
def test_training_ends_at_its_limits_with_a_validation(
    tmp_path: Path, limits: dict[str, Any], steps: int, reason: str, validated: list[int]
) -> None:
    trainer = make_trainer(tmp_path, **limits, steps=without_network())
    state = trainer.fit()
    assert (state.step, state.finished) == (steps, reason)
    assert recorded(trainer, "step") == validated


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def timed(clock: Clock, folder: Path, **options: Any) -> Trainer:
    """A trainer whose steps take a second, and whose validations take 20."""
    step = AtStep(0, lambda: None)
    step.on_train_batch_end = lambda *_, **__: clock.wait(1)
    return make_trainer(
        folder,
        epochs=99,
        max_minutes=1,
        callbacks=[step],
        after_validation=lambda: clock.wait(20),
        steps=without_network(),
        **options,
    )


@pytest.mark.parametrize(
    ("every", "validated"),
    [
        (10, [10, 20]),  # ends at 60 seconds, not at 61 with a validation a step later
        (15, [15, 21]),  # one step is done before the clock is looked at again
        (100, [61]),  # nothing is known of how long the first one takes
    ],
)
def test_the_last_validation_counts_among_the_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, validated: list[int]
) -> None:
    trainer = timed(Clock(monkeypatch), tmp_path, validate_every=every)
    assert trainer.fit().finished == "1 minute is over"
    assert recorded(trainer, "step") == validated
    again = timed(Clock(monkeypatch), tmp_path, validate_every=every)
    again.resume()
    assert again.fit().step == validated[-1]


def test_a_path_of_results_has_a_validation_in_the_last_epoch_however_short(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "{val_loss}.weights.h5")
    trainer = make_trainer(
        tmp_path,
        epochs=None,
        max_steps=12,
        batch_size=2,  # eleven steps an epoch
        validate_every=11,
        callbacks=[keras.callbacks.ModelCheckpoint(path, save_weights_only=True)],
        steps=without_network(),
    )
    trainer.fit()
    assert recorded(trainer, "step") == [11, 12]


def test_short_epochs_end_without_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 10)
    trainer = make_trainer(tmp_path, epochs=7, steps=without_network())
    trainer.fit()
    # The first ends of epochs of four steps that are ten steps from the last validation.
    assert recorded(trainer, "step") == [12, 24, 28]
    assert recorded(trainer, "epoch") == [3, 6, 7]


def test_without_a_limit_small_data_are_read_oftener(tmp_path: Path) -> None:
    batches = BatchSet(random_rows(), "language_model", 8, 6, "sentences", 1, True)
    # 3,000 steps in epochs of four
    assert limits_of(TrainingConfig(), batches) == Limits(750, None, None)
    trainer = make_trainer(
        tmp_path,
        epochs=None,
        early_stopping={"patience": 2},
        steps=without_network([1.0, 2.0, 2.0]),
    )
    state = trainer.fit()
    assert (state.epoch, state.finished) == (3, "no better validation loss for 2 validations")


@pytest.mark.parametrize("content", ['{"step": 4', "[", "\xff", '{"step": 4, "digest": "0"}'])
def test_a_damaged_line_of_the_history_is_left_out_and_named(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_bytes(b'{"step": 2}\n' + content.encode("latin-1"))
    assert read_metrics(run) == [{"step": 2}]
    assert "metrics.jsonl, line 2 is damaged and left out" in caplog.text


# ---- What is lost, and what is written when


def finished(folder: Path, losses: Sequence[float], **options: Any) -> Trainer:
    trainer = make_trainer(folder, **options, steps=without_network(losses))
    trainer.fit()
    return trainer


@pytest.mark.parametrize("damage", [None, b"", b'{"step": 4'])
def test_a_resumed_run_has_its_history_from_the_checkpoint(
    tmp_path: Path, damage: bytes | None
) -> None:
    trainer = finished(tmp_path, [3.0, 2.0], epochs=2)
    trainer.run.metrics.unlink()
    if damage is not None:
        trainer.run.metrics.write_bytes(damage)
    resumed = make_trainer(tmp_path, epochs=2)
    resumed.resume()
    assert resumed.history == read_metrics(resumed.run) == trainer.history


@pytest.mark.parametrize("failing_call", range(1, 9))
def test_a_disk_that_fills_up_leaves_a_run_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    # Metrics, the state and the best weights, each with the names in the folder; then the end.
    straight = finished(tmp_path / "straight", [3.0, 2.0, 4.0], epochs=3)
    broken = make_trainer(tmp_path / "broken", epochs=3, steps=without_network([3.0, 2.0, 4.0]))
    sync, calls = os.fsync, []

    def fill_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) >= failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(RunError, match=r"could not be written to .*No space left on device"):
            broken.fit()
    assert not list(broken.run.path.glob("*partial*"))
    is_saved = broken.run.last.is_file()
    step = load_archive(broken.run.last).metadata["validated_step"] if is_saved else 0
    losses = [3.0, 2.0, 4.0][step // 4 :]
    resumed = make_trainer(tmp_path / "broken", epochs=3, steps=without_network(losses))
    if is_saved:
        resumed.resume()
    resumed.fit()
    assert comparable(resumed.history) == comparable(straight.history)
    for name in ("best.npz", "last.npz"):
        found, expected = (load_archive(t.run.path / name) for t in (resumed, straight))
        assert found.arrays.keys() == expected.arrays.keys()
        for key, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[key], array)
        assert found.metadata["step"] == expected.metadata["step"]


def test_best_weights_that_were_not_written_any_more_are_written_on_resuming(
    tmp_path: Path,
) -> None:
    trainer = finished(tmp_path, [3.0, 2.0], epochs=2)
    expected = load_archive(trainer.run.best)
    trainer.run.best.unlink()
    make_trainer(tmp_path, seed=99, epochs=2).resume()
    found = load_archive(trainer.run.best)
    assert found.metadata == expected.metadata
    for key, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[key], array)


def test_lost_best_weights_are_noticed_on_resuming_and_chosen_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finished(tmp_path, [1.0, 2.0], epochs=2).run.best.unlink()
    resumed = make_trainer(tmp_path, epochs=4, steps=without_network([4.0, 5.0]))
    resumed.resume()
    assert "best.npz is missing. Training resumes without it" in caplog.text
    resumed.fit()
    assert load_archive(resumed.run.best).metadata["val_loss"] == 4.0
    finished_again = make_trainer(
        tmp_path, epochs=4, steps=without_network([6.0])
    )  # Nothing is left to train.
    finished_again.run.best.unlink()
    finished_again.resume()
    finished_again.fit()
    assert load_archive(resumed.run.best).metadata["val_loss"] == 6.0


def test_damaged_best_weights_are_refused_before_training_goes_on(tmp_path: Path) -> None:
    best = finished(tmp_path, [1.0, 2.0], epochs=2).run.best
    best.write_bytes(best.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"best\.npz is damaged.* remove it and resume"):
        make_trainer(tmp_path, epochs=4).resume()


def test_older_best_weights_count_by_their_own_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = finished(tmp_path, [3.0], epochs=1)
    older = first.run.best.read_bytes()
    second = make_trainer(tmp_path, epochs=3, steps=without_network([2.0, 2.5]))
    second.resume()
    second.fit()
    second.run.best.write_bytes(older)
    third = make_trainer(tmp_path, epochs=4, steps=without_network([2.9]))
    third.resume()
    assert "best.npz is from step 4, but step 8 was the best" in caplog.text
    third.fit()
    assert load_archive(third.run.best).metadata["val_loss"] == 2.9


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, run_name="one", steps=without_network()).fit()
    other = make_trainer(tmp_path, run_name="other", epochs=2)
    with pytest.raises(RunError, match=r"last\.npz and the config\.yaml beside it are of differ"):
        other.resume()


# ---- What training leaves, and callbacks


def events_of(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The step and the values of each event that has some."""
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in tf.compat.v1.train.summary_iterator(str(path))
        if event.summary.value
    ]


def test_history_stands_in_metrics_and_in_one_file_for_tensorboard(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=2, tensorboard=True, steps=without_network())
    trainer.fit()
    (path,) = (tmp_path / "logs").iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # Killed while it was writing.
    resumed = make_trainer(tmp_path, epochs=4, tensorboard=True, steps=without_network())
    resumed.resume()
    resumed.fit()
    assert read_metrics(resumed.run) == resumed.history
    assert list((tmp_path / "logs").iterdir()) == [path]
    events = events_of(path)
    assert [step for step, _ in events] == [4, 8, 12, 16]
    for (_, values), record in zip(events, resumed.history, strict=True):
        assert values == pytest.approx(record)


def test_loss_and_speed_count_from_the_last_validation(tmp_path: Path) -> None:
    losses: Iterator[float] = iter([1.0, 3.0, 5.0, 7.0])
    sizes = []

    def train(batch: Batch) -> float:
        sizes.append(float(batch["num_tokens"]))
        return next(losses)

    trainer = make_trainer(tmp_path, validate_every=2, steps=without_network(train=train))
    trainer.fit()
    expected = [
        np.average([1.0, 3.0], weights=sizes[:2]),
        np.average([5.0, 7.0], weights=sizes[2:]),
    ]
    np.testing.assert_allclose(recorded(trainer, "loss"), expected)


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


@pytest.mark.parametrize(
    ("every", "stop_at"),
    [
        (1, ()),
        (2, ()),
        (1, ("on_train_begin",)),
        (1, ("on_epoch_begin", 1)),
        (1, ("on_train_batch_end", 2)),
        (1, ("on_test_end",)),
        (1, ("on_epoch_end", 1)),
    ],
)
def test_callbacks_get_hooks_logs_and_params_as_from_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, stop_at: tuple[Any, ...]
) -> None:
    expected, found = EveryHook(stop_at), EveryHook(stop_at)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.zeros([NUM_ROWS, 2]), np.zeros([NUM_ROWS, 1])
    model.fit(
        *data,
        batch_size=6,
        epochs=4,
        validation_data=data,
        validation_freq=every,
        callbacks=[expected],
    )
    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 4 * every)
    trainer = make_trainer(tmp_path, epochs=4, callbacks=[found], steps=ScriptedUpdates)
    trainer.fit()
    assert found.seen == expected.seen


def test_the_loss_in_the_logs_is_the_mean_of_the_epoch_over_a_resumption_too(
    tmp_path: Path,
) -> None:
    logged = []

    class Noting(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            logged.append(logs["loss"])

    losses = iter(np.arange(1.0, 99.0))
    sizes = []

    def train(batch: Batch) -> float:
        sizes.append(float(batch["num_tokens"]))
        return float(next(losses))

    for stop in (2, 99):
        callbacks = [Noting(), AtStep(stop, press_ctrl_c)]
        steps = without_network(train=train)
        trainer = make_trainer(tmp_path, epochs=2, callbacks=callbacks, steps=steps)
        if stop == 2:
            with pytest.raises(TrainingInterrupted):
                trainer.fit()
        else:
            trainer.resume()
            trainer.fit()
    expected = [
        np.average(np.arange(first, last + 1.0), weights=sizes[first - 1 : last])
        for first, last in [(1, 1), (1, 2), (1, 3), (1, 4), (5, 5), (5, 6), (5, 7), (5, 8)]
    ]
    np.testing.assert_allclose(logged, expected, rtol=1e-6)


def test_early_stopping_of_keras_counts_validations_and_restores_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 8)  # Each second epoch.
    callback = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    weights, losses = [], iter([5.0, 4.0, 6.0, 6.0, 1.0])

    class Steps(ScriptedUpdates):
        def mean_loss(self, *_: Any, **__: Any) -> float:
            return next(losses)

    noting = keras.callbacks.LambdaCallback(
        on_test_end=lambda logs: weights.append(weights_of(trainer))
    )
    trainer = make_trainer(
        tmp_path,
        epochs=99,
        callbacks=[callback, noting],
        early_stopping={"patience": 9},
        steps=Steps,
    )
    with pytest.warns(UserWarning, match="val_loss` which is not available"):
        state = trainer.fit()
    assert state.finished == "a callback asked to stop"
    assert recorded(trainer, "val_loss") == [5.0, 4.0, 6.0, 6.0]
    assert recorded(trainer, "epoch") == [2, 4, 6, 8]
    for found, expected in zip(weights_of(trainer), weights[1], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_model_checkpoint_of_keras_writes_weights_and_models(tmp_path: Path) -> None:
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch:02d}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch:02d}-{val_loss:.2f}.keras", save_best_only=True
        ),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}-{batch}-{loss:.1f}.weights.h5", save_weights_only=True, save_freq=3
        ),
    ]
    trainer = make_trainer(
        tmp_path / "run", epochs=3, callbacks=callbacks, steps=without_network([5.0, 6.0, 4.0])
    )
    trainer.fit()
    assert {path.name for path in tmp_path.glob("*.keras")} == {"01-5.00.keras", "03-4.00.keras"}
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == sorted(
        f"{name}.weights.h5"
        for name in ("01", "02", "03", "1-3-1.0", "2-2-1.0", "3-1-1.0", "3-4-1.0")
    )
    loaded = keras.models.load_model(tmp_path / "03-4.00.keras")
    for found, variable in zip(loaded.trainable_variables, weights_of(trainer), strict=True):
        np.testing.assert_array_equal(found, variable)


def test_a_path_of_results_that_are_not_there_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 5)
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "{val_loss:.2f}.keras")
    for options in ({}, {"validate_every": 5}):
        with pytest.raises(InputError, match=r"of 4 steps end without.*validate_every to 4"):
            make_trainer(tmp_path / "run", callbacks=[callback], **options)
    make_trainer(tmp_path / "run", callbacks=[callback], validate_every=4)


def test_backup_and_restore_of_keras_yields_to_the_runs_own_state(tmp_path: Path) -> None:
    def fit(*callbacks: keras.callbacks.Callback, folder: str = "run", resume: bool = False) -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        trainer = make_trainer(
            tmp_path / folder, epochs=3, callbacks=[backup, *callbacks], steps=ScriptedUpdates
        )
        if resume:
            trainer.resume()
        trainer.fit()
        return weights_of(trainer)

    straight = make_trainer(tmp_path / "straight", epochs=3, steps=ScriptedUpdates)
    straight.fit()
    with pytest.raises(TrainingInterrupted):
        fit(AtStep(6, press_ctrl_c))  # The backup is of step 4.
    with pytest.raises(InputError, match=r"ended before epoch 2 into a new run\. Remove its back"):
        fit(folder="new")
    for found, expected in zip(fit(resume=True), weights_of(straight), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not (tmp_path / "backup").exists()


def test_what_prints_writes_or_sends_logs_of_keras_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received: list[dict[str, Any]] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(json.loads(data))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        callbacks = [
            keras.callbacks.ProgbarLogger(),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.History(),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.5**epoch),
            keras.callbacks.RemoteMonitor(
                f"http://127.0.0.1:{server.server_port}", send_as_json=True
            ),
        ]
        trainer = make_trainer(
            tmp_path / "run", epochs=2, callbacks=callbacks, steps=without_network([5.0, 4.0])
        )
        trainer.fit()
        server.shutdown()
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert "4/4" in printed
    assert "val_loss: 4.0000" in printed
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], float(row["loss"]), float(row["val_loss"])) for row in rows] == [
        ("0", 1.0, 5.0),
        ("1", 1.0, 4.0),
    ]
    assert callbacks[2].history["val_loss"] == [5.0, 4.0]
    assert trainer.model.history is callbacks[2]
    assert recorded(trainer, "learning_rate") == [1.0, 0.5]
    assert [(logs["epoch"], logs["val_loss"]) for logs in received] == [(0, 5.0), (1, 4.0)]


def test_terminate_on_nan_of_keras_sees_the_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = keras.callbacks.TerminateOnNaN()
    trainer = make_trainer(
        tmp_path, callbacks=[callback], steps=without_network(train_loss=math.nan)
    )
    with pytest.raises(RunError, match="loss became nan"):
        trainer.fit()
    assert "Invalid loss" in capsys.readouterr().out


def test_every_callback_of_keras_is_tested_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for name, value in vars(keras.callbacks).items():
        if isinstance(value, type) and issubclass(value, keras.callbacks.Callback):
            # Keras makes lists itself; Orbax's needs a package of its own.
            untested = ("CallbackList", "OrbaxCheckpoint")
            assert f"callbacks.{name}" in tested or name in untested, name


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (keras.callbacks.SwapEMAWeights(), "SwapEMAWeights needs an optimizer that keeps a moving"),
        (keras.callbacks.EarlyStopping, "must be a list of Keras callbacks. Received: <class"),
        (print, "must be a list of Keras callbacks"),
    ],
)
def test_what_cannot_be_called_back_is_refused(callback: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_callbacks([callback])
    with pytest.raises(InputError, match="must be a list of Keras callbacks"):
        check_callbacks(callback)


def test_reduce_lr_on_plateau_of_keras_lowers_the_learning_rate(tmp_path: Path) -> None:
    callback = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=0)
    trainer = make_trainer(
        tmp_path,
        epochs=4,
        callbacks=[callback],
        learning_rate=1.0,
        plateau_patience=9,
        steps=without_network([5.0, 6.0, 4.0, 4.0]),
    )
    trainer.fit()
    rates = [1.0, 1.0, 0.1, 0.1]
    np.testing.assert_allclose(recorded(trainer, "learning_rate"), rates, rtol=1e-6)


def test_tensorboard_of_keras_writes_its_events(tmp_path: Path) -> None:
    callback = keras.callbacks.TensorBoard(str(tmp_path / "board"), histogram_freq=1)
    make_trainer(tmp_path, callbacks=[callback], steps=without_network()).fit()
    events = list((tmp_path / "board").rglob("events.out.tfevents.*"))
    tags = {
        (path.parent.name, value.tag)
        for path in events
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {("train", "epoch_loss"), ("validation", "epoch_loss")} <= tags


def test_samples_are_shown_after_each_validation(tmp_path: Path) -> None:
    shown = []
    trainer = make_trainer(
        tmp_path,
        epochs=3,
        after_validation=lambda: shown.append(len(trainer.history)),
        steps=without_network(),
    )
    trainer.fit()
    assert shown == [1, 2, 3]


# ---- Parts and their state


class WeightAverage(TrainingPart):
    """A part with both kinds of state: the mean of the output bias over all steps."""

    def __init__(self) -> None:
        self.variables = [keras.Variable(np.zeros(VOCAB_SIZE, np.float32), trainable=False)]
        self.num_steps = 0
        self.model: Any = None

    def after_update(self, state: TrainingState) -> None:
        self.num_steps += 1
        (mean,) = self.variables
        mean.assign(mean + (self.model.output_bias - mean) / self.num_steps)

    def state(self) -> dict[str, Any]:
        return {"averaged_steps": self.num_steps}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.num_steps = saved["averaged_steps"]


def test_values_and_variables_of_a_part_go_on_after_a_resumption(tmp_path: Path) -> None:
    def averaging(folder: str, *callbacks: keras.callbacks.Callback) -> tuple[Any, WeightAverage]:
        part = WeightAverage()
        trainer = make_trainer(
            tmp_path / folder,
            epochs=3,
            parts=[part],
            callbacks=callbacks,
            steps=ScriptedUpdates,
        )
        part.model = trainer.model
        return trainer, part

    straight, expected = averaging("straight")
    straight.fit()
    broken, _ = averaging("broken", AtStep(6, press_ctrl_c))
    with pytest.raises(TrainingInterrupted):
        broken.fit()
    resumed, found = averaging("broken")
    resumed.resume()
    assert found.num_steps == 6
    resumed.fit()
    assert found.num_steps == expected.num_steps == 12
    np.testing.assert_array_equal(found.variables[0], expected.variables[0])
    assert np.any(expected.variables[0].numpy())


# What earlier versions have saved, so that runs of theirs can be resumed, and ours by them.
_FIRST_FORMAT = {
    "epoch",
    "batch",
    "step",
    "validated_step",
    "seconds",
    "loss_sum",
    "num_tokens",
    "epoch_loss_sum",
    "epoch_tokens",
    "step_is_open",
    "best_value",
    "validations_since_best",
    "best_loss",
    "validations_on_plateau",
    "finished",
}


def test_a_checkpoint_of_an_earlier_version_resumes_as_one_of_ours(tmp_path: Path) -> None:
    options = {"epochs": 6, "warmup_steps": 2, "early_stopping": {"patience": 3}}
    losses = [5.0, 4.0, 4.5, 4.2, 4.1, 1.0]
    straight = make_trainer(tmp_path / "straight", **options, steps=without_network(losses))
    assert straight.fit().epoch == 5
    broken = make_trainer(
        tmp_path / "broken",
        **options,
        callbacks=[AtStep(13, press_ctrl_c)],
        steps=without_network(losses),
    )
    with pytest.raises(TrainingInterrupted):
        broken.fit()
    last = load_archive(broken.run.last)
    newer = {"run", "history", "best_step", "validation_seconds"}
    assert last.metadata.keys() == _FIRST_FORMAT | newer
    older = {name: last.metadata[name] for name in _FIRST_FORMAT}
    save_archive(broken.run.last, last.arrays.items(), older, "The state")
    resumed = make_trainer(tmp_path / "broken", **options, steps=without_network(losses[3:]))
    resumed.resume()
    state = resumed.fit()
    assert (state.epoch, state.finished) == (5, straight.state.finished)
    assert comparable(resumed.history) == comparable(straight.history)


def test_a_checkpoint_of_a_newer_version_is_refused_with_the_names_it_has_more(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, steps=without_network())
    trainer.fit()
    last = load_archive(trainer.run.last)
    newer = last.metadata | {"cosine_phase": 0.5}
    save_archive(trainer.run.last, last.arrays.items(), newer, "The state")
    with pytest.raises(RunError, match=r"does not know: cosine_phase\. Resume with the version"):
        make_trainer(tmp_path, epochs=2).resume()


def test_two_parts_cannot_save_under_one_name(tmp_path: Path) -> None:
    parts = [WeightAverage(), WeightAverage()]
    for part in parts:
        part.variables = []
        part.after_update = lambda _: None
    trainer = make_trainer(tmp_path, parts=parts, steps=without_network())
    with pytest.raises(ValueError, match=r"must be unique\. Received twice: averaged_steps"):
        trainer.fit()
