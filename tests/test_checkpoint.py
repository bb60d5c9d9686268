"""Checkpoints: what is written is read, and what is damaged is refused."""

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_config import config_of

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.config import SavedConfig
from seq2seq_kit.errors import RunError
from seq2seq_kit.pretrained.compact import compact
from seq2seq_kit.training.checkpoint import (
    SAVE_EVERY_SECONDS,
    Checkpoint,
    assign_variables,
    load_best,
    variable_arrays,
)
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.run_folder import RunFolder

ARRAYS = {
    "model/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/1": np.array(7, np.int64),
    "optimizer/0": np.zeros((0, 4), np.float32),
}
FACTS = {"step": 3, "loss": 0.1, "finished": None, "text": "Grüße, 春天"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_archive(tmp_path / "last.npz", ARRAYS.items(), FACTS)
    return tmp_path / "last.npz"


def test_a_loaded_archive_equals_the_saved_one(path: Path) -> None:
    loaded = load_archive(path)
    assert loaded.metadata == FACTS
    assert list(loaded.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)


def test_a_float_survives_bit_for_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-308, 123456789.123456789]
    save_archive(tmp_path / "last.npz", [], {"values": values})
    assert load_archive(tmp_path / "last.npz").metadata["values"] == values


def test_a_checkpoint_cut_at_any_byte_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(RunError, match=r"last\.npz is damaged.*Restore it"):
            load_archive(path)


def test_a_checkpoint_with_any_byte_changed_is_refused_or_loads_the_same(path: Path) -> None:
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            loaded = load_archive(path)
        except RunError:
            continue
        assert loaded.metadata == FACTS
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded.arrays[name], array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": np.zeros(2)}, "damaged"),  # an archive without metadata
        ({"__facts__": np.array("{")}, "damaged"),
        ({"__facts__": np.array([{"step": 1}], dtype=object)}, "damaged"),  # a pickle
        (np.zeros(2), "damaged"),
        ({}, "damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with (tmp_path / "last.npz").open("wb") as file:
        if isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)
    with pytest.raises(RunError, match=reason):
        load_archive(tmp_path / "last.npz")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "trapped")], dtype=object)
    np.savez(tmp_path / "last.npz", trap=trap, __facts__=np.array("{}"))
    with pytest.raises(RunError, match="damaged"):
        load_archive(tmp_path / "last.npz")
    assert not (tmp_path / "trapped").exists()


def test_a_missing_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no\.npz, which does not exist"):
        load_archive(tmp_path / "no.npz")


def test_a_failure_while_writing_leaves_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunError, match=r"No space left on device\. What was there before is unch"):
        save_archive(path, [], {"step": 4})
    assert load_archive(path).metadata == FACTS
    assert [entry.name for entry in path.parent.iterdir()] == ["last.npz"]


def test_a_reader_of_the_old_checkpoint_reads_it_to_its_end(path: Path) -> None:
    content = path.read_bytes()
    with path.open("rb") as reader:
        save_archive(path, [], {"step": 4})
        assert reader.read() == content
    assert load_archive(path).metadata == {"step": 4}


def test_a_process_killed_while_writing_leaves_the_old_one(path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from seq2seq_kit.archive import save_archive
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
save_archive(Path(sys.argv[1]), [], {{"step": 4}})
"""
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert load_archive(path).metadata == FACTS


def variables(*shapes: tuple[int, ...]) -> list[keras.Variable]:
    return [keras.Variable(np.full(shape, 9.0), name=f"v{len(shape)}") for shape in shapes]


def test_variables_get_the_values_of_their_places(tmp_path: Path) -> None:
    # Twelve, so that "10" must not come before "2".
    saved = [keras.Variable(float(value)) for value in range(12)]
    save_archive(tmp_path / "last.npz", variable_arrays(saved, "model"), {})
    fresh = [keras.Variable(-1.0) for _ in range(12)]
    assign_variables(fresh, load_archive(tmp_path / "last.npz"), "model")
    assert [float(variable) for variable in fresh] == list(range(12))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3)], "expected 1 variables under `model`, found 2"),
        ([(2, 3), (), (1,)], "expected 3 variables under `model`, found 2"),
        ([(2, 3), (4,)], r"v1 should have the shape \(4,\), but has \(\)"),
    ],
)
def test_a_checkpoint_of_another_network_changes_nothing(
    path: Path, shapes: list[tuple[int, ...]], message: str
) -> None:
    fresh = variables(*shapes)
    with pytest.raises(RunError, match=message):
        assign_variables(fresh, load_archive(path), "model")
    assert all((variable.numpy() == 9.0).all() for variable in fresh)


def test_one_array_at_a_time_is_in_memory(tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for index in range(4):
            # The newest may still be in the hands of whoever asks for the next.
            assert [reference() is None for reference in alive[:-1]] == [True] * len(alive[:-1])
            array = np.full(1000, float(index))
            alive.append(weakref.ref(array))
            yield str(index), array

    save_archive(tmp_path / "last.npz", arrays(), {})
    assert load_archive(tmp_path / "last.npz").arrays["3"][0] == 3.0


class Recorder(TrainingPart):
    """A part that notes when it is called, and what the file holds then."""

    def __init__(self, path: Path, value: int = 0) -> None:
        self.variables = [keras.Variable(float(value))]
        self.value = value
        self.calls: list[tuple[str, bool]] = []
        self._path = path

    def state(self) -> dict[str, Any]:
        return {"recorded": self.value}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.value = saved["recorded"]

    def before_save(self, state: TrainingState) -> None:
        self.calls.append(("before_save", self._path.exists()))

    def after_save(self, state: TrainingState) -> None:
        self.calls.append(("after_save", self._path.exists()))

    def after_resume(self, state: TrainingState) -> None:
        self.calls.append((f"after_resume at step {state.step} with {self.value}", True))


class Other(TrainingPart):
    """A part that asks, when it is restored, whether the one before it was."""

    def __init__(self, first: Recorder) -> None:
        self._first = first

    def after_resume(self, state: TrainingState) -> None:
        assert ("after_resume at step 7 with 5", True) in self._first.calls


def checkpoint_of(
    folder: Path, value: float, *, run: str | None = "a run", writes: bool = True
) -> tuple[Checkpoint, keras.Model, TrainingState, Recorder]:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    model.set_weights([np.full((1, 2), value)])
    state = TrainingState()
    part = Recorder(RunFolder(folder).last)
    parts = [part, Other(part)]
    return (
        Checkpoint(RunFolder(folder), run, model, state, parts, writes=writes),
        model,
        state,
        part,
    )


def test_a_checkpoint_restores_weights_counters_and_parts(tmp_path: Path) -> None:
    saved, model, state, part = checkpoint_of(tmp_path, 3.0)
    state.seconds = float(SAVE_EVERY_SECONDS)
    assert not saved.is_due
    state.step, state.seconds, state.finished, part.value = 7, state.seconds + 0.5, "a limit", 5
    part.variables[0].assign(6.0)
    model.optimizer.iterations.assign(7)
    assert saved.is_due
    saved.save()
    assert not saved.is_due
    assert part.calls == [("before_save", False), ("after_save", True)]

    found, model, state, part = checkpoint_of(tmp_path, 0.0)
    found.restore()
    np.testing.assert_array_equal(model.get_weights()[0], [[3.0, 3.0]])
    assert int(model.optimizer.iterations.numpy()) == 7
    assert (state.step, state.seconds, state.finished) == (7, SAVE_EVERY_SECONDS + 0.5, "a limit")
    assert (part.value, float(part.variables[0])) == (5, 6.0)
    assert part.calls == [("after_resume at step 7 with 5", True)]
    assert not found.is_due
    state.seconds += SAVE_EVERY_SECONDS
    assert not found.is_due
    state.seconds += 1
    assert found.is_due


def test_a_worker_that_is_no_chief_writes_nothing_but_its_parts_are_asked(tmp_path: Path) -> None:
    checkpoint, *_, part = checkpoint_of(tmp_path, 1.0, writes=False)
    checkpoint.save()
    assert part.calls == [("before_save", False), ("after_save", False)]
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    checkpoint, *_ = checkpoint_of(tmp_path, 1.0)
    checkpoint.save()
    whole = load_archive(tmp_path / "last.npz")

    def save(arrays: Mapping[str, np.ndarray], **metadata: Any) -> None:
        save_archive(tmp_path / "last.npz", arrays.items(), {**whole.metadata, **metadata})

    with pytest.raises(RunError, match=r"last\.npz and the config\.yaml beside it are of differ"):
        checkpoint_of(tmp_path, 1.0, run="another run")[0].restore()
    save(whole.arrays, z_new=1, aa_new=2)
    with pytest.raises(RunError, match=r"does not know: aa_new, z_new\. Resume with the version"):
        checkpoint.restore()
    save({k: v for k, v in whole.arrays.items() if not k.startswith("Recorder/")})
    with pytest.raises(RunError, match="trained otherwise and saved no `Recorder`"):
        checkpoint.restore()
    save(whole.arrays | {"model/0": np.zeros((1, 2))})
    with pytest.raises(RunError, match="should have type float32, but has type float64"):
        checkpoint.restore()
    save(whole.arrays | {"model/0": np.array([[0, np.nan]], np.float32)})
    with pytest.raises(RunError, match=r"is damaged: .* holds values that are not finite"):
        checkpoint.restore()


def test_what_an_earlier_version_did_not_save_stays_as_it_is(tmp_path: Path) -> None:
    checkpoint, _, state, part = checkpoint_of(tmp_path, 1.0, run=None)
    state.step = 7
    checkpoint.save()
    whole = load_archive(tmp_path / "last.npz")
    kept = {k: v for k, v in whole.metadata.items() if k not in ("recorded", "epoch", "run")}
    save_archive(tmp_path / "last.npz", whole.arrays.items(), kept)
    part.value = 5
    state.step, state.epoch = 0, 3
    checkpoint.restore()
    assert (part.value, state.step, state.epoch) == (5, 7, 3)


def test_two_parts_with_the_same_name_of_a_value_are_refused(tmp_path: Path) -> None:
    _, model, state, part = checkpoint_of(tmp_path, 1.0)
    twins = Checkpoint(RunFolder(tmp_path), None, model, state, [part, part], writes=True)
    with pytest.raises(ValueError, match=r"must be unique\. Received twice: recorded"):
        twins.save()


def test_the_best_weights_are_float32_and_those_that_the_config_lists(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    weights = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)
    arrays = dict(compact([("weights/0", weights)], "int8"))
    save_archive(run.best, arrays.items(), {"run": "a run"})
    saved = SavedConfig(config_of(tmp_path), "a run", {})
    found = load_best(run, saved).arrays["weights/0"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weights, atol=1 / 127)
    with pytest.raises(RunError, match="different runs"):
        load_best(run, saved._replace(run="another"))
    with pytest.raises(RunError, match=r"best\.npz"):
        load_best(run, saved._replace(files={"best.npz": "0" * 64}))
