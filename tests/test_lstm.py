"""The stack of LSTM layers, against a plain LSTM in NumPy."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from seq2seq_kit.model.fast_lstm import FastLSTM
from seq2seq_kit.model.lstm import LSTMStack, LSTMState

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 6


def make_stack(num_layers: int = 1, **options: float) -> LSTMStack:
    """A built stack; all weights are random, biases too."""
    stack = LSTMStack(UNITS, num_layers, **options)
    stack.build((None, None, FEATURES))
    rng = np.random.default_rng(0)
    stack.set_weights([rng.normal(size=w.shape) for w in stack.get_weights()])
    return stack


def random_inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def random_states(num_layers: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [tuple(random_inputs(2, BATCH, UNITS) / (layer + 1)) for layer in range(num_layers)]


def assert_states_equal(found: tuple[LSTMState, ...], expected: list) -> None:
    for state, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(state.hidden, plain[0], atol=1e-5)
        np.testing.assert_allclose(state.cell, plain[1], atol=1e-5)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("from_zeros", [True, False])
def test_stack_equals_plain_lstm_layers(num_layers: int, from_zeros: bool) -> None:
    stack, inputs = make_stack(num_layers), random_inputs(BATCH, TIME, FEATURES)
    states = random_states(num_layers)
    if from_zeros:
        states = [reference.zeros(BATCH, UNITS)] * num_layers
    initial = None if from_zeros else tuple(LSTMState(*state) for state in states)
    outputs, finals = stack(inputs, initial_state=initial)
    expected, plain_finals = reference.lstm_stack(inputs, stack.get_weights(), states)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert_states_equal(finals, plain_finals)


def test_padding_reaches_neither_outputs_nor_states() -> None:
    stack, inputs = make_stack(2), random_inputs(BATCH, TIME, FEATURES)
    lengths = [5, 3, 1]
    mask = np.arange(TIME) < np.array(lengths)[:, None]
    outputs, finals = stack(inputs, mask=mask)
    for row, length in enumerate(lengths):
        alone, states = stack(inputs[row : row + 1, :length])
        np.testing.assert_allclose(outputs[row, :length], alone[0], atol=1e-6)
        found = [LSTMState(*(part[row : row + 1] for part in state)) for state in finals]
        assert_states_equal(tuple(found), list(states))


@pytest.mark.parametrize(
    ("num_layers", "options"),
    [(1, {}), (3, {}), (3, {"layer_normalization": True}), (3, {"inner_units": 7})],
)
def test_steps_give_what_the_whole_sequence_gives(num_layers: int, options: dict[str, int]) -> None:
    stack, inputs = make_stack(num_layers, **options), random_inputs(BATCH, TIME, FEATURES)
    outputs, finals = stack(inputs)
    states = stack.zero_state(BATCH)
    for time in range(TIME):
        output, states = stack.step(inputs[:, time], states)
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-5)
    assert_states_equal(states, list(finals))


def test_dropout_is_active_in_training_only() -> None:
    stack, inputs = make_stack(2, dropout=0.5), random_inputs(BATCH, TIME, FEATURES)
    plain, _ = make_stack(2)(inputs)
    np.testing.assert_array_equal(stack(inputs)[0], plain)
    assert np.abs(stack(inputs, training=True)[0] - plain).max() > 0.1


def test_kernels_start_uniform_and_the_forget_gate_open() -> None:
    stack = LSTMStack(64, 2, init_scale=0.2)
    stack.build((None, None, FEATURES))
    for layer in stack.layers:
        for kernel in (layer.cell.kernel.numpy(), layer.cell.recurrent_kernel.numpy()):
            assert 0.19 < np.abs(kernel).max() <= 0.2
            np.testing.assert_allclose(kernel.std(), 0.2 / np.sqrt(3), rtol=0.1)
        np.testing.assert_array_equal(layer.cell.bias, np.repeat([0.0, 1.0, 0.0, 0.0], 64))
    first, second = (layer.cell.recurrent_kernel.numpy() for layer in stack.layers)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("features", "scale"), [(64, 0.1), (256, 0.1), (512, 0.05)])
def test_gates_that_read_embeddings_start_with_the_same_deviation(
    features: int, scale: float
) -> None:
    stack = LSTMStack(64, 2, reads_embeddings=True, init_scale=scale)
    stack.build((None, None, features))
    first, second = (layer.cell.kernel.numpy() for layer in stack.layers)
    embeddings = np.random.default_rng(1).uniform(-scale, scale, (500, features))
    assert (embeddings @ first).std() == pytest.approx(0.5, rel=0.05)
    assert np.abs(second).max() <= scale


def test_kernels_that_read_few_features_start_bounded() -> None:
    stack = LSTMStack(64, reads_embeddings=True, init_scale=0.001)
    stack.build((None, None, 4))
    assert 1.9 < np.abs(stack.layers[0].cell.kernel.numpy()).max() <= 2.0


def test_stack_is_restored_from_its_config() -> None:
    stack = LSTMStack(
        UNITS, 3, dropout=0.2, init_scale=0.3, use_cudnn=False, name="one", trainable=False
    )
    restored = keras.layers.deserialize(keras.layers.serialize(stack))
    assert isinstance(restored, LSTMStack)
    assert restored.get_config() == stack.get_config()
    assert [layer.use_cudnn for layer in restored.layers] == [False] * 3


def masks_of(stack: LSTMStack, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What each layer gets of ones, once in training: its dropout mask."""
    masks = []

    def take_ones(layer: keras.layers.Layer, inputs: tf.Tensor, **_: object) -> list[tf.Tensor]:
        masks.append(np.asarray(inputs))
        ones = tf.ones([*inputs.shape[:2], layer.units])
        return [ones, ones[:, 0], ones[:, 0]]

    monkeypatch.setattr(FastLSTM, "__call__", take_ones)
    stack(np.ones((50, TIME, FEATURES), np.float32), training=True)
    return masks


def test_a_locked_mask_is_the_same_at_all_time_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = make_stack(2, dropout=0.4, locked_dropout=True)
    for mask in masks_of(stack, monkeypatch):
        np.testing.assert_array_equal(mask, np.repeat(mask[:, :1], TIME, axis=1))
        assert (mask == 0).mean() == pytest.approx(0.4, abs=0.12)
        assert len(np.unique(mask, axis=0)) > 5


def test_an_unlocked_mask_differs_from_step_to_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for mask in masks_of(make_stack(2, dropout=0.4), monkeypatch):
        assert (mask != mask[:, :1]).any()


def test_embeddings_can_have_a_separate_dropout_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = make_stack(3, dropout=0.5, input_dropout=0.0)
    first, *others = masks_of(stack, monkeypatch)
    assert (first == 1).all()
    assert all((mask == 0).mean() == pytest.approx(0.5, abs=0.1) for mask in others)


def test_layers_are_normalized_before_the_residual_connection() -> None:
    stack, inputs = make_stack(2, layer_normalization=True), random_inputs(BATCH, TIME, FEATURES)
    weights = stack.get_weights()
    expected = inputs
    for layer in range(2):
        gain, shift = weights[6 + 2 * layer : 8 + 2 * layer]
        zeros = reference.zeros(BATCH, UNITS)
        outputs, _ = reference.lstm(expected, weights[3 * layer : 3 * layer + 3], zeros)
        centered = outputs - outputs.mean(axis=-1, keepdims=True)
        outputs = gain * centered / np.sqrt(outputs.var(axis=-1, keepdims=True) + 1e-5) + shift
        expected = outputs + expected if layer else outputs
    np.testing.assert_allclose(stack(inputs)[0], expected, atol=1e-4)


def test_inner_layers_are_wider_and_only_equal_sizes_are_added() -> None:
    stack, inputs = make_stack(3, inner_units=7), random_inputs(BATCH, TIME, FEATURES)
    outputs, finals = stack(inputs)
    assert [state.hidden.shape[-1] for state in finals] == [7, 7, UNITS]
    weights = [stack.get_weights()[index : index + 3] for index in (0, 3, 6)]
    first, _ = reference.lstm(inputs, weights[0], reference.zeros(BATCH, 7))
    second, _ = reference.lstm(first, weights[1], reference.zeros(BATCH, 7))
    expected, _ = reference.lstm(first + second, weights[2], reference.zeros(BATCH, UNITS))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
