"""When training ends, and which weights are the best."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import (
    VOCAB_SIZE,
    AtStep,
    Clock,
    ScriptedUpdates,
    finished,
    make_trainer,
    press_ctrl_c,
    random_rows,
    recorded,
    weights_of,
    without_network,
)

from seq2seq_kit.archive import load_archive
from seq2seq_kit.config import TrainingConfig, sections
from seq2seq_kit.data.plan import BatchSet
from seq2seq_kit.errors import RunError, TrainingInterrupted
from seq2seq_kit.training.stopping import Limits, limits_of
from seq2seq_kit.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_epochs")


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


def test_a_run_that_early_stopping_has_ended_does_not_continue(tmp_path: Path) -> None:
    options = {"epochs": 9, "early_stopping": {"patience": 1}}
    make_trainer(tmp_path, **options, steps=without_network([1.0, 2.0])).fit()
    resumed = make_trainer(tmp_path, **options, steps=without_network([0.5]))
    resumed.resume()
    assert resumed.fit().finished == "no better validation loss for 1 validations"
    assert resumed.state.step == 8


def test_a_loss_that_is_no_number_ends_training_with_advice(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.model.output_bias.assign(np.full(VOCAB_SIZE, np.nan))
    with pytest.raises(RunError, match=r"loss became nan at step 4, .*No state.*learning_rate"):
        trainer.fit()


def test_a_run_whose_loss_is_no_number_can_resume_from_before(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=without_network()).fit()
    trainer = make_trainer(tmp_path, epochs=2, steps=without_network(train_loss=math.inf))
    trainer.resume()
    with pytest.raises(RunError, match=r"loss became inf at step 8.*kept in last\.npz"):
        trainer.fit()
    assert load_archive(tmp_path / "last.npz").metadata["step"] == 4


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
def test_training_stops_after_patience_validations_without_a_better_one(
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


def test_damaged_best_weights_are_refused_before_training_continues(tmp_path: Path) -> None:
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
