"""The bidirectional encoder, against plain LSTMs run in both directions over each row alone."""

import keras
import numpy as np
import pytest
import reference

from seq2seq_kit.model.encoder import LSTMEncoder, reverse_sequences

FEATURES, UNITS, TIME = 4, 6, 5
LENGTHS = [5, 3, 1]
MASK = np.arange(TIME) < np.array(LENGTHS)[:, None]


def make_encoder(num_layers: int = 1) -> LSTMEncoder:
    encoder = LSTMEncoder(UNITS, num_layers)
    encoder.build((None, None, FEATURES))
    rng = np.random.default_rng(0)
    encoder.set_weights([rng.normal(size=w.shape) for w in encoder.get_weights()])
    return encoder


def random_inputs() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, TIME, FEATURES)).astype(np.float32)


def plain_encoder(
    encoder: LSTMEncoder, row: np.ndarray
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Outputs and final states for one unpadded sequence `(1, time, features)`."""
    states = []
    for layer in range(encoder.encoder_layers):
        zeros = reference.zeros(1, UNITS // 2)
        ahead, ahead_state = reference.lstm(row, encoder.forward_layers[layer].get_weights(), zeros)
        back, back_state = reference.lstm(
            row[:, ::-1], encoder.backward_layers[layer].get_weights(), zeros
        )
        outputs = np.concatenate([ahead, back[:, ::-1]], axis=-1)
        row = outputs + row if layer else outputs
        parts = zip(ahead_state, back_state, strict=True)
        states.append(tuple(np.concatenate(part, axis=-1) for part in parts))
    return row, states


@pytest.mark.parametrize("num_layers", [1, 3])
def test_each_row_equals_plain_lstms_over_its_real_length(num_layers: int) -> None:
    encoder, inputs = make_encoder(num_layers), random_inputs()
    outputs, states = encoder(inputs, mask=MASK)
    for row, length in enumerate(LENGTHS):
        expected, finals = plain_encoder(encoder, inputs[row : row + 1, :length])
        np.testing.assert_allclose(outputs[row, :length], expected[0], atol=1e-5)
        for state, (hidden, cell) in zip(states, finals, strict=True):
            np.testing.assert_allclose(state.hidden[row], hidden[0], atol=1e-5)
            np.testing.assert_allclose(state.cell[row], cell[0], atol=1e-5)


def test_more_padding_changes_neither_outputs_nor_states() -> None:
    encoder, inputs = make_encoder(2), random_inputs()
    outputs, states = encoder(inputs, mask=MASK)
    wider = np.pad(inputs, [(0, 0), (0, 3), (0, 0)], constant_values=9)
    wide_outputs, wide_states = encoder(wider, mask=np.pad(MASK, [(0, 0), (0, 3)]))
    np.testing.assert_allclose(wide_outputs[:, :TIME][MASK], outputs[MASK], atol=1e-6)
    for state, wide in zip(states, wide_states, strict=True):
        np.testing.assert_allclose(state, wide, atol=1e-6)


def test_sequences_are_reversed_within_their_length() -> None:
    inputs = np.array([[[1], [2], [3], [9]], [[4], [8], [9], [7]]], np.float32)
    mask = np.array([[True, True, True, False], [True, False, False, False]])
    reversed_ = reverse_sequences(inputs, mask)
    assert reversed_[:, :, 0].numpy().tolist() == [[3, 2, 1, 9], [4, 8, 9, 7]]
    np.testing.assert_array_equal(reverse_sequences(reversed_, mask), inputs)


def test_an_odd_number_of_units_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be even.*units=7"):
        LSTMEncoder(7)


def test_encoder_is_restored_from_its_config() -> None:
    encoder = LSTMEncoder(UNITS, 2, dropout=0.2, init_scale=0.3, use_cudnn=False, name="one")
    restored = keras.layers.deserialize(keras.layers.serialize(encoder))
    assert isinstance(restored, LSTMEncoder)
    assert restored.get_config() == encoder.get_config()
    stacks = restored.forward_layers + restored.backward_layers
    assert [layer.use_cudnn for stack in stacks for layer in stack.layers] == [False] * 4
