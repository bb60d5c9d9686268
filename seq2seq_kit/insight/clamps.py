"""Gates of an LSTM layer that are held at a value, to see what a model writes then."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.insight.subject import TextModel, check_is_run, lstm_layers

# Keras's order of the gates in the weights; the least and the largest value of each.
_RANGES = {
    "input_gate": (0.0, 1.0),
    "forget_gate": (0.0, 1.0),
    "candidate": (-1.0, 1.0),
    "output_gate": (0.0, 1.0),
}
# Before its activation, in place of infinity: sigmoid and tanh reach their limits in float32.
_LIMIT = 1e4


@contextmanager
def clamped(
    model: TextModel,
    layer: str,
    gate: str,
    value: float,
    units: Sequence[int] | None = None,
) -> Iterator[None]:
    """Holds a gate of an LSTM layer at a value for as long as the body runs.

    The weights of the gate are replaced by zeros and a bias that gives the value, so that all
    outputs and scores of the model change, in other threads too. They are restored afterwards.
    Clamps may be nested: of two that hold the same units of a gate, the inner one counts.

    Args:
        model: A `Seq2Seq`.
        layer: The name of the layer, as in `Trace.layers`.
        gate: "input_gate", "forget_gate", "output_gate" or "candidate".
        value: From 0 to 1; for the candidate from -1 to 1.
        units: The units of the layer that are held; None for all.

    Raises:
        InputError: If there is no such layer, gate or unit, or the value is out of range.

    Example:

        with insight.clamped(writer, "decoder_0", "forget_gate", 0.0):
            print(writer.generate(["Once upon a time"]))
    """
    check_is_run(model)
    layers = lstm_layers(model.model)
    if layer not in layers:
        raise InputError(f"`layer` must be one of {', '.join(layers)}. Received: {shorten(layer)}.")
    if gate not in _RANGES:
        raise InputError(f"`gate` must be one of {', '.join(_RANGES)}. Received: {shorten(gate)}.")
    cell = layers[layer].cell
    first = list(_RANGES).index(gate) * cell.units
    columns = first + _units(units, cell.units)
    bias = _before_activation(gate, value)
    weights = (cell.kernel, cell.recurrent_kernel, cell.bias)
    saved = [np.array(weight) for weight in weights]
    try:
        for weight, content in zip(weights, (0.0, 0.0, bias), strict=True):
            changed = np.array(weight)
            changed[..., columns] = content
            weight.assign(changed)
        yield
    finally:
        for weight, before in zip(weights, saved, strict=True):
            weight.assign(before)


def _units(units: Sequence[int] | None, number: int) -> np.ndarray:
    """Returns the places of the units that are held.

    Raises:
        InputError: If one is not from 0 to `number` - 1.
    """
    if units is None:
        return np.arange(number)
    found = np.array(units)
    is_whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
    if not is_whole or found.min() < 0 or found.max() >= number:
        raise InputError(
            f"`units` must be a list of whole numbers from 0 to {number - 1}. Received: "
            f"{shorten(units)}."
        )
    return found


def _before_activation(gate: str, value: float) -> float:
    """Returns the bias that gives a gate its value.

    Raises:
        InputError: If the value is out of range.
    """
    least, largest = _RANGES[gate]
    if not isinstance(value, int | float) or not least <= value <= largest:
        raise InputError(
            f"`value` must be a number from {least:g} to {largest:g} for `{gate}`. Received: "
            f"{shorten(value)}."
        )
    if value in (least, largest):
        # A forget gate of 0.5 has a bias of 0; only the ends have none.
        return _LIMIT if value == largest else -_LIMIT
    return math.atanh(value) if gate == "candidate" else math.log(value / (1.0 - value))
