"""The records of validations, in memory, in the log and in `metrics.jsonl`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from trainers import Batch, Clock, comparable, finished, make_trainer, recorded, without_network

from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("short_epochs")


def test_the_line_of_a_validation_counts_completed_epochs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    trainer = make_trainer(tmp_path, epochs=2, validate_every=2, steps=without_network())
    trainer.fit()
    lines = [line.partition(":")[0] for line in caplog.messages if "validation loss" in line]
    assert lines == [f"step {2 * n} (epoch {n / 2})" for n in range(1, 5)]
    assert recorded(trainer, "epoch") == [1, 1, 2, 2]


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


@pytest.mark.parametrize("content", ['{"step": 4', "[", "\xff", '{"step": 4, "digest": "0"}'])
def test_a_damaged_line_of_the_history_is_left_out_and_named(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_bytes(b'{"step": 2}\n' + content.encode("latin-1"))
    assert read_metrics(run) == [{"step": 2}]
    assert "metrics.jsonl, line 2 is damaged and left out" in caplog.text


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


def test_loss_and_speed_count_from_the_last_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: Iterator[float] = iter([1.0, 3.0, 5.0, 7.0])
    sizes = []
    clock = Clock(monkeypatch)

    def train(batch: Batch) -> float:
        sizes.append(float(batch["num_tokens"]))
        clock.wait(2)
        return next(losses)

    trainer = make_trainer(
        tmp_path,
        validate_every=2,
        after_validation=lambda: clock.wait(50),
        steps=without_network(train=train),
    )
    trainer.fit()
    expected = [
        np.average([1.0, 3.0], weights=sizes[:2]),
        np.average([5.0, 7.0], weights=sizes[2:]),
    ]
    np.testing.assert_allclose(recorded(trainer, "loss"), expected)
    speeds = [sum(sizes[:2]) / 4, sum(sizes[2:]) / 4]
    np.testing.assert_allclose(recorded(trainer, "tokens_per_second"), speeds, atol=0.05)
