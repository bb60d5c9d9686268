"""What happens in a network while it reads and writes a text: attention, gates, cells, states.

The network runs as in training, without dropout. What each LSTM layer read is recorded, and its
gates are computed from that and its weights by the equations of the LSTM in NumPy. The hidden
states that they give must be those of the layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seq2seq_kit.errors import RunError
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.subject import (
    TextModel,
    lstm_layers,
    source_ids_of,
    target_ids_of,
    texts_of,
)
from seq2seq_kit.model.alteration import unaltered
from seq2seq_kit.model.fast_lstm import FastLSTM, LayerCall, observe_layers
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID

# The hidden states of layer and equations differ by rounding only, which on a GPU may be that of
# 10 bits of mantissa (TF32).
_TOLERANCE = 0.01


@dataclass(frozen=True)
class LayerTrace:
    """What one LSTM layer computed at each time step.

    With the sigmoid function s, the input x and the hidden state h before a step, a step computes

        input_gate  i = s(W_i x + U_i h + b_i)      forget_gate  f = s(W_f x + U_f h + b_f)
        output_gate o = s(W_o x + U_o h + b_o)      candidate    g = tanh(W_g x + U_g h + b_g)
        cell        c' = f * c + i * g              hidden       h' = o * tanh(c')

    All arrays are float32 `(time, units)` in the order of the text, also those of the layers that
    read it from its end: before row `t` such a layer has read row `t + 1`.

    Reference: Gers et al., 2000, https://doi.org/10.1162/089976600300015015
    """

    tokens: tuple[str, ...]
    """The token that is read at each time step."""
    input_gate: np.ndarray
    """How much of the candidate enters the cell, from 0 to 1."""
    forget_gate: np.ndarray
    """How much of the cell is kept, from 0 to 1."""
    output_gate: np.ndarray
    """How much of the cell the layer shows, from 0 to 1."""
    candidate: np.ndarray
    """What may enter the cell, from -1 to 1."""
    cell: np.ndarray
    """The memory cell after the step."""
    hidden: np.ndarray
    """The output of the step, from -1 to 1."""
    initial_cell: np.ndarray
    """float32 `(units,)`. The memory cell before the first step."""
    initial_hidden: np.ndarray
    """float32 `(units,)`. The hidden state before the first step."""


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
    was predicted; each row sums to 1. None in a language model."""
    layers: dict[str, LayerTrace]
    """The layers by name: `encoder_forward_0`, `encoder_backward_0`, ..., `decoder_0`, ...; a
    language model has those of a decoder only."""


def trace(model: TextModel, source: str, target: str | Hypothesis | None = None) -> Trace:
    """Returns what happens in a model while it reads a source and writes a target.

    Args:
        model: A `Seq2Seq`.
        source: The input; for a language model a prompt, "" for none.
        target: The text that is written; None for the model's best output.

    Raises:
        InputError: If the source is over-long, or `model` is an export.
        RunError: If a layer computes something other than the equations of `LayerTrace`.

    Example:

        seen = insight.trace(translator, "Guten Morgen!")
        seen.attention.shape
        seen.layers["decoder_0"].forget_gate.mean(axis=1)
    """
    check_not_forked()
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
            attention = np.asarray(weights)[0]
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
            f"The layer {name} does not compute what the equations of an LSTM give: its outputs "
            f"differ by up to {difference:.3g}. Its gates cannot be shown."
        )
    order = slice(None, None, -1 if backward else 1)
    ordered = {key: value[order].astype(np.float32) for key, value in columns.items()}
    return LayerTrace(tokens, **ordered, initial_hidden=first[0], initial_cell=first[1])


def _run_equations(
    layer: FastLSTM, inputs: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the arrays of a `LayerTrace`, float64, in the order in which the layer reads.

    Args:
        layer: The layer, for its weights.
        inputs: float `(time, features)`.
        hidden: float `(units,)`. The hidden state before the first step.
        cell: float `(units,)`. The memory cell before the first step.
    """
    kernel, recurrent_kernel, bias = (
        np.asarray(weight, np.float64)
        for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
    )
    alter = _alteration_of(layer)
    # Keras's order of the gates.
    names = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for features in inputs.astype(np.float64):
        sums = np.split(features @ kernel + hidden @ recurrent_kernel + bias, 4)
        input_gate = alter("input_gate", _sigmoid(sums[0]))
        forget_gate = alter("forget_gate", _sigmoid(sums[1]))
        candidate = alter("candidate", np.tanh(sums[2]))
        output_gate = alter("output_gate", _sigmoid(sums[3]))
        cell = alter("cell", forget_gate * cell + input_gate * candidate)
        hidden = alter("hidden", output_gate * np.tanh(cell))
        values = (input_gate, forget_gate, candidate, output_gate, cell, hidden)
        for name, value in zip(names, values, strict=True):
            rows[name].append(value)
    empty = np.zeros((0, layer.units))
    return {name: np.stack(values) if values else empty for name, values in rows.items()}


def _alteration_of(layer: FastLSTM) -> Callable[[str, np.ndarray], np.ndarray]:
    """Returns what the alteration of a layer does with an array of a part."""
    if layer.alteration is None:
        return unaltered
    parts = layer.alteration.parts
    scales, offsets = layer.alteration.scales.numpy(), layer.alteration.offsets.numpy()
    return lambda part, value: value * scales[parts.index(part)] + offsets[parts.index(part)]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # This form does not overflow.
    return 0.5 * (1.0 + np.tanh(0.5 * values))
