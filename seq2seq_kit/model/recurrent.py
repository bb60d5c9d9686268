"""Recurrent layers with simpler cells than an LSTM's, for comparison: a GRU and a simple RNN.

They are Keras's layers with the interface of `FastLSTM`: whole sequences in training, single steps
in decoding, and a state of two parts, of which they leave the second one, the cell, as it is.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from seq2seq_kit.model.alteration import LayerAlteration, unaltered
from seq2seq_kit.model.fast_lstm import LayerCall, observe
from seq2seq_kit.model.matmul import as_operand, product, weight_operand


class _SimplerCell:
    """What both layers share; comes before the Keras layer among the base classes."""

    parts: tuple[str, ...]
    """What an alteration can change in a step."""
    alteration: LayerAlteration | None = None
    """What is changed in each step, by `alter`."""
    units: int
    cell: Any

    def alter(self) -> LayerAlteration:
        """Returns the layer's alteration, with which it computes from now on.

        Graphs that were traced before do not have it.
        """
        if self.alteration is None:
            self.alteration = LayerAlteration(self.parts, self.units)
        return self.alteration

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        if initial_state is None:
            zeros = ops.zeros((ops.shape(sequences)[0], self.units), dtype=sequences.dtype)
            hidden, cell = zeros, zeros
        else:
            hidden, cell = initial_state
        if self.alteration is None:
            outputs, last = super().call(  # type: ignore[misc]
                sequences, initial_state=[hidden], mask=mask, training=training
            )
        else:
            outputs, last = self._run_altered(sequences, hidden, mask)
        observe(LayerCall(self, sequences, initial_state, (outputs, last, cell)))
        return outputs, last, cell

    def step(self, inputs: Any, hidden: Any, cell: Any) -> tuple[Any, Any, Any]:
        """Runs one time step; arguments and results as in `FastLSTM.step`."""
        hidden = self._next(
            product(inputs, weight_operand(self.cell.kernel)),
            product(hidden, weight_operand(self.cell.recurrent_kernel)),
            hidden,
        )
        return hidden, hidden, cell

    def _next(self, projected: Any, recurrent: Any, hidden: Any) -> Any:
        """Returns the next hidden state, `(batch, units)`.

        Args:
            projected: float `(batch, gates * units)`. The product of the inputs and their kernel.
            recurrent: float `(batch, gates * units)`. That of the hidden state.
            hidden: float `(batch, units)`.
        """
        raise NotImplementedError

    def _run_altered(self, sequences: Any, hidden: Any, mask: Any) -> tuple[Any, Any]:
        """Runs over sequences, with the alteration in each step; results as those of Keras."""
        projected = product(tf.transpose(sequences, [1, 0, 2]), self.cell.kernel)
        operand = as_operand(self.cell.recurrent_kernel)
        num_steps = tf.shape(projected)[0]

        def step(time: Any, hidden: Any, outputs: Any) -> tuple[Any, Any, Any]:
            new = self._next(projected[time], product(hidden, operand), hidden)
            if mask is not None:
                new = tf.where(mask[:, time, tf.newaxis], new, hidden)
            return time + 1, new, outputs.write(time, new)

        array = tf.TensorArray(projected.dtype, size=num_steps, element_shape=[None, self.units])
        _, last, outputs = tf.while_loop(
            lambda time, *_: time < num_steps, step, (0, hidden, array), parallel_iterations=1
        )
        by_row = tf.transpose(outputs.stack(), [1, 0, 2])
        by_row.set_shape([*sequences.shape[:2], self.units])
        return by_row, last


@keras.saving.register_keras_serializable("seq2seq_kit")
class GRULayer(_SimplerCell, keras.layers.GRU):
    """A gated recurrent unit: two gates, and no memory beside the hidden state.

    The reset gate applies after the product with the recurrent kernel, as cuDNN computes it.

    Args:
        units: Size of the state.
        **kwargs: The other arguments of `keras.layers.GRU`.

    Reference: Cho et al., 2014, https://arxiv.org/abs/1406.1078
    """

    parts = ("update_gate", "reset_gate", "candidate", "hidden")

    def _next(self, projected: Any, recurrent: Any, hidden: Any) -> Any:
        alter = self.alteration or unaltered
        input_bias, recurrent_bias = tf.unstack(tf.cast(self.cell.bias, projected.dtype))
        # Keras's order of the gates.
        of_inputs = tf.split(projected + input_bias, 3, axis=1)
        of_hidden = tf.split(recurrent + recurrent_bias, 3, axis=1)
        update_gate = alter("update_gate", tf.sigmoid(of_inputs[0] + of_hidden[0]))
        reset_gate = alter("reset_gate", tf.sigmoid(of_inputs[1] + of_hidden[1]))
        candidate = alter("candidate", tf.tanh(of_inputs[2] + reset_gate * of_hidden[2]))
        return alter("hidden", update_gate * hidden + (1.0 - update_gate) * candidate)


@keras.saving.register_keras_serializable("seq2seq_kit")
class SimpleRNNLayer(_SimplerCell, keras.layers.SimpleRNN):
    """A recurrent layer without gates: each step replaces the whole state.

    Args:
        units: Size of the state.
        use_cudnn: Accepted as by other layers; cuDNN is never used.
        **kwargs: The other arguments of `keras.layers.SimpleRNN`.

    Reference: Elman, 1990, https://doi.org/10.1207/s15516709cog1402_1
    """

    parts = ("hidden",)

    def __init__(self, units: int, use_cudnn: str | bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)

    def _next(self, projected: Any, recurrent: Any, hidden: Any) -> Any:
        alter = self.alteration or unaltered
        bias = tf.cast(self.cell.bias, projected.dtype)
        return alter("hidden", tf.tanh(projected + recurrent + bias))
