"""Faults of a config in the user's words: one line a key instead of pydantic's errors.

Knows nothing of the meaning of the keys; their names come from the model that was checked.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from seq2seq_kit.errors import shorten


class Fault(NamedTuple):
    """One thing that is wrong with a config."""

    key: str
    """The dotted key, such as `data.train.0.tsv`."""
    message: str
    """What was expected, what was received, and how to fix it."""


class ContradictionError(ValueError):
    """Keys of one section that are valid alone but not together.

    A pydantic validator can raise one error only; this one carries several.

    Args:
        faults: Keys, seen from the section (empty: the section itself), each with its message.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in faults.items()))
        self.faults = dict(faults)


# By pydantic's error types; what is not here keeps pydantic's own words.
_MESSAGES = {
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be one of {expected}",
    "model_type": "must be a section with keys",
    "path_type": "must be the path of a file or folder",
    "string_too_short": "must not be empty",
    "string_type": "must be a text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "string_unicode": "must be UTF-8",
    "value_error": "{error}",
}

_REQUIRED = "is required."

# Faults that are shown; the others are counted.
_MAX_SHOWN = 20


def explain(error: ValidationError, values: Any, model: type[BaseModel]) -> list[Fault]:
    """Returns what pydantic found, each fault under its dotted key.

    Beyond those that `list_faults` shows, the faults are short.

    Args:
        error: What checking `values` against `model` raised.
        values: The config as it was given.
        model: The model of the whole config.
    """
    faults, meant = [], set()
    for detail in error.errors():
        key = _dotted_key(detail["loc"], values)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ContradictionError):
            faults += [Fault(_join(key, inner), text) for inner, text in cause.faults.items()]
        elif len(faults) >= _MAX_SHOWN:
            faults.append(Fault(key, detail["msg"]))
        elif detail["type"] == "extra_forbidden":
            faults.append(Fault(key, f"is an unknown key. {suggest_key(key, model)}"))
            meant.add(_closest_key(key, model))
        elif detail["type"] == "missing":
            faults.append(Fault(key, _REQUIRED))
        else:
            template = _MESSAGES.get(detail["type"], detail["msg"])
            message = template.format(**detail.get("ctx", {}))
            if detail["input"] is None:  # In YAML, nothing behind the colon.
                faults.append(Fault(key, f"{message}, but has no value."))
            else:
                faults.append(Fault(key, f"{message}. Received: {shorten(detail['input'])}."))
    # A key that was misspelled is missing too, which is one fault.
    return [
        fault
        for fault in faults
        if fault.message != _REQUIRED or _without_numbers(fault.key) not in meant
    ]


def list_faults(name: str, faults: Sequence[Fault]) -> str:
    """Returns one message: a line for a single fault, else a line each below a heading."""
    lines = [f"{_show_key(fault.key)}: {fault.message}" for fault in faults[:_MAX_SHOWN]]
    if len(faults) == 1:
        return f"{name}: {lines[0]}"
    if len(faults) > _MAX_SHOWN:
        lines.append(f"... and {len(faults) - _MAX_SHOWN:,} more")
    return "\n  ".join([f"{name}: {len(faults):,} faults:", *lines])


def _show_key(key: str) -> str:
    """Returns a key as it is, unless it would break the line or fill the screen."""
    return key if key.isprintable() and len(key) <= 200 else shorten(key, 200)


def _join(*keys: str) -> str:
    return ".".join(key for key in keys if key)


def _dotted_key(location: Sequence[int | str], values: Any) -> str:
    """The key as the user wrote it: a corpus without a list around it has no number."""
    parts = []
    for part in location:
        if isinstance(part, int) and not isinstance(values, list | tuple):
            continue
        parts.append(str(part))
        try:
            values = values[part]
        except (IndexError, KeyError, TypeError):
            values = None
    return _join(*parts)


def suggest_key(key: str, model: type[BaseModel]) -> str:
    """Returns what an unknown key may have been meant to be, here or in another section."""
    section = _without_numbers(key).rpartition(".")[0]
    if closest := _closest_key(key, model):
        parent, _, name = closest.rpartition(".")
        return f"Did you mean `{name if parent == section else closest}`?"
    siblings = [known.rpartition(".") for known in _known_keys(model)]
    return f"Known here: {', '.join(name for parent, _, name in siblings if parent == section)}."


def _closest_key(key: str, model: type[BaseModel]) -> str | None:
    """Returns the known dotted key that is most like an unknown one, in its own section first."""
    section, _, name = _without_numbers(key).rpartition(".")
    known_keys = [known.rpartition(".") for known in _known_keys(model)]
    siblings = [known for parent, _, known in known_keys if parent == section]
    if close := difflib.get_close_matches(name, siblings, n=1):
        return _join(section, close[0])
    if close := difflib.get_close_matches(name, [known for *_, known in known_keys], n=1):
        return next(_join(parent, known) for parent, _, known in known_keys if known == close[0])
    return None


def _without_numbers(key: str) -> str:
    """Returns a dotted key without the numbers of list entries, as `_known_keys` has it."""
    return _join(*(part for part in key.split(".") if not part.isdecimal()))


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key below `model`; an entry of a list has no number in it."""
    for name, field in model.model_fields.items():
        key = _join(prefix, name)
        yield key
        for section in _sections_in(field.annotation):
            yield from _known_keys(section, key)


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation such as `tuple[CorpusConfig, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _sections_in(argument)
