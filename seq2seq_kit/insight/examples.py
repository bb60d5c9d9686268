"""How well a model does on single lines, and on lines of each length; the best and the worst."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from seq2seq_kit.config import Config
from seq2seq_kit.data.texts import TextPairs
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.scorer import Scorer
from seq2seq_kit.insight.subject import texts_of
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Lines that are looked at, spread evenly over all of them: a few seconds of decoding.
_MOST_LINES = 200
_NUM_BUCKETS = 5
# Fewer lines of a length say nothing of it.
_LEAST_IN_BUCKET = 5


class Subject(NamedTuple):
    """A model with what reads and writes its texts."""

    model: EncoderDecoder | LanguageModel
    tokenizer: Tokenizer
    source_tokenizer: Tokenizer
    config: Config
    inputs: InputEncoder
    generator: Generator
    scorer: Scorer


@dataclass(frozen=True)
class Example:
    """A line with what the model made of it."""

    source: str
    """The input, or the prompt."""
    target: str
    """What the data have for it."""
    output: str
    """What the model writes."""
    quality: float
    """The chrF of the output, 0 to 100; of a language model, the nats per character of `target`."""
    row: int
    """Its place among the lines that were looked at."""


@dataclass(frozen=True)
class Bucket:
    """Lines of similar length."""

    shortest: int
    """The length of the shortest one, in characters of the input or, without one, of the text."""
    longest: int
    """The length of the longest one."""
    num_lines: int
    """How many there are."""
    quality: float
    """The chrF of their outputs together; of a language model, their nats per character."""


@dataclass(frozen=True)
class Examples:
    """Lines that were looked at."""

    samples: list[Example]
    """A few lines, spread evenly."""
    best: list[Example]
    """Those with the best quality, the best first."""
    worst: list[Example]
    """Those with the worst quality, the worst first."""
    buckets: list[Bucket]
    """Quality by length, the shortest lines first."""
    num_lines: int
    """How many lines were looked at."""
    scores_text: bool
    """Whether `quality` is a loss, lower being better; otherwise it is chrF."""


class Attention(NamedTuple):
    """Where a decoder looked while it wrote an output."""

    source_tokens: tuple[str, ...]
    output_tokens: tuple[str, ...]
    weights: np.ndarray
    """float32 `(output tokens, source tokens)`. Each row sums to 1."""


class Surprise(NamedTuple):
    """How little a language model expected each token of a text."""

    tokens: tuple[str, ...]
    nats: np.ndarray
    """float32 `(tokens,)`."""


def collect_examples(subject: Subject, texts: TextPairs, *, number: int = 3) -> Examples | None:
    """Returns what a model makes of lines of a data set; None if there are none.

    Args:
        subject: The model.
        texts: The lines.
        number: Samples, best and worst lines, each at most.
    """
    every = -(-len(texts.sources) // _MOST_LINES) or 1
    pairs = [
        pair
        for pair in zip(texts.sources[::every], texts.targets[::every], strict=True)
        if pair[1].strip()
    ]
    if not pairs:
        return None
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    scores_text = isinstance(subject.model, LanguageModel)
    evenly = _spread(len(pairs), number)
    if scores_text:
        losses, lengths = _losses(subject, sources, targets), [len(text) for text in targets]
        qualities = [loss / length for loss, length in zip(losses, lengths, strict=True)]
        outputs = dict(zip(evenly, _write(subject, [sources[row] for row in evenly]), strict=True))
    else:
        written = subject.generator.hypotheses(sources, truncate=True, sample=False, beam_size=1)
        outputs = {row: best.text for row, (best, *_) in enumerate(written)}
        chrf = CHRF()
        qualities = [
            chrf.sentence_score(outputs[row], [target]).score for row, target in enumerate(targets)
        ]
        lengths = [len(text) for text in sources]

    def example(row: int) -> Example:
        return Example(sources[row], targets[row], outputs.get(row, ""), qualities[row], row)

    def together(rows: Sequence[int]) -> float:
        if scores_text:
            return sum(losses[row] for row in rows) / sum(lengths[row] for row in rows)
        references = [[targets[row] for row in rows]]
        return CHRF().corpus_score([outputs[row] for row in rows], references).score

    order = sorted(range(len(pairs)), key=lambda row: qualities[row], reverse=not scores_text)
    return Examples(
        samples=[example(row) for row in evenly],
        best=[example(row) for row in order[:number]],
        worst=[example(row) for row in order[: -number - 1 : -1]],
        buckets=_buckets(lengths, together),
        num_lines=len(pairs),
        scores_text=scores_text,
    )


def attention_of(subject: Subject, example: Example) -> Attention | None:
    """Returns where the decoder looked for an output; None for a model without attention."""
    if not isinstance(subject.model, EncoderDecoder) or not example.source.strip():
        return None
    ((best, *_),) = subject.generator.hypotheses(
        [example.source], truncate=True, sample=False, beam_size=1
    )
    if not best.token_ids:
        return None
    encoder_ids = [*subject.inputs.encode_rows([example.source], truncate=True)[0], EOS_ID]
    input_ids = [BOS_ID, *best.token_ids[:-1]]
    weights = subject.model.attention_weights(np.array([encoder_ids]), np.array([input_ids]))
    if weights is None:
        return None
    return Attention(
        texts_of(subject.source_tokenizer, encoder_ids),
        texts_of(subject.tokenizer, best.token_ids),
        np.asarray(weights)[0],
    )


def surprise_of(subject: Subject, example: Example) -> Surprise:
    """Returns how little a language model expected each token of an example's text."""
    (source_ids,) = subject.inputs.encode_rows([example.source], truncate=True)
    (target_ids,) = subject.tokenizer.encode([example.target])
    log_probs = subject.scorer.token_log_probs(source_ids, target_ids)
    return Surprise(texts_of(subject.tokenizer, target_ids), -log_probs)


def _losses(subject: Subject, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
    """Returns the nats of each text after its prompt, without an end: prompts cut texts in two."""
    source_ids = subject.inputs.encode_rows(sources, truncate=True)
    scores = subject.scorer.score_ids(source_ids, subject.tokenizer.encode(targets))
    return [-score.log_prob for score in scores]


def _write(subject: Subject, prompts: Sequence[str]) -> list[str]:
    """Returns the continuations of prompts, as the config's `decoding` section says."""
    written: list[Hypothesis] = [
        best for best, *_ in subject.generator.hypotheses(prompts, truncate=True)
    ]
    return [best.text for best in written]


def _spread(length: int, number: int) -> list[int]:
    """Returns places spread evenly over a list."""
    return list(range(0, length, -(-length // number)))[:number]


def _buckets(lengths: Sequence[int], together: Callable[[Sequence[int]], float]) -> list[Bucket]:
    """Returns lines in groups of similar length, each of about as many lines."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    number = max(1, min(_NUM_BUCKETS, len(order) // _LEAST_IN_BUCKET))
    groups = [part.tolist() for part in np.array_split(np.array(order), number)]
    return [
        Bucket(lengths[rows[0]], lengths[rows[-1]], len(rows), together(rows)) for rows in groups
    ]
