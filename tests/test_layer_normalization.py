"""Layer normalization against Keras's own."""

import keras
import numpy as np

from seq2seq_kit.model.layer_normalization import LayerNormalization

INPUTS = np.random.default_rng(0).normal(size=(70, 3, 9)).astype(np.float32)


def make_layer(kind: type[keras.layers.LayerNormalization]) -> keras.layers.LayerNormalization:
    layer = kind(epsilon=1e-5)
    layer.build(INPUTS.shape)
    layer.set_weights(list(np.random.default_rng(1).normal(size=(2, 9)).astype(np.float32)))
    return layer


def test_results_equal_those_of_keras() -> None:
    found, expected = (
        make_layer(kind)(INPUTS) for kind in (LayerNormalization, keras.layers.LayerNormalization)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_row_has_the_same_bits_in_any_company() -> None:
    layer = make_layer(LayerNormalization)
    whole = layer(INPUTS).numpy()
    for rows in (1, 2, 3, 5, 17, 64):
        np.testing.assert_array_equal(layer(INPUTS[:rows]).numpy(), whole[:rows])


def test_the_layer_is_restored_from_its_config() -> None:
    layer = make_layer(LayerNormalization)
    restored = keras.layers.deserialize(keras.layers.serialize(layer))
    assert isinstance(restored, LayerNormalization)
    assert restored.epsilon == 1e-5
