"""Names and units of results, for people."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Label(NamedTuple):
    """How a result is shown."""

    name: str
    layout: str
    """A format string for the value, with its unit."""


LABELS = {
    "ended": Label("end of training", "{}"),
    "steps": Label("steps", "{:,}"),
    "minutes": Label("training time", "{:.1f} minutes"),
    "divergences": Label("divergences", "{:,}"),
    "best_step": Label("best weights", "step {:,.0f}"),
    "loss": Label("loss", "{:.4g} nats per token"),
    "perplexity": Label("perplexity", "{:.4g} per token"),
    "guessing_perplexity": Label("perplexity of guessing by frequency", "{:.4g} per token"),
    "perplexity_per_token": Label("perplexity per token", "{:.4g}"),
    "perplexity_per_word": Label("perplexity per word", "{:.4g}"),
    "perplexity_per_character": Label("perplexity per character", "{:.4g}"),
    "bleu": Label("BLEU", "{:.2f}"),
    "chrf": Label("chrF", "{:.2f}"),
    "exact_match": Label("exact match", "{:.2f} %"),
    "num_lines": Label("lines", "{:,}"),
    "bleu_signature": Label("BLEU signature", "{}"),
    "chrf_signature": Label("chrF signature", "{}"),
    "cut_outputs": Label("outputs cut at the length limit", "{:,}"),
    "empty_outputs": Label("empty outputs", "{:,}"),
    "copied_inputs": Label("outputs equal to their input", "{:,}"),
    "copied_inputs_in_references": Label("references equal to their input", "{:,}"),
    "words_per_reference": Label("words per reference", "{:.4g}"),
}

# Whether spaces part the words: a number for the advice that `s2s fit` gives.
_HIDDEN = ("references_without_spaces",)


def labeled_results(results: Mapping[str, Any]) -> dict[str, str]:
    """Returns each result with its unit, by a name for people.

    A result that there is none of, such as the perplexity per word of Chinese, is left out.

    Args:
        results: As `results.json` or `s2s evaluate --json` name them.
    """
    rows = {}
    for key, value in results.items():
        place, _, name = key.partition("_")
        if place not in ("test", "validation"):
            place, name = "", key
        if value is None or name in _HIDDEN:
            continue
        label = LABELS.get(name, Label(name, "{}"))
        rows[f"{place} {label.name}".strip()] = label.layout.format(value)
    return rows
