"""`FastLSTM`: `keras.layers.LSTM` with a time loop that is faster on a CPU.

Keras's loop multiplies the input by its kernel at each time step and accumulates the kernels'
gradients step by step: many small products. Here the inputs of all steps are projected in one
product, each kernel's gradient is one product, and only the recurrence is left in the loop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq_kit.model.alteration import LayerAlteration, unaltered
from seq2seq_kit.model.matmul import as_operand, product, weight_operand


class LayerCall(NamedTuple):
    """One call of a layer, as an observer sees it."""

    layer: Any
    """The layer that was called."""
    inputs: Any
    """float `(batch, time, features)`. What it read."""
    initial_state: Any
    """`hidden` and `cell` before the first step, float `(batch, units)` each; None for zeros."""
    outputs: Any
    """What it returned, as its `return_sequences` and `return_state` say."""


_observer = ContextVar[Callable[[LayerCall], None] | None]("observer", default=None)


@contextmanager
def observe_layers(observer: Callable[[LayerCall], None]) -> Iterator[None]:
    """Passes every call of a recurrent layer in the body to an observer, after it.

    Only calls over whole sequences are observed, and only those of the current thread.

    Args:
        observer: Gets each call. Where TensorFlow runs eagerly, its tensors have values.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def observe(call: LayerCall) -> None:
    """Passes a call to the observer of the current thread, if there is one."""
    if (observer := _observer.get()) is not None:
        observer(call)


@keras.saving.register_keras_serializable("seq2seq_kit")
class FastLSTM(keras.layers.LSTM):
    """A drop-in for `keras.layers.LSTM`: the same arguments, weights and results.

    On a GPU the stock layer computes, with cuDNN if possible; so it does with options that the fast
    loop does not support: other activations, recurrent dropout, no bias, `unroll`,
    `zero_output_for_mask`.

    Args:
        units: Size of the state.
        weight_drop: Share of the recurrent kernel that is zeroed in training, drawn at each call
            (Merity et al., 2018, section 2, https://arxiv.org/abs/1708.02182). Unlike
            `recurrent_dropout` it keeps cuDNN and the fast loop.
        **kwargs: The other arguments of `keras.layers.LSTM`.

    Raises:
        ValueError: If `weight_drop` is combined with the layer's own `dropout` or
            `recurrent_dropout`.
    """

    parts = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
    """What an alteration can change in a step, in this order; the gates are in Keras's order."""

    def __init__(self, units: int, weight_drop: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if weight_drop and (self.dropout or self.recurrent_dropout):
            raise ValueError(
                "`weight_drop` cannot be combined with `dropout` or `recurrent_dropout` of the "
                f"layer. Received: weight_drop={weight_drop}, dropout={self.dropout}, "
                f"recurrent_dropout={self.recurrent_dropout}. Drop the layer's inputs instead."
            )
        self.weight_drop = weight_drop
        self.alteration: LayerAlteration | None = None
        """What is changed in each step, by `alter`."""

    def alter(self) -> LayerAlteration:
        """Returns the layer's alteration, with which it computes from now on.

        Graphs that were traced before do not have it.
        """
        if self.alteration is None:
            self.alteration = LayerAlteration(self.parts, self.units)
        return self.alteration

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        outputs = super().call(sequences, initial_state, mask=mask, training=training)
        observe(LayerCall(self, sequences, initial_state, outputs))
        return outputs

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        if not (training and self.weight_drop):
            return self._inner_loop(sequences, initial_state, mask, training)
        kernel = self.cell.recurrent_kernel
        dropped = keras.random.dropout(
            kernel.value, self.weight_drop, seed=self.cell.seed_generator
        )
        # Whatever reads the variable, also Keras's own code around cuDNN, gets this value.
        with keras.StatelessScope(state_mapping=[(kernel, dropped)]):
            return self._inner_loop(sequences, initial_state, mask, training)

    def _inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool
    ) -> tuple[Any, Any, list[Any]]:
        uses_cudnn = self.use_cudnn and tf.config.list_physical_devices("GPU")
        if not self._is_covered() or (uses_cudnn and self.alteration is None):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        if training and self.dropout:
            # The same dropout mask for all steps, as in the stock cell.
            sequences *= self.cell.get_dropout_mask(sequences[:, 0, :])[:, tf.newaxis, :]
        if self.go_backwards:
            sequences = tf.reverse(sequences, [1])
            mask = None if mask is None else tf.reverse(mask, [1])
        hidden, cell = initial_state
        outputs, hidden, cell = run_lstm(
            sequences,
            hidden,
            cell,
            weight_operand(self.cell.kernel),
            weight_operand(self.cell.recurrent_kernel),
            tf.cast(self.cell.bias, sequences.dtype),
            mask=mask,
            alteration=self.alteration,
        )
        if mask is not None:
            # A masked step repeats the previous output, or zero if there is none; the loop repeats
            # the state, which may begin with another value.
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
        kernel = weight_operand(self.cell.kernel, self.cell.recurrent_kernel)
        sums = product(tf.concat([inputs, hidden], axis=1), kernel)
        hidden, cell, _ = _activate(sums + self.cell.bias, cell, self.alteration)
        return hidden, hidden, cell

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"weight_drop": self.weight_drop}

    def _is_covered(self) -> bool:
        usual = (self.activation, self.recurrent_activation) == (
            keras.activations.tanh,
            keras.activations.sigmoid,
        )
        return usual and not (
            self.recurrent_dropout or self.unroll or self.zero_output_for_mask or not self.use_bias
        )


class _Gates(NamedTuple):
    """The gates after their activations; float `(batch, units)` or `(time, batch, units)` each."""

    input_gate: tf.Tensor
    forget_gate: tf.Tensor
    candidate: tf.Tensor
    output_gate: tf.Tensor
    cell_tanh: tf.Tensor  # the hyperbolic tangent of the new cell


class _Forward(NamedTuple):
    """The results of the forward loop."""

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
    alteration: LayerAlteration | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs an LSTM over sequences.

    The gates are ordered in the weights as in Keras: input, forget, candidate, output. The
    equations are those of Hochreiter and Schmidhuber with the forget gate of Gers et al., 2000.

    Args:
        inputs: float `(batch, time, features)`.
        hidden: float `(batch, units)`. The hidden state before the first step.
        cell: float `(batch, units)`. The memory cell before the first step.
        kernel: float `(features, 4 * units)`.
        recurrent_kernel: float `(units, 4 * units)`.
        bias: float `(4 * units,)`.
        mask: bool `(batch, time)`. At False a row keeps its state and repeats it as its output.
        alteration: What is changed in each step; the gradients are then TensorFlow's.

    Returns:
        The outputs `(batch, time, units)`, and the last `hidden` and `cell`.
    """
    # (time, batch, 1): 1 where a row has a real token.
    step_mask = None
    if mask is not None:
        step_mask = tf.cast(tf.transpose(mask), inputs.dtype)[:, :, tf.newaxis]
    if alteration is not None:
        projected = product(tf.transpose(inputs, [1, 0, 2]), kernel) + bias
        altered = _run_forward(projected, hidden, cell, recurrent_kernel, step_mask, alteration)
        outputs = tf.transpose(altered.outputs, [1, 0, 2])
        outputs.set_shape([*inputs.shape[:2], hidden.shape[-1]])
        return outputs, altered.hidden, altered.cell

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
        forward = _run_forward(projected, hidden, cell, recurrent_kernel, step_mask)

        def gradient(
            outputs_grad: tf.Tensor, hidden_grad: tf.Tensor, cell_grad: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            gates_grad, hidden_grad, cell_grad = _run_backward(
                forward,
                tf.transpose(outputs_grad, [1, 0, 2]),
                hidden_grad,
                cell_grad,
                recurrent_kernel,
                step_mask,
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
        outputs.set_shape([*inputs.shape[:2], hidden.shape[-1]])  # The loop loses the length.
        return (outputs, forward.hidden, forward.cell), gradient

    return run(inputs, hidden, cell, kernel, recurrent_kernel, bias)


def _run_forward(
    projected: tf.Tensor,
    hidden: tf.Tensor,
    cell: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    step_mask: tf.Tensor | None,
    alteration: LayerAlteration | None = None,
) -> _Forward:
    """Runs the steps on projected inputs `(time, batch, 4 * units)`."""
    num_steps = tf.shape(projected)[0]
    operand = as_operand(recurrent_kernel)

    def step(
        time: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, *kept: tf.TensorArray
    ) -> tuple[Any, ...]:
        # Indexing the first axis copies nothing.
        sums = projected[time] + product(hidden, operand)
        new_hidden, new_cell, gates = _activate(sums, cell, alteration)
        if step_mask is not None:
            new_cell = cell + step_mask[time] * (new_cell - cell)
            new_hidden = hidden + step_mask[time] * (new_hidden - hidden)
        arrays = zip(kept, (new_hidden, cell, *gates), strict=True)
        return (
            time + 1,
            new_hidden,
            new_cell,
            *(array.write(time, value) for array, value in arrays),
        )

    units = recurrent_kernel.shape[0]
    arrays = [
        _new_array(projected, num_steps, units)
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


def _activate(
    sums: tf.Tensor, cell: tf.Tensor, alteration: LayerAlteration | None = None
) -> tuple[tf.Tensor, tf.Tensor, _Gates]:
    """Returns the new hidden state, the new cell and the gates of one step.

    Args:
        sums: `(batch, 4 * units)`. The gates before their activations.
        cell: `(batch, units)`. The cell before the step.
        alteration: What is changed in the step.
    """
    alter = alteration or unaltered
    input_gate, forget_gate, candidate, output_gate = tf.split(sums, 4, axis=1)
    input_gate = alter("input_gate", tf.sigmoid(input_gate))
    forget_gate = alter("forget_gate", tf.sigmoid(forget_gate))
    candidate = alter("candidate", tf.tanh(candidate))
    output_gate = alter("output_gate", tf.sigmoid(output_gate))
    new_cell = alter("cell", forget_gate * cell + input_gate * candidate)
    cell_tanh = tf.tanh(new_cell)
    gates = _Gates(input_gate, forget_gate, candidate, output_gate, cell_tanh)
    return alter("hidden", output_gate * cell_tanh), new_cell, gates


def _run_backward(
    forward: _Forward,
    outputs_grad: tf.Tensor,
    hidden_grad: tf.Tensor,
    cell_grad: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    step_mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs the steps backward.

    Args:
        forward: The results of the forward loop.
        outputs_grad: `(time, batch, units)`. The gradient of the outputs.
        hidden_grad: `(batch, units)`. The gradient of the last hidden state.
        cell_grad: `(batch, units)`. The gradient of the last cell.
        recurrent_kernel: `(units, 4 * units)`.
        step_mask: `(time, batch, 1)`. 1 where a row has a real token.

    Returns:
        The gradients of the gates before their activations, `(time, batch, 4 * units)`, and of
        the first `hidden` and `cell`.
    """
    # A product without transposition is faster, and each step has one.
    transposed = as_operand(tf.transpose(recurrent_kernel))

    def step(
        time: tf.Tensor, hidden_grad: tf.Tensor, cell_grad: tf.Tensor, kept: tf.TensorArray
    ) -> tuple[Any, ...]:
        hidden_grad += outputs_grad[time]
        step_hidden, step_cell = hidden_grad, cell_grad
        if step_mask is not None:
            step_hidden, step_cell = hidden_grad * step_mask[time], cell_grad * step_mask[time]
        gates = _Gates(*(part[time] for part in forward.gates))
        inner = step_cell + _through_tanh(step_hidden * gates.output_gate, gates.cell_tanh)
        gates_grad = tf.concat(
            [
                _through_sigmoid(inner * gates.candidate, gates.input_gate),
                _through_sigmoid(inner * forward.cells_before[time], gates.forget_gate),
                _through_tanh(inner * gates.input_gate, gates.candidate),
                _through_sigmoid(step_hidden * gates.cell_tanh, gates.output_gate),
            ],
            1,
        )
        hidden_before, cell_before = product(gates_grad, transposed), inner * gates.forget_gate
        if step_mask is not None:
            hidden_before += hidden_grad - step_hidden
            cell_before += cell_grad - step_cell
        return time - 1, hidden_before, cell_before, kept.write(time, gates_grad)

    num_steps = tf.shape(outputs_grad)[0]
    gates_grads = _new_array(outputs_grad, num_steps, recurrent_kernel.shape[1])
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


def _new_array(like: tf.Tensor, num_steps: tf.Tensor, size: int) -> tf.TensorArray:
    """Returns an array of a row of `size` for each row of `like`, `(time, batch, ...)`."""
    # The batch is static where it is known: LiteRT has arrays of a fixed shape only.
    return tf.TensorArray(like.dtype, size=num_steps, element_shape=[like.shape[1], size])


def _outer(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all rows of both of their outer products."""
    rows = (tf.reshape(part, [-1, part.shape[-1]]) for part in (left, right))
    return product(*rows, transpose_a=True)
