"""Values laid out for people."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq_kit.training.labels import LABELS, labeled_results


def results_table(results: Mapping[str, Any]) -> str:
    """Returns the results of training or an evaluation, one a line, with names and units.

    A result that there is none of, such as the perplexity per word of Chinese, is left out.

    Args:
        results: As `results.json` or `s2s evaluate --json` name them.

    Example:

    >>> print(results_table({"test_bleu": 38.8123, "test_exact_match": 17.0, "steps": 2002}))
    test BLEU         38.81
    test exact match  17.00 %
    steps             2,002
    """
    return table(labeled_results(results))


def table(values: Mapping[str, Any]) -> str:
    """Returns one value a line, in two columns.

    Example:

    >>> print(table({"parameters": 129536, "bfloat16 on this processor": "fast"}))
    parameters                  129536
    bfloat16 on this processor  fast
    """
    width = max(map(len, values))
    return "\n".join(f"{name:<{width}}  {format_value(value)}" for name, value in values.items())


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as lines with aligned columns, numbers on the right.

    Example:

    >>> print(columns([["run", "BLEU"], ["runs/first", "9.25"], ["runs/2", "31.00"]]))
    run          BLEU
    runs/first   9.25
    runs/2      31.00
    """
    parts = list(zip(*rows, strict=True))
    widths = [max(map(_width, part)) for part in parts]
    is_number = [all(cell[:1].isdigit() or cell == "-" for cell in part[1:]) for part in parts]
    lines = []
    for row in rows:
        cells = []
        for cell, width, right in zip(row, widths, is_number, strict=True):
            padding = " " * (width - _width(cell))
            cells.append(padding + cell if right else cell + padding)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def short_label(key: str) -> str:
    """Returns the heading for a result in a table with a row for each run.

    Example:

    >>> short_label("validation_bleu"), short_label("minutes")
    ('validation BLEU', 'minutes')
    """
    place, _, name = key.partition("_")
    if place not in ("test", "validation"):
        return key.replace("_", " ")
    return f"{place} {LABELS[name].name}" if name in LABELS else key.replace("_", " ")


def _width(text: str) -> int:
    """Returns the columns of a terminal that a text fills: Chinese characters fill two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def format_value(value: Any) -> str:
    """Returns a value as text, a float with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
