"""The decoder with attention: whole sequences against NumPy, steps against whole sequences."""

from typing import Any

import keras
import numpy as np
import pytest
import reference

from seq2seq_kit.model.attention import Memory
from seq2seq_kit.model.decoder import LSTMDecoder
from seq2seq_kit.model.lstm import LSTMState

BATCH, TIME, FEATURES, UNITS, VALUES, OUTPUT = 3, 4, 5, 6, 8, 7
MASK = np.arange(5) < np.array([5, 3, 1])[:, None]
SHAPES = [(1, "last"), (1, "first"), (3, "last"), (3, "first")]
ATTENTIONS = ["multiplicative", "additive"]


def make_decoder(
    num_layers: int, attention_layer: str, attention: str, **options: Any
) -> LSTMDecoder:
    decoder = LSTMDecoder(
        UNITS,
        num_layers,
        output_dim=OUTPUT,
        attention=attention,
        attention_layer=attention_layer,
        **options,
    )
    decoder.build((None, None, FEATURES), values_dim=VALUES)
    rng = np.random.default_rng(0)
    decoder.set_weights([rng.normal(size=w.shape) / 2 for w in decoder.get_weights()])
    return decoder


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_states(num_layers: int) -> tuple[LSTMState, ...]:
    return tuple(LSTMState(*normal(layer, 2, BATCH, UNITS)) for layer in range(num_layers))


@pytest.mark.parametrize(("num_layers", "attention_layer"), SHAPES)
def test_decoder_equals_plain_layers(num_layers: int, attention_layer: str) -> None:
    decoder = make_decoder(num_layers, attention_layer, "multiplicative")
    inputs, values = normal(7, BATCH, TIME, FEATURES), normal(8, BATCH, 5, VALUES)
    states = random_states(num_layers)
    found, weights = decoder(inputs, decoder.memorize(values, MASK), initial_state=states)
    below = num_layers if attention_layer == "last" else 1
    outputs, _ = reference.lstm_stack(inputs, decoder.below.get_weights(), states[:below])
    keys = values @ decoder.attend.key_projection.kernel.numpy()
    contexts, plain_weights = reference.attend(outputs @ keys.swapaxes(1, 2), values, MASK)
    if below < num_layers:
        joined = np.concatenate([outputs, contexts], axis=-1)
        above, _ = reference.lstm_stack(joined, decoder.above.get_weights(), states[below:])
        outputs = outputs + above
    joined = np.concatenate([outputs, contexts], axis=-1)
    np.testing.assert_allclose(weights, plain_weights, atol=1e-5)
    np.testing.assert_allclose(found, np.tanh(joined @ decoder.combine.kernel.numpy()), atol=1e-5)


@pytest.mark.parametrize(("num_layers", "attention_layer"), SHAPES)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_steps_give_what_the_whole_sequence_gives(
    num_layers: int, attention_layer: str, attention: str
) -> None:
    decoder = make_decoder(num_layers, attention_layer, attention)
    inputs, states = normal(7, BATCH, TIME, FEATURES), random_states(num_layers)
    memory = decoder.memorize(normal(8, BATCH, 5, VALUES), MASK)
    outputs, weights = decoder(inputs, memory, initial_state=states)
    for time in range(TIME):
        output, states, attended = decoder.step(inputs[:, time], memory, states)
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-5)
        np.testing.assert_allclose(attended, weights[:, time], atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_several_rows_share_the_memory_of_their_source(attention: str) -> None:
    decoder = make_decoder(2, "first", attention)
    memory = decoder.memorize(normal(8, BATCH, 5, VALUES), MASK)
    inputs = normal(7, 2 * BATCH, FEATURES)
    states = tuple(LSTMState(*normal(layer, 2, 2 * BATCH, UNITS)) for layer in range(2))
    found, _, weights = decoder.step(inputs, memory, states)
    copies = Memory(*(np.repeat(part, 2, axis=0) for part in memory))
    expected, _, expected_weights = decoder.step(inputs, copies, states)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)


def test_dropout_is_active_in_training_only() -> None:
    decoder = make_decoder(1, "last", "additive", dropout=0.5)
    memory = decoder.memorize(normal(8, BATCH, 5, VALUES), MASK)
    inputs, states = normal(7, BATCH, TIME, FEATURES), random_states(1)
    plain, _ = decoder(inputs, memory, initial_state=states)
    np.testing.assert_array_equal(decoder(inputs, memory, initial_state=states)[0], plain)
    trained, _ = decoder(inputs, memory, initial_state=states, training=True)
    assert np.count_nonzero(trained == 0) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "dot"}, "`attention` must be one of .*Received: 'dot'"),
        ({"attention_layer": "middle"}, "`attention_layer` must be .*Received: 'middle'"),
    ],
)
def test_an_unknown_choice_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTMDecoder(UNITS, output_dim=OUTPUT, **options)


def test_decoder_is_restored_from_its_config() -> None:
    decoder = LSTMDecoder(
        UNITS,
        2,
        output_dim=OUTPUT,
        attention="additive",
        attention_layer="first",
        dropout=0.2,
        init_scale=0.3,
        use_cudnn=False,
    )
    restored = keras.layers.deserialize(keras.layers.serialize(decoder))
    assert isinstance(restored, LSTMDecoder)
    assert restored.get_config() == decoder.get_config()
    layers = restored.below.layers + restored.above.layers
    assert [layer.use_cudnn for layer in layers] == [False] * 2
