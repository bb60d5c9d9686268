"""The fused Adam against Keras's own."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.training.optimizer import FusedAdam, make_optimizer

OPTIONS = {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}


def trained(
    optimizer: keras.optimizers.Optimizer, steps: int = 5, dtype: str = "float32"
) -> list[np.ndarray]:
    """The variables after some steps of random gradients, and the optimizer's state."""
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape), dtype=dtype) for shape in ((4, 3), (5,))]
    for _ in range(steps):
        gradients = [tf.constant(rng.normal(size=v.shape), dtype) for v in variables]
        optimizer.apply(gradients, variables)
        optimizer.learning_rate = float(optimizer.learning_rate.numpy()) * 0.9
    return [variable.numpy() for variable in [*variables, *optimizer.variables]]


@pytest.mark.parametrize("options", [{}, OPTIONS, {"amsgrad": True}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_equal_those_of_keras(options: dict[str, float], dtype: str) -> None:
    found = trained(FusedAdam(**options), dtype=dtype)
    expected = trained(keras.optimizers.Adam(**options), dtype=dtype)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_sparse_gradient_counts_as_the_dense_one() -> None:
    found = []
    for dense in (True, False):
        variable = keras.Variable(np.ones((4, 2)))
        sparse = tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 1]), tf.constant([4, 2]))
        gradient = tf.convert_to_tensor(sparse) if dense else sparse
        FusedAdam(0.1).apply([gradient], [variable])
        found.append(variable.numpy())
    np.testing.assert_array_equal(*found)
    assert (found[0][[0, 2, 3]] == 1.0).all()


def test_a_compiled_model_is_saved_with_it(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(**OPTIONS), "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, FusedAdam)
    assert loaded.get_config() == model.optimizer.get_config()
    for one, other in zip(loaded.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weight_decay_shrinks_weights_and_spares_biases_and_gains() -> None:
    values = {"kernel": 1.0, "embeddings": -2.0, "bias": 3.0, "output_bias": 3.0, "gamma": 3.0}
    variables = [keras.Variable([value], name=name) for name, value in values.items()]
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.01, weight_decay=0.5))
    for _ in range(2):  # Without a gradient Adam moves nothing.
        optimizer.apply([tf.zeros([1])] * len(variables), variables)
    expected = [value * (1 - 0.01 * 0.5) ** 2 for value in (1.0, -2.0)] + [3.0] * 3
    np.testing.assert_allclose(np.concatenate(variables), expected, rtol=1e-6)


def test_without_weight_decay_the_optimizer_has_none() -> None:
    assert make_optimizer(TrainingConfig()).weight_decay is None
