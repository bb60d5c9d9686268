"""What the page shows of a model, as JSON: words, alternatives, attention, gates and so on.

Each function gets the model and the checked body of a request. Knows nothing of HTTP.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from seq2seq_kit import bounds, insight
from seq2seq_kit.config.section import Count, Section
from seq2seq_kit.errors import DataError, InputError, shorten, suggest
from seq2seq_kit.insight.neighbors import StateKind
from seq2seq_kit.insight.subject import TextModel, layer_names, target_ids_of
from seq2seq_kit.insight.tracing import LayerTrace
from seq2seq_kit.serving.bodies import Limits, check_texts
from seq2seq_kit.serving.models import ServedModel, ServedRun
from seq2seq_kit.text.normalization import SPACE_MARK

_Number = Annotated[float, Field(strict=True)]

_PARTS = (
    "input_gate",
    "forget_gate",
    "output_gate",
    "update_gate",
    "reset_gate",
    "candidate",
    "cell",
    "hidden",
)
"""What layers compute at each step, by the names of `LayerTrace`; none has all of them."""

_MOST_TOKENS = 1_000
"""Tokens of an output that is looked at: the arrays of a longer one would fill a browser."""

_MOST_CHANGES = 100
"""Changes of a model in a request."""

_INDEXED_LINES = 1_000
"""Training lines among which similar ones are looked for: their states take seconds to compute."""

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
    part: str = ""
    """The gate, or `candidate`, `cell` or `hidden`."""
    units: tuple[Count, ...] = ()
    """Units to show besides the liveliest."""


class PartBody(Section):
    """A part of a layer that is changed."""

    layer: str = ""
    """The name of the layer."""
    part: str = ""
    """The gate, or `candidate`, `cell` or `hidden`."""
    units: tuple[Count, ...] | None = None
    """The units of the layer; null for all."""
    value: _Number | None = None
    """What the part is held at."""
    scale: _Number | None = None
    """What the part is multiplied by."""


class AttentionBody(Section):
    """The attention of a step that is changed."""

    step: Count = 0
    """The place of the token that is written, from 0."""
    weights: tuple[_Number, ...] = ()
    """A weight for each source token, its end included."""


class WriteBody(InspectBody):
    """Changes of a model that writes with them."""

    prefix: str = ""
    """What the output must begin with."""
    seed: Count | None = None
    """The seed of a model that samples; null for its own."""
    interventions: Annotated[tuple[PartBody, ...], Field(max_length=_MOST_CHANGES)] = ()
    """Parts of layers that are held or scaled."""
    attention: Annotated[tuple[AttentionBody, ...], Field(max_length=_MOST_CHANGES)] = ()
    """Attention that is given instead of computed."""


class BeamBody(InspectBody):
    """A beam search."""

    beam_size: Annotated[int, Field(ge=2, le=bounds.MAX_BEAM_SIZE, strict=True)] = 3
    """Hypotheses that it keeps."""


class SimilarBody(InspectBody):
    """A state of a model."""

    state: StateKind = "decoder"
    """Whose state."""
    position: Annotated[int, Field(ge=-1, le=bounds.MAX_COUNT, strict=True)] = -1
    """The token, from 0; -1 is the last."""


@dataclass(frozen=True)
class Look:
    """A way to look inside a model."""

    body: type[InspectBody]
    """The form of its requests."""
    summary: str
    """What it returns, for the documentation."""
    run: Callable[[TextModel, Any], dict[str, Any]]
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
    prefix = getattr(body, "prefix", "")
    check_texts([body.text, body.output, prefix], limits)
    if getattr(body, "beam_size", 0) > limits.beam_size:
        raise InputError(f"`beam_size` must be at most {limits.beam_size:,} on this server.")
    return body


def describe(served: ServedModel) -> dict[str, Any]:
    """Returns what a page needs to know of a model before it asks it anything."""
    kind = "run" if isinstance(served, ServedRun) else "export"
    config = served.config
    if config is None:
        return {"kind": kind, "can_look_inside": False, "beam_size": served.beam}
    has_encoder = config.model.architecture == "encoder_decoder"
    return {
        "kind": kind,
        "can_look_inside": True,
        "task": config.task,
        "has_encoder": has_encoder,
        "has_attention": has_encoder and config.model.attention != "none",
        "joins_texts": config.joins_texts,
        "sample": config.decoding.sample,
        "seed": config.decoding.seed,
        "beam_size": config.decoding.beam_size,
        "layers": layer_names(config.model),
    }


def words(model: TextModel, body: InspectBody) -> dict[str, Any]:
    """Returns the pieces of an output, whole characters each, with their log-probabilities."""
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


def alternatives(model: TextModel, body: AlternativesBody) -> dict[str, Any]:
    """Returns what could be in the place of a token."""
    found = insight.alternatives(model, body.text, body.output, step=body.step, count=body.count)
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


def trace(model: TextModel, body: InspectBody) -> dict[str, Any]:
    """Returns attention, and a summary of each part of each layer."""
    _output_ids(model, body)
    seen = insight.trace(model, body.text, body.output)
    return {
        "source_tokens": seen.source_tokens,
        "target_tokens": seen.target_tokens,
        "attention": None if seen.attention is None else _rounded(seen.attention),
        "layers": [
            {
                "name": name,
                "units": len(layer.initial_hidden),
                "tokens": layer.tokens,
                "parts": {part: _summary(values) for part, values in _parts(layer).items()},
            }
            for name, layer in seen.layers.items()
        ],
    }


def units(model: TextModel, body: UnitsBody) -> dict[str, Any]:
    """Returns a part of single units: those asked for, then those that change most."""
    _output_ids(model, body)
    layers = insight.trace(model, body.text, body.output).layers
    if body.layer not in layers:
        raise InputError(
            f"`layer` must be one of {', '.join(layers)}. Received: {shorten(body.layer)}."
        )
    layer = layers[body.layer]
    parts = _parts(layer)
    if body.part not in parts:
        raise InputError(
            f"`part` of {body.layer} must be one of {', '.join(parts)}. Received: "
            f"{shorten(body.part)}."
        )
    values = parts[body.part]
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


def write(model: TextModel, body: WriteBody) -> dict[str, Any]:
    """Returns what the model writes with changes, which no other request sees."""
    changes: list[insight.Intervention | insight.ForcedAttention] = [
        *(insight.Intervention(**dict(one)) for one in body.interventions),
        *(insight.ForcedAttention(**dict(one)) for one in body.attention),
    ]
    options = {} if body.seed is None else {"seed": body.seed}
    with insight.intervene(model, *changes) as changed:
        ((best,),) = changed.hypotheses([body.text], prefixes=body.prefix or None, **options)
    return {"text": best.text, "log_prob": best.log_prob, "is_cut": best.is_cut}


def beam(model: TextModel, body: BeamBody) -> dict[str, Any]:
    """Returns the tree of a beam search."""
    tree = insight.beam_tree(model, body.text, beam_size=body.beam_size, sample=False)
    return {"nodes": [asdict(node) for node in tree.nodes], "output": tree.output}


def similar(model: TextModel, body: SimilarBody) -> dict[str, Any]:
    """Returns training lines in which the model was in a similar state."""
    try:
        index = _training_index(model, body.state)
    except DataError as error:  # Whose message names files of the server.
        raise InputError(
            "The training data of this model are not on this server. A packaged model and "
            "an export come without them; of a run they must be where its config says."
        ) from error
    found = index.nearest(body.text, body.output, position=body.position)
    return {"neighbors": [asdict(one) for one in found]}


LOOKS: Mapping[str, Look] = {
    "words": Look(InspectBody, "the words of an output and their log-probabilities", words),
    "alternatives": Look(AlternativesBody, "what could be in the place of a token", alternatives),
    "trace": Look(InspectBody, "attention, and a summary of the gates of each layer", trace),
    "units": Look(UnitsBody, "a gate or state of single units", units),
    "write": Look(WriteBody, "what the model writes with changed gates, states, attention", write),
    "beam": Look(BeamBody, "the beam search as a tree", beam),
    "similar": Look(SimilarBody, "training lines with a similar state of the model", similar),
}
"""The looks by the last part of their paths."""


@functools.lru_cache(maxsize=4)
def _training_index(model: TextModel, state: StateKind) -> insight.TrainingIndex:
    """Returns the index of a state, which takes seconds to read again."""
    return insight.TrainingIndex(model, state=state, max_lines=_INDEXED_LINES)


def _output_ids(model: TextModel, body: InspectBody) -> list[int]:
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


def _parts(layer: LayerTrace) -> dict[str, np.ndarray]:
    """Returns what a layer computes, by name."""
    arrays = {part: getattr(layer, part, None) for part in _PARTS}
    return {part: array for part, array in arrays.items() if array is not None and array.size}


def _summary(values: np.ndarray) -> dict[str, list[float]]:
    """Returns mean, tenth and ninetieth percentile over the units, at each step."""
    low, high = np.percentile(values, (10, 90), axis=1)
    return {"mean": _rounded(values.mean(axis=1)), "low": _rounded(low), "high": _rounded(high)}


def _rounded(values: np.ndarray) -> Any:
    return np.round(values.astype(np.float64), 3).tolist()
