"""The training loop: resuming, signals, saving, and parts with their state."""

import errno
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from trainers import (
    VOCAB_SIZE,
    AtStep,
    EveryHook,
    ScriptedUpdates,
    comparable,
    finished,
    make_trainer,
    press_ctrl_c,
    send,
    weights_of,
    without_network,
)

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.errors import RunError, TrainingInterrupted
from seq2seq_kit.training import checkpoint
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("short_epochs")


def test_a_forecast_is_logged_once_after_twenty_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_trainer(tmp_path, epochs=8, steps=without_network()).fit()
    (line,) = [line for line in caplog.messages if "of memory so far" in line]
    assert line.startswith("8 epochs: about ")


RANDOM_MASKS = (
    "dropout",
    "input_dropout",
    "embedding_dropout",
    "word_dropout",
    "token_noise",
    "weight_drop",
)


@pytest.mark.parametrize(
    # Streams of two rows have eleven windows an epoch, so that states are carried over the break.
    "of_kind",
    [{"kind": "encoder_decoder"}, {"reads_streams": True, "batch_size": 2}],
)
def test_an_interrupted_run_resumes_as_if_never_stopped(
    tmp_path: Path, of_kind: dict[str, Any]
) -> None:
    model = dict.fromkeys(RANDOM_MASKS, 0.3) | {"locked_dropout": True}
    options = {"model": model, "epochs": 3, "validate_every": 3, "warmup_steps": 8, **of_kind}
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
    assert len(straight.history) == straight.state.step // 3
    assert comparable(read_metrics(resumed.run)) == comparable(straight.history)


def test_a_longer_limit_continues_a_finished_run(tmp_path: Path) -> None:
    straight = make_trainer(tmp_path / "straight", epochs=2)
    straight.fit()
    make_trainer(tmp_path / "parts", epochs=1).fit()
    resumed = make_trainer(tmp_path / "parts", epochs=2)
    resumed.resume()
    resumed.fit()
    assert comparable(resumed.history) == comparable(straight.history)


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


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def press_twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    trainer = make_trainer(tmp_path, callbacks=[AtStep(2, press_twice)], steps=without_network())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_training_can_run_in_another_thread(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=without_network())
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert trainer.state.epoch == 1


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


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, run_name="one", steps=without_network()).fit()
    other = make_trainer(tmp_path, run_name="other", epochs=2)
    with pytest.raises(RunError, match=r"last\.npz and the config\.yaml beside it are of differ"):
        other.resume()


def test_a_part_is_called_after_each_validation_with_the_history_complete(tmp_path: Path) -> None:
    shown = []
    trainer = make_trainer(
        tmp_path,
        epochs=3,
        after_validation=lambda: shown.append(len(trainer.history)),
        steps=without_network(),
    )
    trainer.fit()
    assert shown == [1, 2, 3]


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


def test_values_and_variables_of_a_part_survive_a_resumption(tmp_path: Path) -> None:
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
    newer = {"run", "history", "best_step", "validation_seconds", "divergences"}
    newer |= {"smoothed_loss", "smoothed_losses"}
    assert last.metadata.keys() == _FIRST_FORMAT | newer
    older = {name: last.metadata[name] for name in _FIRST_FORMAT}
    save_archive(broken.run.last, last.arrays.items(), older, "The state")
    # They kept the history in this file alone, and may have been killed after a validation.
    with broken.run.metrics.open("a", encoding="utf-8") as metrics:
        metrics.write('{"step": 99}\n')
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
