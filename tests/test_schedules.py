"""Learning rates over the steps of trainings without a network."""

from pathlib import Path

import numpy as np
import pytest
from trainers import make_trainer, recorded, without_network

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


def test_a_plateau_goes_on_over_a_resumption(tmp_path: Path) -> None:
    options = {"learning_rate": 1.0, "plateau_patience": 2, "early_stopping": {"patience": 9}}
    make_trainer(tmp_path, epochs=2, **options, steps=without_network([5.0, 6.0])).fit()
    resumed = make_trainer(tmp_path, epochs=4, **options, steps=without_network([6.0, 6.0]))
    resumed.resume()
    resumed.fit()
    assert recorded(resumed, "learning_rate") == [1.0, 1.0, 1.0, 0.5]
