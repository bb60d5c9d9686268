"""Texts that are Python objects rather than files: pairs, records, tables, single texts.

They are written to the cache folder, under a name made from their contents, so that a fit reads
and resumes from them as from any file.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.data.cache import cache_folder
from seq2seq_kit.digests import digest
from seq2seq_kit.errors import InputError, shorten

_SIDES = ("source", "target")
_ACCEPTED = (
    "pairs of strings, records such as {'source': ..., 'target': ...}, a table with these columns, "
    "or for continuation strings"
)


def overrides_for(**texts: Any) -> list[str]:
    """Returns the overrides by which a config names texts that are given as Python objects.

    Args:
        **texts: `train`, `validation` and `test`, each None or an iterable of

            - pairs of strings, source and target;
            - records, that is mappings, with the keys `source` and `target` or two keys in all; the
              values of a single key, such as `translation`, may be such a record;
            - strings, each a text for continuation without line breaks;

            or a pandas `DataFrame` with such columns, or a Hugging Face `Dataset` of such records.

    Raises:
        InputError: If an item is something else, or there is none. The message gives its index.
        RunError: If the cache folder cannot be written to.
    """
    return [
        f"data.{name}={json.dumps(_write(name, given))}"
        for name, given in texts.items()
        if given is not None
    ]


def _write(name: str, given: Any) -> dict[str, str]:
    """Writes texts to the cache folder; returns the corpus that names the file."""
    items = list(_items(name, given))
    if not items:
        raise InputError(f"`{name}`: expected at least one text. Received: none.")
    is_text = isinstance(items[0], str)
    as_line = _as_text if is_text else _as_pair
    lines = [as_line(name, index, item) for index, item in enumerate(items)]
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    key = "lines" if is_text else "jsonl"
    path = cache_folder() / f"{digest(data)}.{key}"
    if not path.is_file():
        write_bytes(path, data, "the texts", private=True, setting="S2S_CACHE_DIR")
    return {key: str(path)}


def _items(name: str, given: Any) -> Iterator[Any]:
    to_dict: Callable[..., Any] | None = getattr(given, "to_dict", None)
    if to_dict is not None and hasattr(given, "columns"):  # A DataFrame iterates over its columns.
        yield from to_dict("records")
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        yield from given
    else:
        raise InputError(
            f"`{name}`: expected {_ACCEPTED}. Received: {type(given).__name__}. A file is named in "
            f"the config: `data.{name}`."
        )


def _as_text(name: str, index: int, item: Any) -> str:
    if not isinstance(item, str):
        raise _wrong_item(name, index, item, "a string like the first one")
    if "\n" in item:
        raise InputError(
            f"`{name}[{index}]`: expected a text without line breaks. Received: "
            f"{shorten(repr(item))}. Write texts of several lines to a file, and name it in the "
            f"config: `data.{name}: {{text: FILE, separator: blank_line}}`."
        )
    return item


def _as_pair(name: str, index: int, item: Any) -> str:
    sides: Sequence[Any] = ()
    if isinstance(item, Mapping):
        record = item
        if len(record) == 1 and isinstance(inner := next(iter(record.values())), Mapping):
            record = inner
        if set(_SIDES) <= set(record):
            sides = [record[side] for side in _SIDES]
        elif len(record) == len(_SIDES):
            sides = list(record.values())
    elif isinstance(item, Sequence) and not isinstance(item, str | bytes):
        sides = item
    if len(sides) != len(_SIDES) or not all(isinstance(side, str) for side in sides):
        raise _wrong_item(name, index, item, "a source and a target, both strings")
    return json.dumps(list(sides), ensure_ascii=False)


def _wrong_item(name: str, index: int, item: Any, expected: str) -> InputError:
    return InputError(
        f"`{name}[{index}]`: expected {expected}. Received: {shorten(repr(item))}. Texts are "
        f"{_ACCEPTED}."
    )
