"""The event file of a run, read by TensorFlow."""

from pathlib import Path

import pytest
import tensorflow as tf
from trainers import make_trainer, without_network

from seq2seq_kit.training.records import read_metrics

pytestmark = pytest.mark.usefixtures("short_epochs")


def events_of(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The step and the values of each event that has some."""
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in tf.compat.v1.train.summary_iterator(str(path))
        if event.summary.value
    ]


def test_the_history_is_in_metrics_and_in_one_file_for_tensorboard(tmp_path: Path) -> None:
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
