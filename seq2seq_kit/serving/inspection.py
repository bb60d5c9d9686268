"""What the page shows of a run, as JSON: words and their surprise, alternatives, attention, gates.

Each function gets the run and the checked body of a request. Knows nothing of HTTP.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from seq2seq_kit import insight
from seq2seq_kit.config.section import Count, Section
from seq2seq_kit.errors import InputError, suggest
from seq2seq_kit.insight.subject import lstm_layers, target_ids_of
from seq2seq_kit.insight.tracing import LayerTrace
from seq2seq_kit.model.networks import EncoderDecoder
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.bodies import Limits, check_texts
from seq2seq_kit.serving.models import ServedModel, ServedRun
from seq2seq_kit.text.normalization import SPACE_MARK

PARTS = ("input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden")
"""What a layer computes at each step, by the names of `LayerTrace`."""

_MOST_TOKENS = 1_000
"""Tokens of an output that is looked at: the arrays of a longer one would fill a browser."""

_LIVELIEST_UNITS = 32
"""Units that are shown where none are chosen."""


class InspectBody(Section):
    """What every look inside a model needs."""

    model: str | None = None
    """The name of the model; may be left out where the server has only one."""
    text: str = ""
    """The input: a line to translate, or a prompt."""
    output: str = ""
    """What the model writes, or another text in its place."""


class AlternativesBody(InspectBody):
    """A place in an output."""

    step: Count = 0
    """The place of the token, from 0."""
    count: Annotated[int, Field(ge=1, le=100, strict=True)] = 10
    """How many alternatives."""


class UnitsBody(InspectBody):
    """A part of a layer."""

    layer: str = ""
    """The name of the layer."""
    part: Literal["input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"] = (
        "forget_gate"
    )
    """The gate, or `candidate`, `cell` or `hidden`."""
    units: tuple[Count, ...] = ()
    """Units to show besides the liveliest."""


@dataclass(frozen=True)
class Look:
    """A way to look inside a model."""

    body: type[InspectBody]
    """The form of its requests."""
    run: Callable[[ServedRun, Any], dict[str, Any]]
    """What answers them."""


def parse(look: Look, values: Mapping[str, Any], limits: Limits) -> InspectBody:
    """Returns the checked body of a request.

    Raises:
        InputError: If a value is unknown, not allowed, or more than the limits allow.
    """
    names = list(look.body.model_fields)
    for name in values:
        if name not in names:
            raise InputError(f"`{name}` is an unknown option. {suggest(name, names)}")
    body = look.body.model_construct(**look.body().check_values(values))
    check_texts([body.text, body.output], limits)
    return body


def describe(model: ServedModel) -> dict[str, Any]:
    """Returns what a page needs to know of a model before it asks it anything."""
    if not isinstance(model, ServedRun):
        return {"kind": "export", "beam_size": model.beam}
    config = model.seq2seq.config
    return {
        "kind": "run",
        "task": config.task,
        "has_attention": isinstance(model.seq2seq.model, EncoderDecoder),
        "joins_texts": config.joins_texts,
        "sample": config.decoding.sample,
        "seed": config.decoding.seed,
        "beam_size": config.decoding.beam_size,
        "layers": list(lstm_layers(model.seq2seq.model)),
    }


def words(run: ServedRun, body: InspectBody) -> dict[str, Any]:
    """Returns the pieces of an output, whole characters each, with their log-probabilities."""
    model = run.seq2seq
    ids = _output_ids(model, body)
    log_probs = (-insight.surprise(model, body.text, body.output).nats).tolist()
    surfaces = model.tokenizer.surfaces
    found: list[dict[str, Any]] = []
    content, first = b"", 0
    for place, token_id in enumerate(ids):
        is_last = place == len(ids) - 1
        content += surfaces[token_id]
        try:
            text = content.decode()
        except UnicodeDecodeError:  # A character whose bytes are tokens of their own.
            if not is_last:
                continue
            text = content.decode(errors="replace")
        found.append(
            {
                "text": "" if is_last else text.replace(SPACE_MARK, " "),
                "step": first,
                "log_prob": round(sum(log_probs[first : place + 1]), 4),
                "is_end": is_last,
            }
        )
        content, first = b"", place + 1
    return {"words": found, "log_prob": sum(log_probs)}


def alternatives(run: ServedRun, body: AlternativesBody) -> dict[str, Any]:
    """Returns what could be in the place of a token."""
    found = insight.alternatives(
        run.seq2seq, body.text, body.output, step=body.step, count=body.count
    )
    return {
        "alternatives": [
            {
                "token": one.token.replace(SPACE_MARK, " "),
                "log_prob": one.log_prob,
                # Half a character cannot be forced.
                "prefix": None if one.is_end or "\ufffd" in one.text else one.text,
                "is_end": one.is_end,
            }
            for one in found
        ]
    }


def trace(run: ServedRun, body: InspectBody) -> dict[str, Any]:
    """Returns attention, and a summary of each part of each layer."""
    _output_ids(run.seq2seq, body)
    seen = insight.trace(run.seq2seq, body.text, body.output)
    return {
        "source_tokens": seen.source_tokens,
        "target_tokens": seen.target_tokens,
        "attention": None if seen.attention is None else _rounded(seen.attention),
        "layers": [
            {
                "name": name,
                "units": len(layer.initial_cell),
                "tokens": layer.tokens,
                "parts": {part: _summary(getattr(layer, part)) for part in PARTS},
            }
            for name, layer in seen.layers.items()
        ],
    }


def units(run: ServedRun, body: UnitsBody) -> dict[str, Any]:
    """Returns a part of single units: those asked for, then those that change most."""
    _output_ids(run.seq2seq, body)
    layers = insight.trace(run.seq2seq, body.text, body.output).layers
    if body.layer not in layers:
        raise InputError(
            f"`layer` must be one of {', '.join(layers)}. Received: {body.layer or 'nothing'}."
        )
    layer: LayerTrace = layers[body.layer]
    values = getattr(layer, body.part)
    number = values.shape[1]
    for unit in body.units:
        if unit >= number:
            raise InputError(
                f"`units` of {body.layer} must be from 0 to {number - 1}. Received: {unit}."
            )
    liveliest = np.argsort(-values.std(axis=0), kind="stable")[:_LIVELIEST_UNITS].tolist()
    chosen = list(dict.fromkeys([*body.units, *liveliest]))
    return {
        "tokens": layer.tokens,
        "units": chosen,
        "values": _rounded(values[:, chosen].T),
    }


LOOKS: Mapping[str, Look] = {
    "words": Look(InspectBody, words),
    "alternatives": Look(AlternativesBody, alternatives),
    "trace": Look(InspectBody, trace),
    "units": Look(UnitsBody, units),
}
"""The looks by the last part of their paths."""


def _output_ids(model: Seq2Seq, body: InspectBody) -> list[int]:
    """Returns the tokens of an output, its end included.

    Raises:
        InputError: If there are too many, or the input is over-long.
    """
    ids = target_ids_of(model, body.text, body.output)
    if len(ids) > _MOST_TOKENS:
        raise InputError(
            f"The page shows outputs of at most {_MOST_TOKENS:,} tokens. This one has {len(ids):,}."
        )
    return ids


def _summary(values: np.ndarray) -> dict[str, list[float]]:
    """Returns mean, tenth and ninetieth percentile over the units, at each step."""
    low, high = np.percentile(values, (10, 90), axis=1)
    return {"mean": _rounded(values.mean(axis=1)), "low": _rounded(low), "high": _rounded(high)}


def _rounded(values: np.ndarray) -> Any:
    return np.round(values.astype(np.float64), 3).tolist()
