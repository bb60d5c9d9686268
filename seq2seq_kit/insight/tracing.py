"""What happens in a network while it reads and writes a text: attention, gates, cells, states.

The network runs as in training, without dropout. What each LSTM layer read is recorded, and its
gates are computed from that and its weights by the equations of the LSTM in NumPy. The hidden
states that they give must be those of the layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from seq2seq_kit.errors import RunError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.subject import (
    TextModel,
    lstm_layers,
    source_ids_of,
    target_ids_of,
    text_model,
    texts_of,
)
from seq2seq_kit.model.alteration import unaltered
from seq2seq_kit.model.fast_lstm import FastLSTM, LayerCall, observe_layers
from seq2seq_kit.model.lstm import RecurrentLayer
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.model.recurrent import GRULayer, SimpleRNNLayer
from seq2seq_kit.special_ids import BOS_ID, EOS_ID

# The hidden states of layer and equations differ by rounding only, which on a GPU may be that of
# 10 bits of mantissa (TF32).
_TOLERANCE = 0.01


def _nothing() -> np.ndarray:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class LayerTrace:
    """What one recurrent layer computed at each time step.

    With the sigmoid function s, the input x and the hidden state h before a step, a step of an LSTM
    computes

        input_gate  i = s(W_i x + U_i h + b_i)      forget_gate  f = s(W_f x + U_f h + b_f)
        output_gate o = s(W_o x + U_o h + b_o)      candidate    g = tanh(W_g x + U_g h + b_g)
        cell        c' = f * c + i * g              hidden       h' = o * tanh(c')

    a step of a GRU (Cho et al., 2014; the reset gate applies after the product, as in cuDNN)

        update_gate z = s(W_z x + U_z h + b_z)      reset_gate   r = s(W_r x + U_r h + b_r)
        candidate   g = tanh(W_g x + b_g + r * (U_g h + d_g))
        hidden     h' = z * h + (1 - z) * g

    and a step of a simple recurrent layer h' = tanh(W x + U h + b).

    All arrays are float32 `(time, units)` in the order of the text, also those of the layers that
    read it from its end: before row `t` such a layer has read row `t + 1`.

    Reference: Gers et al., 2000, https://doi.org/10.1162/089976600300015015
    """

    tokens: tuple[str, ...]
    """The token that is read at each time step."""
    hidden: np.ndarray
    """The output of the step, from -1 to 1."""
    initial_hidden: np.ndarray
    """float32 `(units,)`. The hidden state before the first step."""
    candidate: np.ndarray = field(default_factory=_nothing)
    """What may enter the cell, of a GRU the hidden state, from -1 to 1. This array and those below
    have a width of 0 in a layer without such a part."""
    input_gate: np.ndarray = field(default_factory=_nothing)
    """How much of the candidate enters the cell, from 0 to 1."""
    forget_gate: np.ndarray = field(default_factory=_nothing)
    """How much of the cell is kept, from 0 to 1."""
    output_gate: np.ndarray = field(default_factory=_nothing)
    """How much of the cell the layer shows, from 0 to 1."""
    cell: np.ndarray = field(default_factory=_nothing)
    """The memory cell after the step."""
    initial_cell: np.ndarray = field(default_factory=_nothing)
    """float32 `(units,)`. The memory cell before the first step."""
    update_gate: np.ndarray = field(default_factory=_nothing)
    """How much of the hidden state is kept, from 0 to 1."""
    reset_gate: np.ndarray = field(default_factory=_nothing)
    """How much of the hidden state the candidate depends on, from 0 to 1."""


@dataclass(frozen=True)
class Trace:
    """What happened in a network while it read a source and wrote a target."""

    source_tokens: tuple[str, ...]
    """What the encoder read, EOS last; nothing in a language model, which reads a prompt as the
    beginning of its text."""
    input_tokens: tuple[str, ...]
    """What the decoder read at each time step, BOS first."""
    target_tokens: tuple[str, ...]
    """What the decoder was to predict at each time step: the next of its inputs."""
    attention: np.ndarray | None
    """float32 `(target_time, source_time)`. How much each source token counted when a target token
    was predicted; each row sums to 1. None in a model without attention."""
    layers: dict[str, LayerTrace]
    """The layers by name: `encoder_forward_0`, `encoder_backward_0`, ..., `decoder_0`, ...; a
    language model has those of a decoder only."""


def trace(
    model: TextModel | ExportedModel, source: str, target: str | Hypothesis | None = None
) -> Trace:
    """Returns what happens in a model while it reads a source and writes a target.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        source: The input; for a language model a prompt, "" for none.
        target: The text that is written; None for the model's best output.

    Raises:
        InputError: If the source is over-long.
        RunError: If a layer computes something other than the equations of `LayerTrace`.

    Example:

        seen = insight.trace(translator, "Guten Morgen!")
        seen.attention.shape
        seen.layers["decoder_0"].forget_gate.mean(axis=1)
    """
    check_not_forked()
    model = text_model(model)
    source_ids = source_ids_of(model, source)
    target_ids = target_ids_of(model, source, target)
    calls: dict[int, LayerCall] = {}
    network, tokenizer = model.model, model.tokenizer
    attention = None
    with observe_layers(lambda call: calls.update({id(call.layer): call})):
        if isinstance(network, LanguageModel):
            encoder_ids, target_ids = [], [*source_ids, *target_ids]
            input_ids = [BOS_ID, *target_ids[:-1]]
            network.decoder_outputs({"decoder_input_ids": np.array([input_ids])})
        else:
            encoder_ids, input_ids = [*source_ids, EOS_ID], [BOS_ID, *target_ids[:-1]]
            weights = network.attention_weights(np.array([encoder_ids]), np.array([input_ids]))
            attention = None if weights is None else np.asarray(weights)[0]
    source_tokens = texts_of(model.source_tokenizer, encoder_ids)
    input_tokens = texts_of(tokenizer, input_ids)
    layers = {}
    for name, layer in lstm_layers(network).items():
        tokens = source_tokens if name.startswith("encoder") else input_tokens
        backward = name.startswith("encoder_backward")
        layers[name] = _trace_layer(name, calls[id(layer)], tokens, backward=backward)
    return Trace(source_tokens, input_tokens, texts_of(tokenizer, target_ids), attention, layers)


def _trace_layer(
    name: str, call: LayerCall, tokens: tuple[str, ...], *, backward: bool
) -> LayerTrace:
    """Returns the trace of a call of one row.

    Raises:
        RunError: If the layer computed other hidden states.
    """
    inputs, outputs = np.asarray(call.inputs)[0], np.asarray(call.outputs[0])[0]
    first = [np.zeros(call.layer.units, np.float32)] * 2
    if call.initial_state is not None:
        first = [np.asarray(part)[0] for part in call.initial_state]
    columns = _run_equations(call.layer, inputs, *first)
    difference = float(np.abs(columns["hidden"] - outputs).max(initial=0.0))
    if not difference <= _TOLERANCE:
        raise RunError(
            f"The layer {name} does not compute what its equations give: its outputs "
            f"differ by up to {difference:.3g}. Its gates cannot be shown."
        )
    order = slice(None, None, -1 if backward else 1)
    ordered = {key: value[order].astype(np.float32) for key, value in columns.items()}
    if "cell" in ordered:
        ordered["initial_cell"] = first[1]
    return LayerTrace(tokens, **ordered, initial_hidden=first[0])


def _run_equations(
    layer: RecurrentLayer, inputs: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the arrays of a `LayerTrace`, float64, in the order in which the layer reads.

    Args:
        layer: The layer, for its weights.
        inputs: float `(time, features)`.
        hidden: float `(units,)`. The hidden state before the first step.
        cell: float `(units,)`. The memory cell before the first step.
    """
    step = {FastLSTM: _lstm_step, GRULayer: _gru_step, SimpleRNNLayer: _simple_step}[type(layer)]
    weights = _Weights(
        *(
            np.asarray(weight, np.float64)
            for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
        )
    )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in layer.parts}
    for features in inputs.astype(np.float64):
        found = step(weights, features, hidden, cell, _alteration_of(layer))
        hidden, cell = found["hidden"], found.get("cell", cell)
        for name, value in found.items():
            rows[name].append(value)
    empty = np.zeros((0, layer.units))
    return {name: np.stack(values) if values else empty for name, values in rows.items()}


class _Weights(NamedTuple):
    """The weights of a layer, float64, with the gates in Keras's order."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray


_Alter = Callable[[str, np.ndarray], np.ndarray]
_Values = dict[str, np.ndarray]


def _lstm_step(
    weights: _Weights, features: np.ndarray, hidden: np.ndarray, cell: np.ndarray, alter: _Alter
) -> _Values:
    kernel, recurrent_kernel, bias = weights
    sums = np.split(features @ kernel + hidden @ recurrent_kernel + bias, 4)
    found = {
        "input_gate": alter("input_gate", _sigmoid(sums[0])),
        "forget_gate": alter("forget_gate", _sigmoid(sums[1])),
        "candidate": alter("candidate", np.tanh(sums[2])),
        "output_gate": alter("output_gate", _sigmoid(sums[3])),
    }
    kept = found["forget_gate"] * cell + found["input_gate"] * found["candidate"]
    found["cell"] = alter("cell", kept)
    found["hidden"] = alter("hidden", found["output_gate"] * np.tanh(found["cell"]))
    return found


def _gru_step(
    weights: _Weights, features: np.ndarray, hidden: np.ndarray, cell: np.ndarray, alter: _Alter
) -> _Values:
    of_inputs = np.split(features @ weights.kernel + weights.bias[0], 3)
    of_hidden = np.split(hidden @ weights.recurrent_kernel + weights.bias[1], 3)
    update = alter("update_gate", _sigmoid(of_inputs[0] + of_hidden[0]))
    reset = alter("reset_gate", _sigmoid(of_inputs[1] + of_hidden[1]))
    candidate = alter("candidate", np.tanh(of_inputs[2] + reset * of_hidden[2]))
    new = alter("hidden", update * hidden + (1.0 - update) * candidate)
    return {"update_gate": update, "reset_gate": reset, "candidate": candidate, "hidden": new}


def _simple_step(
    weights: _Weights, features: np.ndarray, hidden: np.ndarray, cell: np.ndarray, alter: _Alter
) -> _Values:
    sums = features @ weights.kernel + hidden @ weights.recurrent_kernel + weights.bias
    return {"hidden": alter("hidden", np.tanh(sums))}


def _alteration_of(layer: RecurrentLayer) -> _Alter:
    """Returns what the alteration of a layer does with an array of a part."""
    if layer.alteration is None:
        return unaltered
    parts = layer.alteration.parts
    scales, offsets = layer.alteration.scales.numpy(), layer.alteration.offsets.numpy()
    return lambda part, value: value * scales[parts.index(part)] + offsets[parts.index(part)]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # This form does not overflow.
    return 0.5 * (1.0 + np.tanh(0.5 * values))
