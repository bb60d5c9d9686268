"""Chooses among the best outputs of a model by what other models say of them.

The score of an output `y` for an input `x` is

    (log p(y | x) + sum_i weight_i * log p_i) / ((5 + length) / 6) ** length_penalty

where `p_i` is `p(y | x)` of another model of the same direction, `p(x | y)` of a model of the
reverse direction, or `p(y)` of a language model. With all weights 0 the order is that of the beam.

References: Yee et al., 2019, https://aclanthology.org/D19-1571 (reverse direction and language
model); Och, 2003, https://aclanthology.org/P03-1021 (weights tuned on validation data).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from seq2seq_kit.config import Config
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.evaluation import compare_texts
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.scorer import Score
from seq2seq_kit.tokens.tokenizer import Tokenizer

Kind = Literal["forward", "reverse", "language_model"]

# Weights that are tried for each model, in turns. Only that of a better model is above 1.
_WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
_MAX_ROUNDS = 5


class TextModel(Protocol):
    """A `Seq2Seq`: what is needed of it here."""

    tokenizer: Tokenizer
    config: Config

    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text."""

    def score(self, sources: Iterable[str], targets: Iterable[str], **options: Any) -> list[Score]:
        """Returns how likely each target is after its source."""


@dataclass(frozen=True)
class Judge:
    """A model that judges outputs."""

    kind: Kind
    """What it scores: an output after its input, an input after the output, or an output alone."""
    model: TextModel

    def log_probs(self, sources: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
        """Returns the log-probability that it gives to each output, float64 `(outputs,)`.

        Args:
            sources: The input of each output.
            outputs: The outputs.
        """
        pairs = {
            "forward": (sources, outputs),
            "reverse": (outputs, sources),
            "language_model": ([""] * len(outputs), outputs),
        }[self.kind]
        return np.array([score.log_prob for score in self.model.score(*pairs, truncate=True)])


@dataclass(frozen=True)
class Candidates:
    """The outputs of one input, with what the models say of them."""

    texts: list[str]
    """The outputs, those of a beam from the best to the worst."""
    scores: np.ndarray
    """float64 `(outputs,)`. The score of the search."""
    judgements: np.ndarray
    """float64 `(outputs, judges)`. Log-probabilities, divided by the length penalty."""

    def best(self, weights: Sequence[float]) -> str:
        """Returns the output with the highest score; of equal ones the first."""
        return self.texts[int(np.argmax(self.scores + self.judgements @ np.array(weights)))]


def find_candidates(
    model: TextModel,
    judges: Sequence[Judge],
    sources: Sequence[str],
    *,
    first_line: int = 1,
    **options: Any,
) -> list[Candidates]:
    """Returns the outputs of a beam for each input, with the judgements of all models.

    Args:
        model: The model.
        judges: The models that judge its outputs.
        sources: The inputs.
        first_line: The line number of the first one, for messages.
        **options: Fields of `DecodingConfig` to use in place of the config's.

    Raises:
        InputError: If a model does not fit its kind, an option is wrong, the search keeps no beam,
            or an input is over-long for the model. A judge truncates what is over-long for it.
    """
    decoding = model.config.decoding.override(**options)
    if decoding.sample or decoding.beam_size == 1:
        raise InputError(
            "Reranking chooses among the outputs of a beam. Enlarge `beam_size` (--beam-size) and "
            "do not sample."
        )
    _check_kinds(judges)
    number = decoding.beam_size
    found = list(model.hypotheses(sources, num_hypotheses=number, first_line=first_line, **options))
    flat = [hypothesis for hypotheses in found for hypothesis in hypotheses]
    repeated = [text for text, row in zip(sources, found, strict=True) for _ in row]
    outputs = [hypothesis.text for hypothesis in flat]
    lengths = np.array([len(one.token_ids) + one.is_cut for one in flat])
    penalties = ((5.0 + lengths) / 6.0) ** decoding.length_penalty
    columns = [judge.log_probs(repeated, outputs) / penalties for judge in judges]
    judgements = np.stack(columns, axis=1) if columns else np.zeros((len(flat), 0))
    ends = np.cumsum(list(map(len, found)))
    return [
        Candidates(
            [one.text for one in row],
            np.array([one.score for one in row]),
            judgements[end - len(row) : end],
        )
        for row, end in zip(found, ends, strict=True)
    ]


def _check_kinds(judges: Sequence[Judge]) -> None:
    """Raises InputError if a model translates where it should continue, or the other way round."""
    for judge in judges:
        task = "continuation" if judge.kind == "language_model" else "translation"
        if judge.model.config.task != task:
            raise InputError(
                f"A model that judges as {judge.kind.replace('_', ' ')} must be one for {task}. "
                f"Received one for {judge.model.config.task}."
            )


def tune_weights(
    candidates: Sequence[Candidates], quality: Callable[[list[str]], float]
) -> list[float]:
    """Returns the weights with which the best outputs have the highest quality.

    Tries a list of weights for one model after the other, starting from 0, until no change of a
    single weight helps.

    Args:
        candidates: Of validation data.
        quality: Returns the quality of an output for each input, such as BLEU; higher is better.
    """
    number = candidates[0].judgements.shape[1]
    weights = [0.0] * number

    def measured(tried: Sequence[float]) -> float:
        return quality([one.best(tried) for one in candidates])

    best = measured(weights)
    for _ in range(_MAX_ROUNDS):
        before = best
        for place in range(number):
            for weight in _WEIGHTS:
                tried = [*weights[:place], weight, *weights[place + 1 :]]
                if tried != weights and (found := measured(tried)) > best:
                    best, weights = found, tried
        if best == before:
            break
    return weights


def bleu_against(
    references: Sequence[Sequence[str]], model: TextModel
) -> Callable[[list[str]], float]:
    """Returns the function that measures the BLEU of outputs, spelled as `Seq2Seq.evaluate` does.

    Args:
        references: The correct outputs of each input.
        model: The model whose outputs they are.
    """
    normalize = model.tokenizer.normalize
    normalized = [list(map(normalize, one)) for one in references]
    tokenize = model.config.data.bleu_tokenize

    def bleu(outputs: list[str]) -> float:
        return compare_texts(list(map(normalize, outputs)), normalized, tokenize=tokenize).bleu

    return bleu
