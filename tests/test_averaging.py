"""Averaged weights against averages computed afterwards from the weights of each step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import (
    AtStep,
    Batch,
    ScriptedSteps,
    make_trainer,
    press_ctrl_c,
    weights_of,
    without_network,
)

from seq2seq_kit.archive import load_archive
from seq2seq_kit.errors import TrainingInterrupted
from seq2seq_kit.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_epochs")

OPTIONS = {"epochs": 3, "validate_every": 3}  # Twelve steps, four validations.


class Run:
    """A training whose weights follow from the batches, with all that averaging should see."""

    def __init__(
        self, folder: Path, losses: list[float], *, callbacks: Any = (), **options: Any
    ) -> None:
        self.plain: list[list[np.ndarray]] = []
        """The weights after each step."""
        self.validated: list[list[np.ndarray]] = []
        """The weights at each validation."""
        run, scripted = self, without_network(losses)

        def steps(*arguments: Any, **others: Any) -> ScriptedSteps:
            made = scripted(*arguments, **others)
            measure = made.mean_loss

            def train(batch: Batch) -> tuple[float, float]:
                for place, weight in enumerate(made.model.trainable_variables):
                    weight.assign(weight * 0.9 + batch["num_tokens"] * (place + 1))
                run.plain.append([weight.numpy() for weight in made.model.trainable_variables])
                return 1.0, float(batch["num_tokens"])

            def mean_loss(*arguments: Any, **others: Any) -> float:
                run.validated.append([w.numpy() for w in made.model.trainable_variables])
                return measure(*arguments, **others)

            made.train, made.mean_loss = train, mean_loss
            return made

        self.shown: list[list[np.ndarray]] = []
        """The weights that a part sees after each validation."""
        self.trainer: Trainer = make_trainer(
            folder,
            **OPTIONS | options,
            steps=steps,
            callbacks=callbacks,
            after_validation=lambda: self.shown.append(weights_of(self.trainer)),
        )

    @property
    def best(self) -> list[np.ndarray]:
        return list(load_archive(self.trainer.run.best).arrays.values())


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def moving_average(steps: list[list[np.ndarray]], decay: float) -> list[np.ndarray]:
    """The average after the last step, as the definition says it."""
    average = [np.zeros(weight.shape) for weight in steps[0]]
    for number, weights in enumerate(steps, start=1):
        share = max(1 - decay, 1 / number)
        average = [(1 - share) * a + share * w for a, w in zip(average, weights, strict=True)]
    return average


def mean(steps: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.mean(weights, axis=0) for weights in zip(*steps, strict=True)]


def test_a_moving_average_is_validated_shown_and_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, [4.0, 3.0, 2.0, 5.0], averaging="ema", averaging_decay=0.75)
    run.trainer.fit()
    for place, (validated, shown) in enumerate(zip(run.validated, run.shown, strict=True)):
        expected = moving_average(run.plain[: 3 * place + 3], 0.75)
        assert_equal(validated, expected)
        assert_equal(shown, expected)
    assert_equal(run.best, moving_average(run.plain[:9], 0.75))
    # Training continues from the plain weights.
    for place, weights in enumerate(weights_of(run.trainer)):
        np.testing.assert_array_equal(weights, run.plain[-1][place])


def test_the_first_steps_of_a_moving_average_count_equally(tmp_path: Path) -> None:
    run = Run(tmp_path, [], averaging="ema", averaging_decay=0.99)
    run.trainer.fit()
    assert_equal(run.validated[-1], mean(run.plain))


def test_a_triggered_average_begins_where_the_loss_has_stopped_falling(tmp_path: Path) -> None:
    # 2.5 is higher than 2.0, which is two validations old, more than the patience of one.
    losses = [3.0, 2.0, 2.2, 2.5, 1.0, 0.9]
    run = Run(
        tmp_path, losses, epochs=5, averaging="triggered", averaging_patience=1, validate_every=3
    )
    run.trainer.fit()
    for place in range(4):
        assert_equal(run.validated[place], run.plain[3 * place + 2])
    assert_equal(run.validated[4], mean(run.plain[12:15]))
    assert_equal(run.validated[5], mean(run.plain[12:18]))
    assert_equal(run.best, mean(run.plain[12:20]))


def test_without_averaging_nothing_is_saved_for_it(tmp_path: Path) -> None:
    run = Run(tmp_path, [])
    run.trainer.fit()
    assert_equal(run.validated[-1], run.plain[-1])
    archive = load_archive(run.trainer.run.last)
    assert not [name for name in [*archive.arrays, *archive.metadata] if "averag" in name.lower()]


@pytest.mark.parametrize("at", [4, 10])
@pytest.mark.parametrize("kind", ["ema", "triggered"])
def test_an_average_continues_after_an_interruption(tmp_path: Path, kind: str, at: int) -> None:
    losses = [3.0, 4.0, 5.0, 2.0]
    options = {"averaging": kind}
    if kind == "triggered":
        options["averaging_patience"] = 1
    straight = Run(tmp_path / "straight", losses, **options)
    straight.trainer.fit()
    broken = Run(tmp_path / "broken", losses, **options, callbacks=[AtStep(at, press_ctrl_c)])
    with pytest.raises(TrainingInterrupted):
        broken.trainer.fit()
    resumed = Run(tmp_path / "broken", losses[at // 3 :], **options)
    resumed.trainer.resume()
    resumed.trainer.fit()
    for folder in ("last", "best"):
        found, expected = (
            load_archive(getattr(run.trainer.run, folder)).arrays for run in (resumed, straight)
        )
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_an_interrupted_validation_leaves_the_weights_of_training(tmp_path: Path) -> None:
    run = Run(tmp_path, [], averaging="ema", averaging_decay=0.5)
    run.trainer._steps.mean_loss = lambda *_, **__: press_ctrl_c()  # type: ignore[assignment]
    with pytest.raises(TrainingInterrupted):
        run.trainer.fit()
    for weights, expected in zip(weights_of(run.trainer), run.plain[-1], strict=True):
        np.testing.assert_array_equal(weights, expected)
