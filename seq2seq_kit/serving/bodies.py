"""The bodies of `POST /generate`, checked: JSON to texts and options.

The options of the search are the fields of `DecodingConfig`, which checks them itself. Knows
nothing of HTTP.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from seq2seq_kit import bounds
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.config.section import Section, Switch
from seq2seq_kit.errors import InputError, shorten, suggest

MAX_BODY_BYTES = 2**20
"""Size of the body of a request."""

MAX_BANNED_TEXTS = 100
"""Texts that a request may ban: each is a part of the graph that is traced for them."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for at most."""

    texts: int = 64
    """Inputs of a request."""
    characters: int = 10_000
    """Characters of an input."""
    max_length: int = 1_000
    """Tokens of an output."""
    beam_size: int = 16
    """Hypotheses of a text, kept or returned."""
    seconds: float = 60.0
    """Time from the request to its answer."""


class GenerateBody(Section):
    """What a request says beside the options of the search."""

    model: str | None = None
    """The name of the model; may be left out where the server has only one."""
    texts: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """The inputs: lines to translate, or prompts to continue. A stream has exactly one."""
    num_hypotheses: Annotated[int, Field(ge=1, le=bounds.MAX_BEAM_SIZE, strict=True)] = 1
    """Hypotheses of each text: samples, or the best of the beam, at most `beam_size`."""
    prefixes: tuple[str, ...] = ()
    """A text for each input with which its output must begin; "" forces nothing."""
    truncate: Switch = False
    """Cut inputs that have too many tokens instead of refusing them."""
    alignments: Switch = False
    """Align the words of each hypothesis with those of its text, by the attention of the model.
    Translation only."""
    stream: Switch = False
    """Send the best output piece by piece, as server-sent events. What was sent is never taken
    back."""


def parse_json(body: bytes) -> dict[str, Any]:
    """Returns the object in a body.

    Raises:
        InputError: If it holds something else.
    """
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()  # JSON can spell half of a surrogate pair.
    except (ValueError, RecursionError) as error:
        raise InputError(f"The body must be a JSON object in UTF-8: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"The body must be a JSON object. Received: {shorten(value)}.")
    return value


def parse_body(values: Mapping[str, Any], limits: Limits) -> tuple[GenerateBody, dict[str, Any]]:
    """Returns a checked body, and the options of the search that are in it, not checked yet.

    Raises:
        InputError: If a value is not allowed, or more than the limits allow.
    """
    names = [*GenerateBody.model_fields, *DecodingConfig.model_fields]
    for name in values:
        if name not in names:
            raise InputError(f"`{name}` is an unknown option. {suggest(name, names)}")
    own = {name: values[name] for name in GenerateBody.model_fields if name in values}
    given = {name: value for name, value in values.items() if name not in own}
    checked = GenerateBody().check_values({"texts": own.get("texts"), **own})
    body = GenerateBody.model_construct(**checked)
    check_texts(body.texts, limits)
    check_limits({**given, "num_hypotheses": body.num_hypotheses}, limits)
    if body.prefixes and len(body.prefixes) != len(body.texts):
        raise InputError(
            f"`prefixes` must be one text for each of the {len(body.texts)} inputs. Received: "
            f"{len(body.prefixes)}."
        )
    is_more = len(body.texts) > 1 or body.num_hypotheses > 1 or body.alignments
    if body.stream and is_more:
        raise InputError(
            "`stream` sends the best output of one text, without `alignments`. Leave `stream` out, "
            "or send one text."
        )
    return body, given


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Raises InputError if there are too many texts, or one is too long."""
    if len(texts) > limits.texts:
        raise InputError(
            f"A request may have at most {limits.texts:,} texts on this server. Received: "
            f"{len(texts):,}. Send several requests."
        )
    for number, text in enumerate(texts, start=1):
        if len(text) > limits.characters:
            raise InputError(
                f"A text may have at most {limits.characters:,} characters on this server. Text "
                f"{number} has {len(text):,}. Split it."
            )


def check_limits(given: Mapping[str, Any], limits: Limits) -> None:
    """Raises InputError if an option asks for more than this server allows."""
    for name, most in {
        "max_length": limits.max_length,
        "beam_size": limits.beam_size,
        "num_hypotheses": limits.beam_size,
        "num_samples": limits.beam_size,
    }.items():
        value = given.get(name)
        if isinstance(value, int) and value > most:
            raise InputError(
                f"`{name}` must be at most {most:,} on this server. Received: {shorten(value)}."
            )
    banned = given.get("banned_texts")
    if isinstance(banned, list) and len(banned) > MAX_BANNED_TEXTS:
        raise InputError(
            f"`banned_texts` may have at most {MAX_BANNED_TEXTS} texts on this server. Received: "
            f"{len(banned)}."
        )
