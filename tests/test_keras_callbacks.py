"""Keras callbacks in our loop, beside `keras.Model.fit`."""

import csv
import http.server
import json
import math
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainers import (
    NUM_ROWS,
    AtStep,
    Batch,
    EveryHook,
    ScriptedUpdates,
    make_trainer,
    press_ctrl_c,
    recorded,
    weights_of,
    without_network,
)

from seq2seq_kit.config import sections
from seq2seq_kit.errors import InputError, TrainingInterrupted
from seq2seq_kit.training.keras_callbacks import check_callbacks

pytestmark = pytest.mark.usefixtures("short_epochs")


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
    assert trainer.fit().finished == "a callback asked to stop"
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
