"""Training that diverges goes on from good weights, three times at most, and can be resumed."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from trainers import (
    AtStep,
    Batch,
    ScriptedUpdates,
    comparable,
    make_trainer,
    press_ctrl_c,
    recorded,
    weights_of,
    without_network,
)

from seq2seq_kit.archive import load_archive
from seq2seq_kit.errors import RunError, TrainingInterrupted
from seq2seq_kit.training.trainer import Trainer

# Epochs of four steps, each with a validation.
pytestmark = pytest.mark.usefixtures("short_epochs")


def losses_at(losses: dict[int, float]) -> Callable[..., Any]:
    """Steps whose loss is 1, but for some of them; an infinite loss leaves weights of NaN."""

    class Steps(ScriptedUpdates):
        def train(self, batch: Batch) -> tuple[float, float]:
            _, num_tokens = super().train(batch)
            step = int(self.model.optimizer.iterations.numpy()) + 1
            self.model.optimizer.iterations.assign(step)
            self.taken = getattr(self, "taken", 0) + 1
            loss = losses.get(self.taken, 1.0)
            if not math.isfinite(loss):
                for variable in (self.model.output_bias, *self.model.optimizer.variables[2:]):
                    variable.assign(np.full(variable.shape, np.nan))
            return loss, num_tokens

    return Steps


def test_good_weights_come_back_with_half_the_learning_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    straight = make_trainer(tmp_path / "straight", epochs=1, steps=losses_at({}))
    straight.fit()
    seen: list[list[np.ndarray]] = []
    look = AtStep(6, lambda: seen.append(weights_of(trainer)))
    trainer = make_trainer(
        tmp_path / "run", epochs=2, callbacks=[look], steps=losses_at({5: math.nan})
    )
    trainer.fit()
    assert "loss became nan at step 5" in caplog.text
    assert "half the learning rate, from the best weights, those of step 4 (1 of" in caplog.text
    # Step 6 starts from the weights after step 4, not from those of step 5, which are NaN.
    (after_six,) = seen
    assert all(np.isfinite(weight).all() for weight in after_six)
    biases = [weights[-1] for weights in (weights_of(straight), after_six)]
    tokens = (biases[1] - 0.9 * biases[0]).round(3)
    assert len(set(tokens.tolist())) == 1  # One batch further: the bias is 0.9 b + tokens.
    assert recorded(trainer, "learning_rate") == pytest.approx([0.001, 0.0005])
    assert "divergences" not in trainer.history[0]
    assert trainer.history[1]["divergences"] == 1
    assert all(math.isfinite(value) for value in trainer.history[1].values())


def test_before_the_first_validation_training_begins_again(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=1, max_steps=1, steps=losses_at({1: math.inf}))
    first = weights_of(trainer)
    trainer.fit()
    for before, after in zip(first, weights_of(trainer), strict=True):
        np.testing.assert_array_equal(before, after)
    # Neither the steps that Adam has counted nor its moments are left.
    iterations, _, *moments = trainer.model.optimizer.variables
    assert not any(np.any(variable.numpy()) for variable in (iterations, *moments))


def test_the_fourth_divergence_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, epochs=9, steps=without_network(train_loss=math.nan))
    with pytest.raises(RunError, match=r"became nan at step 4, after .* halved 3 times\. No state"):
        trainer.fit()
    assert caplog.text.count("half the learning rate") == 3


def test_an_absurd_learning_rate_explodes_and_is_noticed(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=99, learning_rate=10.0, label_smoothing=0.0)
    with pytest.raises(RunError, match=r"training loss rose to [\d.e+]+ at step"):
        trainer.fit()


def test_a_loss_as_bad_as_guessing_is_no_divergence(tmp_path: Path) -> None:
    # Of 20 tokens: the limit is 1.5 times 3.0 nats.
    for loss, divergences in ((4.4, 0), (4.6, 1)):
        folder = tmp_path / str(loss)
        trainer = make_trainer(folder, epochs=3, steps=without_network(train_loss=loss))
        assert trainer.fit().divergences == divergences


def test_one_bad_batch_is_no_divergence(tmp_path: Path) -> None:
    steps = losses_at(dict.fromkeys((4, 11, 16), 9.0))
    assert make_trainer(tmp_path, epochs=4, steps=steps).fit().divergences == 0


def test_weights_that_a_validation_finds_broken_are_replaced(tmp_path: Path) -> None:
    losses = iter([2.0, math.nan, 1.5])

    class Steps(ScriptedUpdates):
        def mean_loss(self, *_: Any, **__: Any) -> float:
            return next(losses)

    trainer = make_trainer(tmp_path, epochs=2, steps=Steps)
    trainer.fit()
    assert recorded(trainer, "val_loss") == [2.0, 1.5]
    assert trainer.state.divergences == 1
    lines = trainer.run.metrics.read_text().splitlines()
    assert [json.loads(line)["val_loss"] for line in lines] == [2.0, 1.5]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"schedule": "cosine"}, [0.5 * (1 + math.cos(math.pi * 7 / 8)) * 0.0005]),
        ({"schedule": "plateau", "warmup_steps": 16}, [0.0005 * 8 / 16]),
    ],
)
def test_schedules_keep_to_the_lower_learning_rate(
    tmp_path: Path, schedule: dict[str, Any], rates: Sequence[float]
) -> None:
    trainer = make_trainer(tmp_path, epochs=2, **schedule, steps=losses_at({5: math.nan}))
    trainer.fit()
    assert recorded(trainer, "learning_rate")[1:] == pytest.approx(rates)


def test_a_resumed_run_diverges_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    def trainer(folder: str, taken: int, *callbacks: Any) -> Trainer:
        def steps(*arguments: Any, **options: Any) -> Any:
            made = losses_at({6: math.nan, 9: math.inf})(*arguments, **options)
            made.taken = taken
            return made

        options = {"epochs": 3, "averaging": "ema", "callbacks": callbacks}
        return make_trainer(tmp_path / folder, **options, steps=steps)

    straight = trainer("straight", 0)
    straight.fit()
    with pytest.raises(TrainingInterrupted):
        trainer("parts", 0, AtStep(7, press_ctrl_c)).fit()
    resumed = trainer("parts", 7)
    resumed.resume()
    resumed.fit()
    assert resumed.state.divergences == straight.state.divergences == 2
    assert comparable(resumed.history) == comparable(straight.history)
    for one, other in zip(weights_of(straight), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_states_of_streams_begin_again(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, reads_streams=True, batch_size=2)
    carried = trainer._steps.carried
    filled = tf.nest.map_structure(lambda part: part + np.nan, carried.by_replica)
    carried.by_replica = filled
    carried.restart()
    assert all(not np.any(np.asarray(part)) for part in tf.nest.flatten(carried.by_replica))


def test_an_average_begins_again_with_the_restored_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=2, averaging="ema", steps=losses_at({5: math.nan}))
    trainer.fit()
    # Of eight steps, those from the fifth on.
    assert load_archive(trainer.run.last).metadata["num_averaged"] == 4
