"""Dropout that grows: against shares that are counted, and trainings with and without it."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from trainers import make_trainer

from seq2seq_kit.model.dropout import GrowingDropout, grow_dropout
from seq2seq_kit.training.parts import TrainingState
from seq2seq_kit.training.schedules import DropoutWarmUp


def test_the_share_that_is_dropped_follows_the_strength_in_one_graph() -> None:
    model = keras.Sequential(
        [GrowingDropout(0.5), GrowingDropout(0.4, noise_shape=(None, 1, None))]
    )
    model.build((None, None, None))
    strength = grow_dropout(model)
    first, locked = model.layers
    traced = tf.function(
        lambda inputs: (first(inputs, training=True), locked(inputs, training=True))
    )
    ones = tf.ones((40, 5, 50))
    for share in (0.0, 0.5, 1.0):
        strength.variable.assign(share)
        plain, same = (outputs.numpy() for outputs in traced(ones))
        for outputs, rate in ((plain, 0.5 * share), (same, 0.4 * share)):
            assert abs(np.mean(outputs == 0) - rate) < 0.05
            np.testing.assert_allclose(outputs[outputs != 0], 1 / (1 - rate), rtol=1e-6)
        assert (same == same[:, :1]).all()
        assert share == 0 or not (plain == plain[:, :1]).all()
    assert traced.experimental_get_tracing_count() == 1
    np.testing.assert_array_equal(first(ones, training=False), ones)


def test_dropout_warms_up_linearly() -> None:
    strength = grow_dropout(keras.Sequential([GrowingDropout(0.5)]))
    part = DropoutWarmUp(strength, 4)
    found = []
    for step in range(6):
        part.before_step(TrainingState(step=step))
        found.append(float(strength.variable))
    assert found == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_long_warm_up_trains_as_without_dropout(tmp_path: Path) -> None:
    # A rate of 0 would draw other initial weights: such a layer has no seed generator.
    plain, grown = (
        make_trainer(tmp_path / str(rate), model={"dropout": rate}, dropout_warmup_steps=steps)
        for rate, steps in ((1e-9, 0), (0.5, 10**9))
    )
    for trainer in (plain, grown):
        trainer.fit()
    found, expected = (trainer.history[-1]["val_loss"] for trainer in (grown, plain))
    assert abs(found - expected) < 1e-5
