"""Values laid out for people."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class _Label(NamedTuple):
    """How a result is shown."""

    name: str
    layout: str
    """A format string for the value, with its unit."""


_LABELS = {
    "ended": _Label("end of training", "{}"),
    "steps": _Label("steps", "{:,}"),
    "minutes": _Label("training time", "{:.1f} minutes"),
    "divergences": _Label("divergences", "{:,}"),
    "best_step": _Label("best weights", "step {:,.0f}"),
    "loss": _Label("loss", "{:.4g} nats per token"),
    "perplexity": _Label("perplexity", "{:.4g} per token"),
    "guessing_perplexity": _Label("perplexity of guessing by frequency", "{:.4g} per token"),
    "perplexity_per_token": _Label("perplexity per token", "{:.4g}"),
    "perplexity_per_word": _Label("perplexity per word", "{:.4g}"),
    "perplexity_per_character": _Label("perplexity per character", "{:.4g}"),
    "bleu": _Label("BLEU", "{:.2f}"),
    "chrf": _Label("chrF", "{:.2f}"),
    "exact_match": _Label("exact match", "{:.2f} %"),
    "num_lines": _Label("lines", "{:,}"),
    "bleu_signature": _Label("BLEU signature", "{}"),
    "chrf_signature": _Label("chrF signature", "{}"),
    "cut_outputs": _Label("outputs cut at the length limit", "{:,}"),
    "empty_outputs": _Label("empty outputs", "{:,}"),
    "copied_inputs": _Label("outputs equal to their input", "{:,}"),
    "copied_inputs_in_references": _Label("references equal to their input", "{:,}"),
    "words_per_reference": _Label("words per reference", "{:.4g}"),
}

# Whether spaces part the words: a number for the advice that `s2s fit` gives.
_HIDDEN = ("references_without_spaces",)


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
    rows = {}
    for key, value in results.items():
        place, _, name = key.partition("_")
        if place not in ("test", "validation"):
            place, name = "", key
        if value is None or name in _HIDDEN:
            continue
        label = _LABELS.get(name, _Label(name, "{}"))
        rows[f"{place} {label.name}".strip()] = label.layout.format(value)
    return table(rows)


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
    return f"{place} {_LABELS[name].name}" if name in _LABELS else key.replace("_", " ")


def _width(text: str) -> int:
    """Returns the columns of a terminal that a text fills: Chinese characters fill two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def format_value(value: Any) -> str:
    """Returns a value as text, a float with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
