"""The bidirectional LSTM encoder: source embeddings in, memory for the decoder out."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from seq2seq_kit.model.lstm import LSTMStack, LSTMState


@keras.saving.register_keras_serializable("seq2seq_kit")
class LSTMEncoder(keras.layers.Layer):
    """Stacked bidirectional LSTM layers with residual connections.

    Each layer reads the sequence forward and backward with `units / 2` each and concatenates the
    two. The backward direction runs forward over the sequence turned round by its real length,
    so that padding always is on the right: what cuDNN demands, and a state that padding never
    reaches.

    Args:
        units: Size of the outputs and states, both directions together; even.
        num_layers: Number of bidirectional layers.
        dropout: Share of each layer's inputs that is zeroed in training.
        init_scale: Weights start uniform in +-init_scale.
        use_cudnn: "auto" or False, as in `LSTMStack`.

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

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        init_scale: float = 0.1,
        use_cudnn: str | bool = "auto",
        **kwargs: Any,
    ) -> None:
        # Its own, whatever policy other code in the process has set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        if units % 2:
            raise ValueError(
                f"`units` must be even: each direction has half of them. Received: units={units}."
            )
        self.units = units
        self.num_layers = num_layers
        self.dropout = dropout
        self.init_scale = init_scale
        self.use_cudnn = use_cudnn
        self.forward_layers = [self._direction(f"forward_{i}") for i in range(num_layers)]
        self.backward_layers = [self._direction(f"backward_{i}") for i in range(num_layers)]

    def _direction(self, name: str) -> LSTMStack:
        return LSTMStack(
            self.units // 2,
            dropout=self.dropout,
            init_scale=self.init_scale,
            use_cudnn=self.use_cudnn,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layers in (self.forward_layers, self.backward_layers):
            for index, layer in enumerate(layers):
                layer.build(input_shape if index == 0 else (*input_shape[:-1], self.units))
        self.built = True

    def call(
        self, inputs: Any, mask: Any, training: bool = False
    ) -> tuple[Any, tuple[LSTMState, ...]]:
        states = []
        for index in range(self.num_layers):
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

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
            "init_scale": self.init_scale,
            "use_cudnn": self.use_cudnn,
        }


def reverse_sequences(inputs: Any, mask: Any) -> Any:
    """Returns each sequence turned round within its real length; padding stays where it is.

    Args:
        inputs: float `(batch, time, features)`.
        mask: bool `(batch, time)`, right-padded.

    Returns:
        float `(batch, time, features)`. Its own inverse.
    """
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    # Its gradient is itself; that of a gather by position is a slow scatter.
    return tf.reverse_sequence(inputs, lengths, seq_axis=1, batch_axis=0)
