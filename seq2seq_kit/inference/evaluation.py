"""How good generated texts are: BLEU, chrF and exact match against references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from seq2seq_kit.config import DataConfig
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.tokens.tokenizer import Tokenizer

_TOKENIZERS = get_args(DataConfig.model_fields["bleu_tokenize"].annotation)


@dataclass(frozen=True)
class TextScores:
    """Scores of outputs against references, over the whole set."""

    bleu: float
    """Corpus BLEU, 0 to 100."""
    chrf: float
    """Corpus chrF, 0 to 100."""
    exact_match: float
    """Share of the outputs that equal a reference, 0 to 100."""
    num_lines: int
    """Outputs compared."""
    bleu_signature: str
    """sacrebleu's account of how BLEU was computed."""
    chrf_signature: str
    """sacrebleu's account of how chrF was computed."""
    cut_outputs: int = 0
    """Outputs that `decoding.max_length` cut, where they are known; of continuations, none counts:
    there the limit is a usual end."""


def compare_texts(
    outputs: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: str = "13a"
) -> TextScores:
    """Compares outputs with one or more references each.

    Args:
        outputs: The generated texts.
        references: For each output its right answers, one or more.
        tokenize: sacrebleu's tokenizer for BLEU: "13a", "zh", "char", "none" and so on.

    Raises:
        InputError: If there is no output, a number of references that does not fit, or the
            tokenizer is unknown.
    """
    if any(isinstance(line, str) for line in references):
        # A text is a sequence too: each of its characters would count as a reference.
        raise InputError(
            "Expected for each output a list of references. Received a text: with one reference "
            "each, pass [[reference] for reference in references]."
        )
    if not outputs or len(outputs) != len(references) or not all(references):
        raise InputError(
            f"Expected at least one output and for each at least one reference. Received: "
            f"{len(outputs)} outputs, {len(references)} lines of references."
        )
    if tokenize not in _TOKENIZERS:
        raise InputError(
            f"`tokenize` must be one of {', '.join(_TOKENIZERS)}. Received: {shorten(tokenize)}."
        )
    streams = reference_streams(references)
    # `force` keeps sacrebleu from warning of text that is tokenised already, as here it may be.
    bleu, chrf = BLEU(tokenize=tokenize, force=True), CHRF()
    matches = sum(output in line for output, line in zip(outputs, references, strict=True))
    return TextScores(
        bleu=bleu.corpus_score(outputs, streams).score,
        chrf=chrf.corpus_score(outputs, streams).score,
        exact_match=100.0 * matches / len(outputs),
        num_lines=len(outputs),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[Any]]:
    """Returns references as sacrebleu expects them: one list for each, None where a line lacks it.

    Example:

    >>> reference_streams([["a", "b"], ["c"]])
    [['a', 'c'], ['b', None]]
    """
    most = max(map(len, references))
    return [
        [line[place] if place < len(line) else None for line in references] for place in range(most)
    ]


def compare_hypotheses(
    outputs: Sequence[Hypothesis],
    references: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    *,
    tokenize: str,
    counts_cut: bool,
) -> TextScores:
    """Compares outputs with references in one spelling, that of `Tokenizer.normalize`.

    A model cannot write what normalization drops.

    Args:
        outputs: The best hypothesis of each input.
        references: As in `compare_texts`.
        tokenizer: The tokenizer of the outputs.
        tokenize: As in `compare_texts`.
        counts_cut: Whether outputs that the limit cut are counted, as those of translations are.

    Raises:
        InputError: As `compare_texts` does.
    """
    normalize = tokenizer.normalize
    scores = compare_texts(
        [normalize(output.text) for output in outputs],
        # `compare_texts` refuses a text in place of a list of references.
        [one if isinstance(one, str) else list(map(normalize, one)) for one in references],
        tokenize=tokenize,
    )
    return replace(scores, cut_outputs=sum(output.is_cut and counts_cut for output in outputs))
