"""Interventions: gates, cells, hidden states and attention that are held, to see what changes."""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from seq2seq_kit import bounds
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.insight.subject import AnyModel, TextModel, lstm_layers, text_model
from seq2seq_kit.model.alteration import LayerAlteration
from seq2seq_kit.model.attention import Attention
from seq2seq_kit.model.networks import EncoderDecoder

# The least and the largest value of what a layer computes; a cell has no limits.
_RANGES = {
    "input_gate": (0.0, 1.0),
    "forget_gate": (0.0, 1.0),
    "candidate": (-1.0, 1.0),
    "output_gate": (0.0, 1.0),
    "update_gate": (0.0, 1.0),
    "reset_gate": (0.0, 1.0),
    "cell": (-bounds.MAX_INTERVENTION, bounds.MAX_INTERVENTION),
    "hidden": (-1.0, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """A part of a layer that is held at a value, or scaled, in every step.

    What is held or scaled is what the equations of `LayerTrace` give; all later equations go on
    with the result. A hidden state of 0 switches units off, a cell scaled by 0.9 forgets sooner.

    Raises:
        InputError: If there is no such part, not exactly one of `value` and `scale` is given, or it
            is out of range.
    """

    layer: str
    """The name of the layer, as in `Trace.layers`."""
    part: str
    """"input_gate", "forget_gate", "output_gate", "candidate", "cell" or "hidden"; with a GRU's
    cell "update_gate", "reset_gate", "candidate" or "hidden", with a simple one "hidden"."""
    units: Sequence[int] | None = None
    """The units of the layer; None for all."""
    value: float | None = None
    """What the part is held at: from 0 to 1 for a gate, from -1 to 1 for the candidate and the
    hidden state."""
    scale: float | None = None
    """What the part is multiplied by."""

    def __post_init__(self) -> None:
        if self.part not in _RANGES:
            raise InputError(
                f"`part` must be one of {', '.join(_RANGES)}. Received: {shorten(self.part)}."
            )
        if (self.value is None) == (self.scale is None):
            raise InputError(
                f"An intervention needs `value` or `scale`, and not both. Received: value="
                f"{self.value}, scale={self.scale}."
            )
        most = bounds.MAX_INTERVENTION
        if self.value is None:
            _check_number("`scale`", self.scale, -most, most)
        else:
            _check_number(f"`value` of `{self.part}`", self.value, *_RANGES[self.part])


@dataclass(frozen=True, kw_only=True)
class ForcedAttention:
    """The attention of one decoding step, given instead of computed.

    Raises:
        InputError: If the step is no whole number from 0 up, or the weights are not numbers from 0
            up of which one is more than 0.
    """

    step: int
    """The place of the target token that is predicted in the step, from 0. The tokens of a forced
    prefix count."""
    weights: Sequence[float]
    """One for each source token, EOS included, as in `Trace.source_tokens`; 0 or more. They are
    divided by their sum."""

    def __post_init__(self) -> None:
        is_whole = isinstance(self.step, int) and not isinstance(self.step, bool)
        if not is_whole or not 0 <= self.step <= bounds.MAX_TOKENS:
            raise InputError(
                f"`step` must be a whole number from 0 to {bounds.MAX_TOKENS}. Received: "
                f"{shorten(self.step)}."
            )
        weights = np.asarray(self.weights)
        is_plain = weights.ndim == 1 and weights.size and weights.dtype.kind in "iuf"
        if not is_plain or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
            raise InputError(
                f"`weights` must be numbers of 0 or more, one of them more than 0, one for each "
                f"source token. Received: {shorten(self.weights)}."
            )


@dataclass
class _Altered:
    """The copy of a model that interventions change."""

    model: Any
    active: list[Intervention | ForcedAttention] = field(default_factory=list)
    # One thread at a time: the interventions of another one would change its outputs.
    lock: threading.RLock = field(default_factory=threading.RLock)


_copies: WeakKeyDictionary[Any, _Altered] = WeakKeyDictionary()


@contextmanager
def intervene(
    model: AnyModel | ExportedModel, *interventions: Intervention | ForcedAttention
) -> Iterator[AnyModel]:
    """Provides a copy of a model in which parts of layers, or the attention, are held.

    The copy is a model like any other: it generates (greedily, by sampling or with a beam), scores,
    streams and is traced. The model itself does not change. The first use with a model copies its
    network and traces the copy's graphs, later ones use them again. Blocks may be nested: the
    inner interventions come after the outer ones, and a later one changes what an earlier one has
    left. A copy belongs to one thread at a time; another one waits at the beginning of its block.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        *interventions: What is held. With none, the copy does what the model does.

    Yields:
        The copy. It has the interventions only within the block.

    Raises:
        InputError: If the model has no such layer or unit, or attention is to be forced that it
            does not have. Within the block, if an input has not one token for each forced weight.

    Example:

        forgetful = insight.Intervention(layer="decoder_0", part="forget_gate", value=0.0)
        with insight.intervene(writer, forgetful) as altered:
            print(altered.generate(["Once upon a time"]))
    """
    subject = text_model(model)
    altered = _copy_of(subject)
    with altered.lock:
        before = list(altered.active)
        if not before:
            altered.model.model.set_weights(subject.model.get_weights())
        try:
            altered.active += interventions
            _apply(altered.model, altered.active)
            yield altered.model
        finally:
            altered.active = before
            _apply(altered.model, before)


def _copy_of(model: TextModel) -> _Altered:
    """Returns the copy that is made for a model at its first use, with layers to be altered."""
    for known in list(_copies.values()):
        if known.model is model:
            return known
    if model not in _copies:
        copy = model.copy()
        for layer in lstm_layers(copy.model).values():
            layer.alter()
        if (attention := _attention_of(copy)) is not None:
            attention.alter()
        _copies[model] = _Altered(copy)
    return _copies[model]


def _apply(model: TextModel, interventions: Sequence[Intervention | ForcedAttention]) -> None:
    """Alters the layers of a copy as interventions say, and nothing else.

    Raises:
        InputError: If one does not fit the model.
    """
    network = model.model
    layers = {name: layer.alter() for name, layer in lstm_layers(network).items()}
    scales = {name: np.ones(layer.scales.shape, np.float32) for name, layer in layers.items()}
    offsets = {name: np.zeros(layer.scales.shape, np.float32) for name, layer in layers.items()}
    forced: dict[int, np.ndarray] = {}
    for one in interventions:
        if isinstance(one, ForcedAttention):
            weights = np.asarray(one.weights, np.float64)
            forced[one.step] = weights / weights.sum()
            continue
        if not isinstance(one, Intervention):
            raise InputError(
                f"Expected `Intervention`s or `ForcedAttention`s. Received: {shorten(one)}."
            )
        place = _places(one, layers)
        factor = 0.0 if one.scale is None else one.scale
        scales[one.layer][place] *= factor
        offsets[one.layer][place] = offsets[one.layer][place] * factor + (one.value or 0.0)
    num_tokens = _check_attention(model, forced)
    for name, layer in layers.items():
        layer.assign(scales[name], offsets[name])
    if (attention := _attention_of(model)) is not None:
        attention.alter().assign(forced)
    for encoder in (model.inputs, model.generator.inputs, model.scorer.inputs):
        encoder.num_tokens = num_tokens


def _attention_of(model: TextModel) -> Attention | None:
    network = model.model
    return network.decoder.attend if isinstance(network, EncoderDecoder) else None


def _places(
    intervention: Intervention, layers: dict[str, LayerAlteration]
) -> tuple[int, np.ndarray]:
    """Returns the place of a part in an alteration, and those of its units.

    Raises:
        InputError: If the model has no such layer or unit.
    """
    if intervention.layer not in layers:
        raise InputError(
            f"`layer` must be one of {', '.join(layers)}. Received: {shorten(intervention.layer)}."
        )
    layer = layers[intervention.layer]
    if intervention.part not in layer.parts:
        raise InputError(
            f"`part` of {intervention.layer} must be one of {', '.join(layer.parts)}. Received: "
            f"{shorten(intervention.part)}."
        )
    number = layer.scales.shape[1]
    units = np.arange(number) if intervention.units is None else np.array(intervention.units)
    is_whole = units.ndim == 1 and np.issubdtype(units.dtype, np.integer)
    if not is_whole or units.min() < 0 or units.max() >= number:
        raise InputError(
            f"`units` of {intervention.layer} must be a list of whole numbers from 0 to "
            f"{number - 1}. Received: {shorten(intervention.units)}."
        )
    # Units that are named twice are scaled once.
    return layer.parts.index(intervention.part), np.unique(units)


def _check_attention(model: TextModel, forced: dict[int, np.ndarray]) -> int | None:
    """Returns the tokens that each source must have, EOS not counted; None for any number.

    Raises:
        InputError: If the model has no attention to force, or weights are of different sources.
    """
    if not forced:
        return None
    if _attention_of(model) is None or model.config.task != "translation":
        raise InputError(
            f"Attention can be forced only in a translation model that has one. Received a "
            f"model for {model.config.task} (model.architecture: "
            f"{model.config.model.architecture}, model.attention: {model.config.model.attention})."
        )
    lengths = {len(weights) for weights in forced.values()}
    if len(lengths) > 1:
        raise InputError(
            f"All forced attention must have as many weights: one for each token of the source. "
            f"Received: {', '.join(map(str, sorted(lengths)))} weights."
        )
    return lengths.pop() - 1


def _check_number(what: str, value: Any, least: float, most: float) -> None:
    """Raises InputError unless a value is a number within bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not least <= value <= most:
        raise InputError(
            f"{what} must be a number from {least:g} to {most:g}. Received: {shorten(value)}."
        )
