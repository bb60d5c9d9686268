"""Stacked Keras LSTM layers that run whole sequences in training and single steps in decoding.

Whole sequences go through `keras.layers.LSTM`, on a CPU through its faster equal `FastLSTM`; on a
GPU it takes cuDNN as long as the mask is right-padded without empty rows. A decoding loop must not
call that layer on one time step (cuDNN repacks the weights at each call), so `step` computes one
with the same weights.
"""

import math
from typing import Any, NamedTuple, TypedDict, cast

import keras
from keras import ops

from seq2seq_kit.model.dropout import GrowingDropout
from seq2seq_kit.model.fast_lstm import FastLSTM
from seq2seq_kit.model.layer_normalization import LayerNormalization
from seq2seq_kit.model.recurrent import GRULayer, SimpleRNNLayer

RecurrentLayer = FastLSTM | GRULayer | SimpleRNNLayer

_LAYERS: dict[str, type[RecurrentLayer]] = {
    "lstm": FastLSTM,
    "gru": GRULayer,
    "simple_rnn": SimpleRNNLayer,
}


class LSTMState(NamedTuple):
    """The state of one LSTM layer."""

    hidden: Any
    """float32 `(batch, units)`. The output of the last step."""
    cell: Any
    """float32 `(batch, units)`. The memory cell."""


class LSTMOptions(TypedDict):
    """Options of all LSTM layers of a network, or of those with a simpler cell in their place.

    Encoder, decoder and networks accept them as plain keyword arguments and hand them on as a whole
    (`pop_lstm_options`): a new option is a field and a default here, and its use in `LSTMStack`.
    """

    cell: str
    """"lstm"; "gru" or "simple_rnn" for comparison, which leave the cell of a state as it is."""
    dropout: float
    """Share of each layer's inputs that is zeroed in training."""
    input_dropout: float | None
    """The same share for the inputs of the first layer; None is `dropout`."""
    output_dropout: float | None
    """The same share for what a network computes from the last layer; None is `dropout`."""
    locked_dropout: bool
    """Whether a row has the same dropout mask at all time steps."""
    weight_drop: float
    """As in `FastLSTM`."""
    layer_normalization: bool
    """Whether the output of each layer is normalized."""
    init_scale: float
    """Kernels start uniform in +-init_scale, but for those that read embeddings (`ForEmbeddings`);
    the forget gate's bias starts at 1."""
    use_cudnn: str | bool
    """"auto" uses cuDNN where possible; False never does (for an export that must run on any
    machine)."""


_DEFAULTS = LSTMOptions(
    cell="lstm",
    dropout=0.0,
    input_dropout=None,
    output_dropout=None,
    locked_dropout=False,
    weight_drop=0.0,
    layer_normalization=False,
    init_scale=0.1,
    use_cudnn="auto",
)


def pop_lstm_options(kwargs: dict[str, Any]) -> LSTMOptions:
    """Removes the LSTM options from a layer's keyword arguments; returns them with defaults."""
    return cast(LSTMOptions, {name: kwargs.pop(name, value) for name, value in _DEFAULTS.items()})


def make_dropout(
    rate: float | None, options: LSTMOptions, *, dtype: str, name: str
) -> GrowingDropout:
    """Returns a dropout layer for float `(batch, time, features)`.

    Args:
        rate: Share that is zeroed; None is `options["dropout"]`.
        options: They say whether the mask is the same at all time steps (Gal and Ghahramani, 2016,
            https://arxiv.org/abs/1512.05287).
        dtype: The name of a dtype policy.
        name: The layer's name.
    """
    return GrowingDropout(
        options["dropout"] if rate is None else rate,
        noise_shape=(None, 1, None) if options["locked_dropout"] else None,
        dtype=dtype,
        name=name,
    )


@keras.saving.register_keras_serializable("seq2seq_kit")
class LSTMStack(keras.layers.Layer):
    """Unidirectional LSTM layers on top of each other, with residual connections.

    Dropout applies to the input of each layer. From the second layer on, a layer's input is added
    to its output if both have the same size (He et al., 2016, https://arxiv.org/abs/1512.03385), so
    that deep stacks learn. Layer normalization applies to the outputs before that.

    Args:
        units: Size of the state and of the output of the last layer.
        num_layers: Number of layers.
        inner_units: The same size of the layers before the last one; None is `units`.
        reads_embeddings: Whether the inputs are embeddings, which start smaller than the outputs of
            a layer: the first input kernel then starts larger (`ForEmbeddings`).
        **kwargs: `LSTMOptions`, and the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(batch, time, features)`.
        initial_state: One `LSTMState` for each layer, or None for zeros.
        mask: bool `(batch, time)`, right-padded, no row all False; None if only the outputs at
            real positions matter: padding on the right cannot reach them.
        training: Whether dropout is active.

    Returns:
        The outputs, `(batch, time, units)`, and a tuple of the final `LSTMState`s.
    """

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        inner_units: int | None = None,
        *,
        reads_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        options = pop_lstm_options(kwargs)
        # Not the policy that other code in the process may have set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.num_layers = num_layers
        self.inner_units = inner_units
        dtype = self.dtype_policy.name
        start = ForEmbeddings if reads_embeddings else uniform
        self.layers = [
            _LAYERS[options["cell"]](
                inner_units or units if index < num_layers - 1 else units,
                return_sequences=True,
                return_state=True,
                kernel_initializer=(uniform if index else start)(options["init_scale"]),
                recurrent_initializer=uniform(options["init_scale"]),
                **({"weight_drop": options["weight_drop"]} if options["weight_drop"] else {}),
                use_cudnn=options["use_cudnn"],
                dtype=dtype,
                name=f"lstm_{index}",
            )
            for index in range(num_layers)
        ]
        self.dropout = make_dropout(None, options, dtype=dtype, name="dropout")
        self.input_dropout = self.dropout
        if options["input_dropout"] is not None:
            self.input_dropout = make_dropout(
                options["input_dropout"], options, dtype=dtype, name="input_dropout"
            )
        self.normalizations = [
            LayerNormalization(dtype=dtype, name=f"normalization_{index}")
            for index in range(num_layers if options["layer_normalization"] else 0)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for index, layer in enumerate(self.layers):
            layer.build(input_shape)
            input_shape = (*input_shape[:-1], layer.units)
            if self.normalizations:
                self.normalizations[index].build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        # Of the outputs alone: what a summary shows.
        return (*input_shape[:-1], self.units)

    def call(
        self,
        inputs: Any,
        initial_state: tuple[LSTMState, ...] | None = None,
        mask: Any = None,
        training: bool = False,
    ) -> tuple[Any, tuple[LSTMState, ...]]:
        states = []
        for index, layer in enumerate(self.layers):
            dropout = self.dropout if index > 0 else self.input_dropout
            outputs, hidden, cell = layer(
                dropout(inputs, training=training),
                initial_state=None if initial_state is None else list(initial_state[index]),
                mask=mask,
                training=training,
            )
            inputs = self._join(index, inputs, outputs)
            states.append(LSTMState(hidden, cell))
        return inputs, tuple(states)

    def _join(self, index: int, inputs: Any, outputs: Any) -> Any:
        """Returns the output of a layer, normalized, with the residual connection."""
        if self.normalizations:
            outputs = self.normalizations[index](outputs)
        has_residual = index > 0 and self.layers[index].units == self.layers[index - 1].units
        return outputs + inputs if has_residual else outputs

    def step(self, inputs: Any, states: tuple[LSTMState, ...]) -> tuple[Any, tuple[LSTMState, ...]]:
        """Runs one time step without dropout.

        Args:
            inputs: float `(batch, features)`.
            states: One `LSTMState` for each layer.

        Returns:
            The output, `(batch, units)`, and the new states: what `call` gives for that step.
        """
        new_states = []
        for index, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            outputs, hidden, cell = layer.step(inputs, *state)
            inputs = self._join(index, inputs, outputs)
            new_states.append(LSTMState(hidden, cell))
        return inputs, tuple(new_states)

    def zero_state(self, batch_size: Any) -> tuple[LSTMState, ...]:
        """Returns the state before the first step: zeros, `(batch_size, units)` each."""
        zeros = [
            ops.zeros((batch_size, layer.units), dtype=self.compute_dtype) for layer in self.layers
        ]
        return tuple(LSTMState(part, part) for part in zeros)


def uniform(scale: float) -> keras.initializers.Initializer:
    """Returns an initializer that draws from +-scale.

    Such a start, of +-0.08 or +-0.1, is that of Sutskever et al., 2014, section 3.4
    (https://arxiv.org/abs/1409.3215), and of Luong et al., 2015, section 4.1.
    """
    return keras.initializers.RandomUniform(-scale, scale)


@keras.saving.register_keras_serializable("seq2seq_kit")
class ForEmbeddings(keras.initializers.Initializer):
    """Draws a kernel `(features, outputs)` whose inputs are embeddings drawn from +-scale.

    A kernel from +-scale, too, would give gates of nearly nothing: with 256 features and 0.1, their
    standard deviation is 0.05, an LSTM forgets in its first steps what it read, and training spends
    hundreds of updates on the frequencies of tokens. These start the gates with a standard
    deviation of `GATE_DEVIATION`, as kernels of Glorot and Bengio (2010) do for inputs of unit
    variance (docs/decisions/0018-initial-weights.md).

    Args:
        scale: The embeddings are uniform in +-scale.
    """

    GATE_DEVIATION = 0.5
    # Embeddings of few features or a tiny scale would ask for weights that training cannot move.
    _MAX_LIMIT = 2.0

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> Any:
        # A product of two uniform variables within a and b has the variance (a * b)**2 / 9.
        limit = 3.0 * self.GATE_DEVIATION / (self.scale * math.sqrt(shape[0]))
        return uniform(min(limit, self._MAX_LIMIT))(shape, dtype=dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale}
