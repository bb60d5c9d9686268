"""The LSTM decoder with attention: whole target sequences in training, single steps in decoding."""

from typing import Any

import keras
from keras import ops

from seq2seq_kit.model.attention import (
    AdditiveAttention,
    Attention,
    Memory,
    MultiplicativeAttention,
)
from seq2seq_kit.model.lstm import (
    LSTMStack,
    LSTMState,
    make_dropout,
    pop_lstm_options,
    uniform,
)
from seq2seq_kit.model.matmul import Projection

_ATTENTIONS = {
    "additive": AdditiveAttention,
    "multiplicative": MultiplicativeAttention,
    "none": None,
}


@keras.saving.register_keras_serializable("seq2seq_kit")
class LSTMDecoder(keras.layers.Layer):
    """Stacked LSTM layers that attend to a memory.

    No layer depends on the attention of the previous step (no input feeding), so that each layer
    runs over the whole target sequence at once. With `attention_layer="first"` the context of the
    first layer is input to the layers above, which thus see the history of contexts: the purpose of
    input feeding, without its cost.

    The output is the attentional state `tanh(W [state; context])` of Luong et al., 2015, equation
    5, https://arxiv.org/abs/1508.04025.

    Args:
        units: Size of the LSTM states.
        decoder_layers: Number of LSTM layers.
        output_dim: Size of the outputs.
        attention: "additive", "multiplicative", or "none": the layers see nothing of the source but
            their first states.
        attention_layer: "last", or "first": the layer whose output queries the memory.
        **kwargs: `LSTMOptions`, of which `output_dropout` applies to the outputs and `init_scale`
            to all weights, and the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(batch, time, features)`. Embedded decoder inputs.
        memory: A `Memory` from `memorize`.
        initial_state: One `LSTMState` for each layer.
        training: Whether dropout is active.

    Returns:
        The outputs, float `(batch, time, output_dim)`, and the attention weights, float
        `(batch, time, source_time)`; None without attention.

    Raises:
        ValueError: If `attention` or `attention_layer` has another value.
    """

    def __init__(
        self,
        units: int,
        decoder_layers: int = 1,
        *,
        output_dim: int,
        attention: str = "additive",
        attention_layer: str = "last",
        **kwargs: Any,
    ) -> None:
        options = pop_lstm_options(kwargs)
        # Not the policy that other code in the process may have set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if attention not in _ATTENTIONS:
            raise ValueError(
                f"`attention` must be one of {sorted(_ATTENTIONS)}. Received: {attention!r}."
            )
        if attention_layer not in ("first", "last"):
            raise ValueError(
                f"`attention_layer` must be 'first' or 'last'. Received: {attention_layer!r}."
            )
        self.units = units
        self.decoder_layers = decoder_layers
        self.output_dim = output_dim
        self.attention = attention
        self.attention_layer = attention_layer
        dtype = self.dtype_policy.name
        num_below = 1 if attention_layer == "first" else decoder_layers
        self.below = LSTMStack(
            units, num_below, reads_embeddings=True, dtype=dtype, name="below", **options
        )
        self.above = LSTMStack(
            units,
            decoder_layers - num_below,
            dtype=dtype,
            name="above",
            **(options | {"input_dropout": None}),
        )
        make_attention = _ATTENTIONS[attention]
        self.attend: Attention | None = make_attention and make_attention(
            units, init_scale=options["init_scale"], dtype=dtype, name="attention"
        )
        self.combine = Projection(
            output_dim,
            activation="tanh",
            use_bias=False,
            kernel_initializer=uniform(options["init_scale"]),
            dtype=dtype,
            name="combine",
        )
        self.output_dropout = make_dropout(
            options["output_dropout"], options, dtype=dtype, name="output_dropout"
        )

    def build(self, input_shape: tuple[int | None, ...], values_dim: int) -> None:
        """Creates the weights for embeddings of `input_shape` and memory of `values_dim`."""
        self.below.build(input_shape)
        joined_dim = self.units
        if self.attend is not None:
            self.attend.build(self.units, values_dim)
            joined_dim += values_dim
        self.above.build((*input_shape[:-1], joined_dim))
        self.combine.build((*input_shape[:-1], joined_dim))
        self.built = True

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers in the order of their computation, for a summary."""
        layers = [self.below, self.attend, self.above, self.combine]
        return [layer for layer in layers if layer is not None and layer.weights]

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], values_dim: int
    ) -> tuple[int | None, ...]:
        # Of the outputs alone: what a summary shows.
        return (*input_shape[:-1], self.output_dim)

    def first_state(self, states: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the state before the first `step`, made from the first states of the layers.

        Where steps are counted for an override of the attention, the counter comes last.
        """
        if self.attend is None or self.attend.override is None:
            return states
        return (*states, ops.zeros_like(states[0].hidden[:, 0], dtype="int32"))

    def memorize(self, values: Any, mask: Any) -> Memory:
        """Returns the `Memory` of encoder outputs `(batch, source_time, features)`."""
        if self.attend is None:
            nothing = values[:, :, :0]
            return Memory(nothing, nothing, mask)
        return self.attend.memorize(values, mask)

    def call(
        self,
        inputs: Any,
        memory: Memory,
        initial_state: tuple[LSTMState, ...],
        training: bool = False,
    ) -> tuple[Any, Any]:
        num_below = self.below.num_layers
        outputs, _ = self.below(inputs, initial_state[:num_below], training=training)
        context, weights = (None, None) if self.attend is None else self.attend(outputs, memory)
        if self.above.num_layers:
            above, _ = self.above(
                _join(outputs, context),
                initial_state[num_below:],
                training=training,
            )
            outputs = outputs + above
        return self._output(outputs, context, training), weights

    def step(
        self, inputs: Any, memory: Memory, states: tuple[LSTMState, ...]
    ) -> tuple[Any, tuple[LSTMState, ...], Any]:
        """Runs one time step without dropout, for one or several rows of each source.

        Args:
            inputs: float `(batch * rows, features)`: the rows of a source are adjacent.
            memory: The `Memory` of `batch` sources.
            states: One `LSTMState` for each layer, `(batch * rows, units)`, as in `first_state`.

        Returns:
            The output `(batch * rows, output_dim)`, the new states and the attention weights
            `(batch * rows, source_time)`.
        """
        num_below = self.below.num_layers
        counters: tuple[Any, ...] = states[self.decoder_layers :]
        outputs, below_states = self.below.step(inputs, states[:num_below])
        context, weights = self._attend_step(outputs, memory, counters)
        above_states: tuple[LSTMState, ...] = ()
        if self.above.num_layers:
            above, above_states = self.above.step(
                _join(outputs, context),
                states[num_below : self.decoder_layers],
            )
            outputs = outputs + above
        new_states = (*below_states, *above_states, *(counter + 1 for counter in counters))
        return self._output(outputs, context, False), new_states, weights

    def _attend_step(
        self, outputs: Any, memory: Memory, counters: tuple[Any, ...]
    ) -> tuple[Any, Any]:
        """Returns contexts and attention weights of one step; None each without attention."""
        if self.attend is None:
            return None, None
        # The rows of a source query the same memory, which need not be copied for each of them.
        # (batch * rows, units) -> (batch, rows, units)
        query = ops.reshape(outputs, (ops.shape(memory.mask)[0], -1, self.units))
        steps = ops.reshape(counters[0], ops.shape(query)[:2]) if counters else None
        context, weights = self.attend.step(query, memory, steps)
        context = ops.reshape(context, (-1, context.shape[-1]))
        return context, ops.reshape(weights, (-1, ops.shape(weights)[-1]))

    def _output(self, outputs: Any, context: Any, training: bool) -> Any:
        combined = self.combine(_join(outputs, context))
        return self.output_dropout(combined, training=training)


def _join(outputs: Any, context: Any) -> Any:
    """Returns outputs with their contexts behind them, on the last axis; None adds nothing."""
    return outputs if context is None else ops.concatenate([outputs, context], axis=-1)
