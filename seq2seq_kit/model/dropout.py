"""Dropout whose rate can grow during training, in a graph that is traced once."""

from typing import Any

import keras
import tensorflow as tf


class DropoutStrength:
    """The share of their rates with which dropout layers work, a variable from 0 to 1.

    Not an attribute that Keras would save: training sets it before each step.
    """

    def __init__(self) -> None:
        self.variable = tf.Variable(
            1.0,
            trainable=False,
            name="dropout_strength",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


@keras.saving.register_keras_serializable("seq2seq_kit")
class GrowingDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that can work with a share of its rate; without one, with all of it.

    Args:
        *args: As of `keras.layers.Dropout`.
        **kwargs: As there.

    Call arguments:
        inputs: float, any shape.
        training: Whether values are dropped.

    Returns:
        float, the shape of the inputs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strength: DropoutStrength | None = None

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.strength is None or not training or not self.rate:
            return super().call(inputs, training=training)
        noise_shape = tf.shape(inputs)
        if self.noise_shape is not None:
            sizes = zip(self.noise_shape, tf.unstack(noise_shape), strict=True)
            noise_shape = tf.stack([size if given is None else given for given, size in sizes])
        # Keras's own function takes no tensor as a rate.
        return tf.nn.experimental.stateless_dropout(
            inputs,
            self.rate * tf.cast(self.strength.variable, inputs.dtype),
            seed=tf.cast(self.seed_generator.next(), tf.int32),
            noise_shape=noise_shape,
        )


def grow_dropout(model: keras.Model) -> DropoutStrength:
    """Returns the strength of all dropout layers of a model, which they share from now on.

    Args:
        model: A network; call this before its training step is traced, in the scope of the
            strategy.
    """
    strength = DropoutStrength()
    for layer in model._flatten_layers():
        if isinstance(layer, GrowingDropout):
            layer.strength = strength
    return strength
