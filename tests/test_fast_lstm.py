"""The fast LSTM against Keras's own: same weights, same results, same gradients."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.model.fast_lstm import FastLSTM, observe_layers, run_lstm

BATCH, TIME, FEATURES, UNITS = 4, 6, 3, 5
MASKS = {
    "none": None,
    "right": [6, 3, 1, 5],
    "left": [[0, 0, 1, 1, 1, 1], [1] * 6, [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1]],
    "holes": [[1, 0, 1, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0] * 6, [1] * 6],
}


def draw(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mask_of(kind: str) -> np.ndarray | None:
    if kind == "right":
        return np.arange(TIME) < np.array(MASKS[kind])[:, None]
    return None if MASKS[kind] is None else np.array(MASKS[kind], bool)


def make_pair(**options: Any) -> tuple[keras.layers.LSTM, FastLSTM]:
    """Keras's layer and the fast one with the same random weights."""
    stock = keras.layers.LSTM(UNITS, **options)
    stock.build((BATCH, None, FEATURES))
    stock.set_weights([draw(*w.shape, seed=w.ndim + len(w)) for w in stock.get_weights()])
    fast = FastLSTM.from_config(stock.get_config())
    fast.build((BATCH, None, FEATURES))
    fast.set_weights(stock.get_weights())
    return stock, fast


def run(layer: keras.layers.LSTM, **call: Any) -> list[np.ndarray]:
    """All outputs, and the gradients of a random sum of them: of inputs, states and weights."""
    inputs = tf.constant(draw(BATCH, TIME, FEATURES))
    states = [tf.constant(state) for state in draw(2, BATCH, UNITS, seed=2)]

    @tf.function
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([inputs, *states])
            outputs = tf.nest.flatten(layer(inputs, initial_state=states, **call))
            loss = sum(
                tf.reduce_sum(part * draw(*part.shape, seed=3 + place))
                for place, part in enumerate(outputs)
            )
        variables = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(loss, [inputs, *states, *variables])
        assert not any(gradient is None for gradient in gradients)
        return [*outputs, *gradients]

    return [part.numpy() for part in compute()]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True, "return_state": True},
        {"return_sequences": True, "return_state": True, "go_backwards": True},
        {"return_state": True},
        {},
    ],
)
def test_results_and_gradients_equal_those_of_keras(mask: str, options: dict[str, Any]) -> None:
    stock, fast = make_pair(**options)
    call = {"mask": mask_of(mask)}
    for found, expected in zip(run(fast, **call), run(stock, **call), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_states_are_carried_on_as_keras_does() -> None:
    stock, fast = make_pair(stateful=True, return_sequences=True)
    for seed in (1, 2):
        inputs = draw(BATCH, TIME, FEATURES, seed=seed)
        np.testing.assert_allclose(fast(inputs), stock(inputs), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"use_bias": False},
        {"zero_output_for_mask": True},
        {"unroll": True},
    ],
)
def test_what_the_fast_loop_does_not_cover_is_keras_s_own(options: dict[str, Any]) -> None:
    stock, fast = make_pair(return_sequences=True, **options)
    inputs, mask = draw(BATCH, TIME, FEATURES), mask_of("holes")
    np.testing.assert_array_equal(fast(inputs, mask=mask), stock(inputs, mask=mask))


def test_dropout_zeroes_the_same_inputs_at_each_step() -> None:
    _, fast = make_pair(return_sequences=True, dropout=0.5)
    inputs = draw(BATCH, TIME, FEATURES)
    keras.utils.set_random_seed(3)
    found = fast(inputs, training=True).numpy()
    # With one of three inputs dropped or not, a row is one of eight; by brute force:
    candidates = np.array(
        [
            fast(2.0 * inputs * np.array([kept // 4, kept // 2 % 2, kept % 2], np.float32))
            for kept in range(8)
        ]
    )
    nearest = np.abs(candidates - found).max(axis=(2, 3)).min(axis=0)
    np.testing.assert_allclose(nearest, 0.0, atol=1e-6)
    assert np.abs(found - fast(inputs)).max() > 0.1


@pytest.mark.parametrize("mask", MASKS)
def test_gradients_are_the_slopes(mask: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 2), (2, 3), (2, 3), (2, 12), (3, 12), (12,)]
    arguments = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    chosen = mask_of(mask)
    chosen = None if chosen is None else tf.constant(chosen[:2, :3])

    def combine(*arguments: tf.Tensor) -> tf.Tensor:
        outputs, hidden, cell = run_lstm(*arguments, mask=chosen)
        return tf.concat([tf.reshape(outputs, [-1]), tf.reshape(hidden * cell, [-1])], 0)

    for analytic, numeric in zip(
        *tf.test.compute_gradient(combine, arguments, delta=1e-5), strict=True
    ):
        np.testing.assert_allclose(analytic, numeric, atol=1e-8)


def test_half_precision_stays_near() -> None:
    stock, _ = make_pair(return_sequences=True)
    half = FastLSTM(UNITS, return_sequences=True, dtype="mixed_bfloat16")
    half.build((BATCH, None, FEATURES))
    half.set_weights(stock.get_weights())
    inputs = draw(BATCH, TIME, FEATURES)
    assert half(inputs).dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(half(inputs), tf.float32), stock(inputs), atol=0.05)


def test_a_saved_layer_is_loaded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, FEATURES)), FastLSTM(UNITS)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0], FastLSTM)
    inputs = draw(BATCH, TIME, FEATURES)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_an_exported_layer_answers_as_it_does(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, FEATURES)), FastLSTM(UNITS)])
    model.export(tmp_path / "exported", verbose=False)
    inputs = draw(BATCH, TIME, FEATURES)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_array_equal(exported.serve(inputs), model(inputs))


# ---- Weight drop


def dropping_pair(rate: float = 0.4) -> tuple[FastLSTM, FastLSTM]:
    """The same layer with and without weight drop."""
    options = {"return_sequences": True, "return_state": True}
    plain = make_pair(**options)[1]
    dropping = FastLSTM(UNITS, weight_drop=rate, **options)
    dropping.build((BATCH, None, FEATURES))
    dropping.set_weights(plain.get_weights())
    return plain, dropping


@pytest.mark.parametrize("covered", [True, False])
def test_weight_drop_computes_with_a_part_of_the_recurrent_kernel(
    monkeypatch: pytest.MonkeyPatch, covered: bool
) -> None:
    if not covered:  # Keras's own loop, or cuDNN.
        monkeypatch.setattr(FastLSTM, "_is_covered", lambda _: False)
    plain, dropping = dropping_pair()
    kernel = dropping.cell.recurrent_kernel.numpy()
    # The mask is what dropout makes of ones from the same seed.
    seed = dropping.cell.seed_generator.state.numpy()
    mask = keras.random.dropout(np.ones_like(kernel), 0.4, seed=dropping.cell.seed_generator)
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.6)}
    dropping.cell.seed_generator.state.assign(seed)
    plain.cell.recurrent_kernel.assign(kernel * mask)
    found, expected = run(dropping, training=True), run(plain, training=True)
    expected[7] = expected[7] * mask  # The gradient of the kernel, of which a part was used.
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(dropping.cell.recurrent_kernel, kernel)


def test_weight_drop_leaves_validation_and_steps_alone_and_draws_again_in_training() -> None:
    plain, dropping = dropping_pair()
    for one, other in zip(run(dropping), run(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    state = draw(2, BATCH, UNITS)
    inputs = draw(BATCH, FEATURES)
    np.testing.assert_array_equal(dropping.step(inputs, *state)[0], plain.step(inputs, *state)[0])
    first, second = (run(dropping, training=True)[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_weight_drop_excludes_the_dropout_of_the_layer() -> None:
    with pytest.raises(ValueError, match="cannot be combined with `dropout`"):
        FastLSTM(UNITS, weight_drop=0.1, dropout=0.1)
    assert FastLSTM.from_config(dropping_pair(0.25)[1].get_config()).weight_drop == 0.25


def test_calls_are_observed_in_the_body_only() -> None:
    _, layer = make_pair(return_sequences=True, return_state=True)
    inputs, calls = draw(BATCH, TIME, FEATURES), []
    layer(inputs)
    states = list(draw(2, BATCH, UNITS))
    with observe_layers(calls.append):
        outputs = layer(inputs, initial_state=states)
    layer(inputs)
    (call,) = calls
    assert call.layer is layer
    np.testing.assert_array_equal(call.inputs, inputs)
    np.testing.assert_array_equal(call.initial_state, states)
    np.testing.assert_array_equal(call.outputs[0], outputs[0])
