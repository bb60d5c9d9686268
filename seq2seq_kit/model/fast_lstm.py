"""`FastLSTM`: `keras.layers.LSTM` with the time loop written out for a CPU.

Keras's loop multiplies the input by its kernel at each time step and adds up the kernels' gradients
step by step: many small products. Here the inputs of all steps are projected in one product, each
kernel's gradient is one product, and the loop keeps only what one step owes to the step before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq_kit.model.precision import as_factor, product, weight_factor


@keras.saving.register_keras_serializable("seq2seq_kit")
class FastLSTM(keras.layers.LSTM):
    """A drop-in for `keras.layers.LSTM`: the same arguments, weights and results.

    On a GPU the stock layer does the work, with cuDNN if it can; so it does for what the fast loop
    does not cover: other activations, recurrent dropout, no bias, `unroll`,
    `zero_output_for_mask`.
    """

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        if not self._is_covered() or (self.use_cudnn and tf.config.list_physical_devices("GPU")):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        if training and self.dropout:
            # One draw for all steps, as the stock cell makes it.
            sequences *= self.cell.get_dropout_mask(sequences[:, 0, :])[:, tf.newaxis, :]
        if self.go_backwards:
            sequences = tf.reverse(sequences, [1])
            mask = None if mask is None else tf.reverse(mask, [1])
        hidden, cell = initial_state
        outputs, hidden, cell = run_lstm(
            sequences,
            hidden,
            cell,
            weight_factor(self.cell.kernel),
            weight_factor(self.cell.recurrent_kernel),
            tf.cast(self.cell.bias, sequences.dtype),
            mask=mask,
        )
        if mask is not None:
            # A masked step repeats the output before it, or zero where there is none; the loop
            # repeats the state, and that may begin with another value.
            begun = tf.cumsum(tf.cast(mask, tf.int32), axis=1) > 0
            outputs = tf.where(begun[:, :, tf.newaxis], outputs, tf.zeros_like(outputs))
        if not self.return_sequences:
            outputs = outputs[:, -1:]
        return outputs[:, -1], outputs, [hidden, cell]

    def step(
        self, inputs: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Runs one time step without dropout.

        Args:
            inputs: float `(batch, features)`.
            hidden: float `(batch, units)`.
            cell: float `(batch, units)`.

        Returns:
            The output and the new `hidden` and `cell`, `(batch, units)` each.
        """
        if not self._is_covered():
            output, (hidden, cell) = self.cell(inputs, [hidden, cell])
            return output, hidden, cell
        kernel = weight_factor(self.cell.kernel, self.cell.recurrent_kernel)
        sums = product(tf.concat([inputs, hidden], axis=1), kernel)
        hidden, cell, _ = _activate(sums + self.cell.bias, cell)
        return hidden, hidden, cell

    def _is_covered(self) -> bool:
        usual = (self.activation, self.recurrent_activation) == (
            keras.activations.tanh,
            keras.activations.sigmoid,
        )
        return usual and not (
            self.recurrent_dropout or self.unroll or self.zero_output_for_mask or not self.use_bias
        )


class _Gates(NamedTuple):
    """Activated; float `(batch, units)` each, or `(time, batch, units)`."""

    enters: tf.Tensor  # the input gate
    forgets: tf.Tensor  # the forget gate
    candidate: tf.Tensor  # what the input gate lets in
    leaves: tf.Tensor  # the output gate
    squashed: tf.Tensor  # the hyperbolic tangent of the cell that they make


class _Forward(NamedTuple):
    """What the forward loop gives."""

    outputs: tf.Tensor  # float (time, batch, units)
    hidden: tf.Tensor  # float (batch, units), after the last step
    cell: tf.Tensor  # float (batch, units), after the last step
    cells_before: tf.Tensor  # float (time, batch, units)
    gates: _Gates  # of all steps


def run_lstm(
    inputs: tf.Tensor,
    hidden: tf.Tensor,
    cell: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    *,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs an LSTM over sequences.

    The gates stand in the weights as Keras has them: input, forget, candidate, output. The
    equations are those of Hochreiter and Schmidhuber with the forget gate of Gers et al., 2000.

    Args:
        inputs: float `(batch, time, features)`.
        hidden: float `(batch, units)`. The output before the first step.
        cell: float `(batch, units)`. The memory cell before the first step.
        kernel: float `(features, 4 * units)`.
        recurrent_kernel: float `(units, 4 * units)`.
        bias: float `(4 * units,)`.
        mask: bool `(batch, time)`. At False a row keeps its state and repeats it as its output.

    Returns:
        The outputs `(batch, time, units)`, and the last `hidden` and `cell`.
    """
    # (time, batch, 1): 1 where a row moves on.
    moves = None
    if mask is not None:
        moves = tf.cast(tf.transpose(mask), inputs.dtype)[:, :, tf.newaxis]

    @tf.custom_gradient
    def run(
        inputs: tf.Tensor,
        hidden: tf.Tensor,
        cell: tf.Tensor,
        kernel: tf.Tensor,
        recurrent_kernel: tf.Tensor,
        bias: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tuple[tf.Tensor, ...]]]:
        by_time = tf.transpose(inputs, [1, 0, 2])
        projected = product(by_time, kernel) + bias
        forward = _run_forward(projected, hidden, cell, recurrent_kernel, moves)

        def gradient(
            outputs_grad: tf.Tensor, hidden_grad: tf.Tensor, cell_grad: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            gates_grad, hidden_grad, cell_grad = _run_backward(
                forward,
                tf.transpose(outputs_grad, [1, 0, 2]),
                hidden_grad,
                cell_grad,
                recurrent_kernel,
                moves,
            )
            return (
                tf.transpose(product(gates_grad, kernel, transpose_b=True), [1, 0, 2]),
                hidden_grad,
                cell_grad,
                _outer(by_time, gates_grad),
                _outer(tf.concat([hidden[tf.newaxis], forward.outputs[:-1]], 0), gates_grad),
                tf.reduce_sum(gates_grad, [0, 1]),
            )

        outputs = tf.transpose(forward.outputs, [1, 0, 2])
        outputs.set_shape([*inputs.shape[:2], hidden.shape[-1]])  # The loop forgets the time.
        return (outputs, forward.hidden, forward.cell), gradient

    return run(inputs, hidden, cell, kernel, recurrent_kernel, bias)


def _run_forward(
    projected: tf.Tensor,
    hidden: tf.Tensor,
    cell: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    moves: tf.Tensor | None,
) -> _Forward:
    """Runs the steps one after the other on inputs `(time, batch, 4 * units)` already projected."""
    num_steps = tf.shape(projected)[0]
    factor = as_factor(recurrent_kernel)

    def step(
        time: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, *kept: tf.TensorArray
    ) -> tuple[Any, ...]:
        # To index the first axis copies nothing.
        sums = projected[time] + product(hidden, factor)
        new_hidden, new_cell, gates = _activate(sums, cell)
        if moves is not None:
            new_cell = cell + moves[time] * (new_cell - cell)
            new_hidden = hidden + moves[time] * (new_hidden - hidden)
        arrays = zip(kept, (new_hidden, cell, *gates), strict=True)
        return (
            time + 1,
            new_hidden,
            new_cell,
            *(array.write(time, value) for array, value in arrays),
        )

    units = recurrent_kernel.shape[0]
    arrays = [
        _new_array(projected.dtype, num_steps, units)
        for _ in ("outputs", "cells_before", *_Gates._fields)
    ]
    _, hidden, cell, outputs, cells_before, *gates = tf.while_loop(
        lambda time, *_: time < num_steps,
        step,
        (0, hidden, cell, *arrays),
        parallel_iterations=1,
    )
    gates = _Gates(*(array.stack() for array in gates))
    return _Forward(outputs.stack(), hidden, cell, cells_before.stack(), gates)


def _activate(sums: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, _Gates]:
    """Returns the new hidden state, the new cell and the gates of one step.

    Args:
        sums: `(batch, 4 * units)`. The gates before their activations.
        cell: `(batch, units)`.
    """
    enters, forgets, candidate, leaves = tf.split(sums, 4, axis=1)
    enters, forgets, leaves = map(tf.sigmoid, (enters, forgets, leaves))
    candidate = tf.tanh(candidate)
    new_cell = forgets * cell + enters * candidate
    squashed = tf.tanh(new_cell)
    return leaves * squashed, new_cell, _Gates(enters, forgets, candidate, leaves, squashed)


def _run_backward(
    forward: _Forward,
    outputs_grad: tf.Tensor,
    hidden_grad: tf.Tensor,
    cell_grad: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    moves: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs the steps backward.

    Args:
        forward: What the forward loop gave.
        outputs_grad: `(time, batch, units)`.
        hidden_grad: `(batch, units)`. Of the last state; likewise `cell_grad`.
        cell_grad: `(batch, units)`.
        recurrent_kernel: `(units, 4 * units)`.
        moves: `(time, batch, 1)`.

    Returns:
        The gradients of the gates before their activations, `(time, batch, 4 * units)`, and of
        the first `hidden` and `cell`.
    """
    # The plain product is the faster one, and there is one in each step.
    transposed = as_factor(tf.transpose(recurrent_kernel))

    def step(
        time: tf.Tensor, hidden_grad: tf.Tensor, cell_grad: tf.Tensor, kept: tf.TensorArray
    ) -> tuple[Any, ...]:
        hidden_grad += outputs_grad[time]
        moved_hidden, moved_cell = hidden_grad, cell_grad
        if moves is not None:
            moved_hidden, moved_cell = hidden_grad * moves[time], cell_grad * moves[time]
        gates = _Gates(*(part[time] for part in forward.gates))
        inner = moved_cell + _through_tanh(moved_hidden * gates.leaves, gates.squashed)
        gates_grad = tf.concat(
            [
                _through_sigmoid(inner * gates.candidate, gates.enters),
                _through_sigmoid(inner * forward.cells_before[time], gates.forgets),
                _through_tanh(inner * gates.enters, gates.candidate),
                _through_sigmoid(moved_hidden * gates.squashed, gates.leaves),
            ],
            1,
        )
        hidden_before, cell_before = product(gates_grad, transposed), inner * gates.forgets
        if moves is not None:
            hidden_before += hidden_grad - moved_hidden
            cell_before += cell_grad - moved_cell
        return time - 1, hidden_before, cell_before, kept.write(time, gates_grad)

    num_steps = tf.shape(outputs_grad)[0]
    gates_grads = _new_array(outputs_grad.dtype, num_steps, recurrent_kernel.shape[1])
    _, hidden_grad, cell_grad, kept = tf.while_loop(
        lambda time, *_: time >= 0,
        step,
        (num_steps - 1, hidden_grad, cell_grad, gates_grads),
        parallel_iterations=1,
    )
    return kept.stack(), hidden_grad, cell_grad


def _through_sigmoid(grad: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of a sigmoid's input, given that of its output."""
    return tf.raw_ops.SigmoidGrad(y=output, dy=grad)


def _through_tanh(grad: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of a tanh's input, given that of its output."""
    return tf.raw_ops.TanhGrad(y=output, dy=grad)


def _new_array(dtype: tf.DType, num_steps: tf.Tensor, size: int) -> tf.TensorArray:
    return tf.TensorArray(dtype, size=num_steps, element_shape=[None, size])


def _outer(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all rows of both of their outer products."""
    rows = (tf.reshape(part, [-1, part.shape[-1]]) for part in (left, right))
    return product(*rows, transpose_a=True)
