"""Layer normalization that gives a row the same bits whatever rows are beside it."""

from typing import Any

import keras
import tensorflow as tf

from seq2seq_kit.decoding.numerics import in_own_registers


@keras.saving.register_keras_serializable("seq2seq_kit")
class LayerNormalization(keras.layers.LayerNormalization):
    """Normalizes the last axis to mean 0 and variance 1, then scales and shifts it.

    The arguments, weights and, up to rounding, results of `keras.layers.LayerNormalization` over
    the last axis. That one computes the reciprocal roots of all rows in shared vector registers, so
    that the last bits of a row depend on the number of rows.

    Args:
        epsilon: Added to the variance. LSTM outputs start small (a variance of 1e-4 and less),
            so less than Keras's 1e-3.
        **kwargs: The other arguments of `keras.layers.LayerNormalization`.

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        centered = inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1)
        scale = in_own_registers(tf.math.rsqrt, variance + self.epsilon)
        return centered * scale[..., tf.newaxis] * self.gamma + self.beta
