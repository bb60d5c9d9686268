"""Whether one model is better than another: paired bootstrap resampling of the lines of a test set.

For scores of outputs this is sacrebleu's own test, with the same numbers as its command line.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric, Score
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.evaluation import reference_streams

# The tail that is left out on each side of an interval, in percent.
_TAIL = 2.5


@dataclass(frozen=True)
class Measured:
    """A score of one system, and how far chance may have made it."""

    score: float
    """The score of the whole test set."""
    mean: float
    """The mean over the resampled test sets."""
    interval: float
    """Half the width of the interval around the mean that holds 95 % of their scores."""
    p_value: float | None
    """How probable a difference from the baseline at least as large is if the two are equally good;
    None for the baseline itself."""


@dataclass(frozen=True)
class Comparison:
    """The scores of several systems on one test set, the baseline first."""

    scores: dict[str, list[Measured]]
    """For each metric the scores of the systems, in their order."""
    signatures: dict[str, str]
    """For each metric sacrebleu's account of how it was computed and tested."""


class ExactMatch(Metric):
    """The share of outputs that equal a reference, 0 to 100, for sacrebleu's tests."""

    def _preprocess_segment(self, sent: str) -> str:
        return sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": list(refs)}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        return [int(hypothesis in ref_kwargs["references"]), 1]

    def _aggregate_and_compute(self, stats: list[list[int]]) -> Score:
        return self._compute_score_from_stats(np.sum(stats, axis=0))

    def _compute_score_from_stats(self, stats: Any) -> Score:
        return Score("exact match", 100.0 * float(stats[0]) / float(stats[1]))


def compare_outputs(
    outputs: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str,
    samples: int,
    seed: int,
) -> Comparison:
    """Compares the outputs of systems by BLEU, chrF and exact match.

    Args:
        outputs: The outputs of each system for the same inputs, by its name; the first is the
            baseline.
        references: For each input its correct outputs, one or more.
        tokenize: sacrebleu's tokenizer for BLEU.
        samples: Resampled test sets.
        seed: The seed of the resampling, at least 1; sacrebleu's own default is 12345.

    Raises:
        InputError: If there are fewer than two systems, or numbers of lines differ.

    Reference: Koehn, 2004, https://aclanthology.org/W04-3250
    """
    _check_lines(outputs, len(references))
    metrics: dict[str, Metric] = {
        "BLEU": BLEU(tokenize=tokenize, force=True),
        "chrF": CHRF(),
        "exact match": ExactMatch(),
    }
    with _sacrebleu_seed(seed):
        test = PairedTest(
            list(outputs.items()),
            metrics,
            reference_streams(references),
            test_type="bs",
            n_samples=samples,
        )
    signatures, results = test()
    names = {"BLEU": "bleu", "chrF2": "chrf", "exact match": "exact_match"}
    return Comparison(
        {
            name: [
                Measured(
                    float(one.score),
                    float(one.mean),
                    float(one.ci),
                    # sacrebleu counts only differences larger than none, and finds equals unequal.
                    1.0 if one.p_value and one.score == first.score else one.p_value,
                )
                for first, *_ in [results[metric]]
                for one in results[metric]
            ]
            for metric, name in names.items()
        },
        {names[metric]: str(signatures[metric]) for metric in ("BLEU", "chrF2")},
    )


def compare_losses(
    nats: Mapping[str, Sequence[float]],
    num_characters: Sequence[int],
    *,
    samples: int,
    seed: int,
) -> Comparison:
    """Compares language models by their loss on the same lines, in nats per character.

    The test is that of `compare_outputs`: the same lines are drawn for both models. A loss per
    character does not depend on the vocabulary.

    Args:
        nats: The negative log-probability of each line, by the name of the model; the first is the
            baseline.
        num_characters: Characters of each line, its end included.
        samples: Resampled texts.
        seed: The seed of the resampling.

    Raises:
        InputError: If there are fewer than two models, or numbers of lines differ.
    """
    _check_lines(nats, len(num_characters))
    rng = np.random.default_rng(seed)
    losses = np.array(list(nats.values()), np.float64)
    characters = np.array(num_characters, np.float64)
    whole = losses.sum(axis=1) / characters.sum()
    resampled = np.empty((len(losses), samples))
    for sample in range(samples):
        lines = rng.integers(len(characters), size=len(characters))
        resampled[:, sample] = losses[:, lines].sum(axis=1) / characters[lines].sum()
    measured = []
    for place, (loss, drawn) in enumerate(zip(whole, resampled, strict=True)):
        low, high = np.percentile(drawn, [_TAIL, 100 - _TAIL])
        p_value = _p_value(drawn - resampled[0], loss - whole[0]) if place else None
        measured.append(Measured(float(loss), float(drawn.mean()), float(high - low) / 2, p_value))
    return Comparison({"loss_per_character": measured}, {})


def _p_value(differences: np.ndarray, difference: float) -> float:
    """Returns the p-value of a difference as sacrebleu computes it; 1 for a model and itself."""
    sizes = np.abs(differences)
    as_large = np.sum(sizes - sizes.mean() >= abs(difference))
    return float(as_large + 1) / (len(differences) + 1)


def _check_lines(systems: Mapping[str, Sequence[Any]], num_lines: int) -> None:
    if len(systems) < 2:
        raise InputError(f"Expected at least two systems to compare. Received: {len(systems)}.")
    if not num_lines:
        raise InputError("Expected at least one line to compare. Received: none.")
    for name, lines in systems.items():
        if len(lines) != num_lines:
            raise InputError(
                f"Expected {num_lines} lines of each system. Received: {len(lines)} of {name}."
            )


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Sets the seed of sacrebleu's tests, which it reads from the environment."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
