"""Learning rates over the steps of trainings without a network."""

import math
from pathlib import Path

import numpy as np
import pytest
from trainers import AtStep, Clock, make_trainer, press_ctrl_c, recorded, without_network

from seq2seq_kit.errors import TrainingInterrupted
from seq2seq_kit.training.schedules import learning_rate_factor

pytestmark = pytest.mark.usefixtures("short_epochs")


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


def test_a_plateau_continues_after_a_resumption(tmp_path: Path) -> None:
    options = {"learning_rate": 1.0, "plateau_patience": 2, "early_stopping": {"patience": 9}}
    make_trainer(tmp_path, epochs=2, **options, steps=without_network([5.0, 6.0])).fit()
    resumed = make_trainer(tmp_path, epochs=4, **options, steps=without_network([6.0, 6.0]))
    resumed.resume()
    resumed.fit()
    assert recorded(resumed, "learning_rate") == [1.0, 1.0, 1.0, 0.5]


# ---- Schedules of the counters


def rates_of(folder: Path, schedule: str, warmup_steps: int) -> list[float]:
    """The learning rate of each of eight steps, the highest being 0.5."""
    trainer = make_trainer(
        folder,
        epochs=2,
        validate_every=1,
        learning_rate=0.5,
        schedule=schedule,
        warmup_steps=warmup_steps,
        steps=without_network(),
    )
    trainer.fit()
    return recorded(trainer, "learning_rate")


def test_cosine_follows_its_formula_after_a_straight_rise(tmp_path: Path) -> None:
    expected = [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    expected[0] /= 2
    np.testing.assert_allclose(rates_of(tmp_path, "cosine", 2), expected, rtol=1e-6)


def test_inverse_square_root_follows_its_formula(tmp_path: Path) -> None:
    # Vaswani et al., 2017, equation 3, with a highest value of 0.5.
    expected = [0.5 * math.sqrt(3) * min(step**-0.5, step * 3**-1.5) for step in range(1, 9)]
    np.testing.assert_allclose(rates_of(tmp_path, "inverse_sqrt", 3), expected, rtol=1e-6)


def test_one_cycle_rises_for_three_tenths_and_falls_to_nearly_nothing() -> None:
    def factor(progress: float) -> float:
        return learning_rate_factor("one_cycle", step=0, progress=progress)

    # Where the cosine is 1, 0 and -1: the ends, the middle of the rise, the top, the middle of the
    # fall. The ends are PyTorch's: 1/25 of the highest value, and a 10,000th of that.
    places = {0.0: 0.04, 0.15: 0.52, 0.3: 1.0, 0.65: (1 + 4e-6) / 2, 1.0: 4e-6}
    for progress, expected in places.items():
        assert factor(progress) == pytest.approx(expected, rel=1e-9)
    values = [factor(step / 100) for step in range(101)]
    assert values.index(max(values)) == 30
    assert sorted(values[:31]) == values[:31] and sorted(values[30:])[::-1] == values[30:]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_nearest_limit_gives_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    clock = Clock(monkeypatch)
    found = {}
    # Each step takes six seconds: eight steps are two epochs, or 48 seconds.
    for limits in ({"epochs": 2}, {"max_steps": 8, "epochs": 99}, {"max_minutes": 0.8}):
        trainer = make_trainer(
            tmp_path / str(limits),
            **{"epochs": None} | limits,
            schedule=schedule,
            validate_every=1,
            steps=without_network(train=lambda _: clock.wait(6.0) or 1.0),
        )
        trainer.fit()
        found[str(limits)] = recorded(trainer, "learning_rate")
    first, *others = found.values()
    assert len(first) == 8
    for rates in others:
        np.testing.assert_allclose(rates, first, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warmup_steps"), [("cosine", 3), ("one_cycle", 0), ("inverse_sqrt", 2)]
)
def test_a_schedule_continues_after_an_interruption(
    tmp_path: Path, schedule: str, warmup_steps: int
) -> None:
    options = {
        "epochs": 2,
        "validate_every": 1,
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "steps": without_network(),
    }
    straight = make_trainer(tmp_path / "straight", **options)
    straight.fit()
    broken = make_trainer(tmp_path / "broken", callbacks=[AtStep(5, press_ctrl_c)], **options)
    with pytest.raises(TrainingInterrupted):
        broken.fit()
    resumed = make_trainer(tmp_path / "broken", **options)
    resumed.resume()
    resumed.fit()
    assert recorded(resumed, "learning_rate") == recorded(straight, "learning_rate")
