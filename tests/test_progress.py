"""What is logged while a model trains, on a clock of the test's own."""

import logging

import pytest

from seq2seq_kit.training.progress import Place, ProgressLog, forecast, peak_memory
from seq2seq_kit.training.stopping import Limits


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(
    log: ProgressLog, clock: Clock, *, steps: int, seconds_per_step: float, first: float = 0.0
) -> None:
    """Passes steps of an epoch of 100; the first one takes `first` seconds more."""
    clock.now += first
    begin = clock.now - first
    for step in range(1, steps + 1):
        clock.now += seconds_per_step
        log.step_is_done(
            Place(step, step / 100, clock.now - begin),
            steps_per_epoch=100,
            loss=2.5,
            tokens_per_second=4321.0,
        )


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_forecast_comes_after_twenty_steps_and_leaves_the_first_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    log = ProgressLog(Limits(30, None, None), has_bar=True, clock=clock)
    run(log, clock, steps=19, seconds_per_step=1.5)
    assert logged(caplog) == []
    clock = Clock()
    log = ProgressLog(Limits(30, None, None), has_bar=True, clock=clock)
    run(log, clock, steps=40, seconds_per_step=1.5, first=20.0)
    (line,) = logged(caplog)
    # 3,000 steps of 1.5 seconds and the 20 of the first are 75.3 minutes.
    assert line.startswith("30 epochs: about 75 minutes (0.67 steps/s); ")
    assert "MB of memory so far" in line or "GB of memory so far" in line


@pytest.mark.parametrize("has_bar", [True, False])
def test_a_line_comes_every_30_seconds_where_there_is_no_bar(
    has_bar: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    run(
        ProgressLog(Limits(1, None, None), has_bar=has_bar, clock=clock),
        clock,
        steps=10,
        seconds_per_step=10.0,
    )
    lines = logged(caplog)
    # 97 steps of ten seconds are left, then 94, then 91.
    expected = [
        f"step {step} (epoch 0.{tenth}): loss 2.500, 4321 tokens/s, at most {left} minutes left"
        for step, tenth, left in ((3, 0, 16), (6, 1, 16), (9, 1, 15))
    ]
    assert lines == ([] if has_bar else expected)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # 20 steps a second, 100 steps an epoch.
        (Limits(30, None, None), "30 epochs: about 2.5 minutes (20 steps/s)"),
        (Limits(30, 1000, None), "1,000 steps: about 50 seconds (20 steps/s)"),
        (Limits(None, None, 10.0), "10 minutes: about 12,000 steps, 120 epochs (20 steps/s)"),
        (Limits(3000, None, 10.0), "10 minutes: about 12,000 steps, 120 epochs (20 steps/s)"),
        (Limits(3, None, 10.0), "3 epochs: about 15 seconds (20 steps/s)"),
        (Limits(10_000, None, None), "10,000 epochs: about 14 hours (20 steps/s)"),
        (Limits(1, None, None), "1 epoch: about 5 seconds (20 steps/s)"),
        (Limits(None, None, 1.0), "1 minute: about 1,200 steps, 12 epochs (20 steps/s)"),
    ],
)
def test_the_forecast_is_for_the_limit_that_comes_first(limits: Limits, expected: str) -> None:
    assert forecast(limits, Place(20, 0.2, 1.0), 100, 0.05).startswith(expected)


def test_a_resumed_run_counts_what_it_has_trained_before() -> None:
    # 2,000 of 3,000 steps took 100 seconds; the others take 50 at this speed.
    assert forecast(Limits(30, None, None), Place(2000, 20.0, 100.0), 100, 0.05).startswith(
        "30 epochs: about 2.5 minutes"
    )


def test_the_peak_memory_is_that_of_this_process() -> None:
    before = peak_memory()
    assert before is not None
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory() >= max(before, 200_000_000)
