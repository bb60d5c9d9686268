"""The bidirectional LSTM encoder: source embeddings in, memory for the decoder out."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from seq2seq_kit.model.lstm import LSTMOptions, LSTMStack, LSTMState, pop_lstm_options


@keras.saving.register_keras_serializable("seq2seq_kit")
class LSTMEncoder(keras.layers.Layer):
    """Stacked bidirectional LSTM layers with residual connections.

    Each layer reads the sequence forward and backward with `units / 2` each and concatenates the
    two. The backward direction runs forward over the sequence reversed within its real length, so
    that padding is always on the right: cuDNN requires this, and padding never reaches a state.

    Args:
        units: Size of the outputs and states, both directions together; even.
        encoder_layers: Number of bidirectional layers.
        **kwargs: `LSTMOptions`, and the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(batch, time, features)`.
        mask: bool `(batch, time)`, right-padded, no row all False.
        training: Whether dropout is active.

    Returns:
        The outputs, float `(batch, time, units)`, meaningless at padding, and a tuple with the
        final `LSTMState` of each layer, `(batch, units)`.

    Raises:
        ValueError: If `units` is odd.
    """

    def __init__(self, units: int, encoder_layers: int = 1, **kwargs: Any) -> None:
        options = pop_lstm_options(kwargs)
        # Not the policy that other code in the process may have set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        if units % 2:
            raise ValueError(
                f"`units` must be even: each direction has half of them. Received: units={units}."
            )
        self.units = units
        self.encoder_layers = encoder_layers
        self.forward_layers = self._direction("forward", options)
        self.backward_layers = self._direction("backward", options)

    def _direction(self, name: str, options: LSTMOptions) -> list[LSTMStack]:
        dtype = self.dtype_policy.name
        between = options | {"input_dropout": None}
        return [
            LSTMStack(
                self.units // 2,
                reads_embeddings=index == 0,
                dtype=dtype,
                name=f"{name}_{index}",
                **(options if index == 0 else between),
            )
            for index in range(self.encoder_layers)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layers in (self.forward_layers, self.backward_layers):
            for index, layer in enumerate(layers):
                layer.build(input_shape if index == 0 else (*input_shape[:-1], self.units))
        self.built = True

    @property
    def layers(self) -> list[LSTMStack]:
        """The layers of both directions, for a summary."""
        pairs = zip(self.forward_layers, self.backward_layers, strict=True)
        return [layer for pair in pairs for layer in pair]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        # Of the outputs alone: what a summary shows.
        return (*input_shape[:-1], self.units)

    def call(
        self, inputs: Any, mask: Any, training: bool = False
    ) -> tuple[Any, tuple[LSTMState, ...]]:
        states = []
        for index in range(self.encoder_layers):
            ahead, (ahead_state,) = self.forward_layers[index](inputs, mask=mask, training=training)
            back, (back_state,) = self.backward_layers[index](
                reverse_sequences(inputs, mask), mask=mask, training=training
            )
            outputs = ops.concatenate([ahead, reverse_sequences(back, mask)], axis=-1)
            inputs = outputs + inputs if index > 0 else outputs
            states.append(
                LSTMState(
                    ops.concatenate([ahead_state.hidden, back_state.hidden], axis=-1),
                    ops.concatenate([ahead_state.cell, back_state.cell], axis=-1),
                )
            )
        return inputs, tuple(states)


def reverse_sequences(inputs: Any, mask: Any) -> Any:
    """Returns each sequence reversed within its real length; padding stays where it is.

    Args:
        inputs: float `(batch, time, features)`.
        mask: bool `(batch, time)`, right-padded.

    Returns:
        float `(batch, time, features)`. Its own inverse.
    """
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    # Its gradient is itself; that of a gather by position is a slow scatter.
    return tf.reverse_sequence(inputs, lengths, seq_axis=1, batch_axis=0)
