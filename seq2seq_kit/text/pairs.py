"""Training pairs as lines of a TSV or JSONL, in the form in which a corpus is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit.errors import InputError


class TextPair(NamedTuple):
    """A pair to learn from."""

    source: str
    target: str


def pair_layout(path: Path) -> Callable[[TextPair], str | None]:
    r"""Returns what writes a pair as a line of a file, or gives None if the file cannot hold it.

    Args:
        path: A `.jsonl`, whose objects have `source` and `target`; any other file is a TSV. Both
            may end with `.gz`.

    Raises:
        InputError: If the name is that of a CSV.

    Example:

    >>> pair_layout(Path("pairs.tsv"))(TextPair("Hallo!", "Hello!"))
    'Hallo!\tHello!\n'
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".csv":
        raise InputError(f"Pairs are written as a .tsv or a .jsonl. Received: {path}.")
    return _as_object if suffix in (".jsonl", ".ndjson") else _as_row


def _as_object(pair: TextPair) -> str | None:
    return json.dumps(pair._asdict(), ensure_ascii=False) + "\n"


def _as_row(pair: TextPair) -> str | None:
    if any(character in text for text in pair for character in "\t\n\r"):
        return None
    return "\t".join(pair) + "\n"
