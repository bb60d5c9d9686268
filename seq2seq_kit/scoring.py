"""How likely a model finds given texts: log-probabilities, and the perplexities made of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.decoding.groups import GROUP_SIZES, LENGTH_STEP
from seq2seq_kit.errors import InputError
from seq2seq_kit.losses import cross_entropy
from seq2seq_kit.model import EncoderDecoder, LanguageModel
from seq2seq_kit.tokenizer import Tokenizer


@dataclass(frozen=True)
class Score:
    """How likely one text is."""

    log_prob: float
    """Summed over its tokens, EOS included, in nats."""
    num_tokens: int
    """Tokens of the text, EOS included."""


@dataclass(frozen=True)
class Perplexity:
    """How surprising texts are, a unit; lower is better.

    Each is `exp(-log_prob / units)`: those per word and character compare across vocabularies.
    """

    per_token: float
    """A token of the model's vocabulary, EOS included."""
    per_word: float
    """A whitespace-separated word; the end of a line counts as one."""
    per_character: float
    """A character; the end of a line counts as one."""


def perplexity(scores: Sequence[Score], texts: Sequence[str]) -> Perplexity:
    """Returns the perplexities of scored texts.

    Raises:
        InputError: If there is no text.
    """
    if not scores:
        raise InputError("Expected at least one line to score. Received: none.")
    nats = -sum(score.log_prob for score in scores)
    units = (
        sum(score.num_tokens for score in scores),
        sum(len(text.split()) + 1 for text in texts),
        sum(len(text) + 1 for text in texts),
    )
    # Beyond exp(700) a float has no room.
    return Perplexity(*(math.exp(min(nats / number, 700.0)) for number in units))


class Scorer:
    """Scores texts with a model and its tokenizers.

    A text's score is the same whatever texts stand beside it.

    Args:
        model: The network.
        source_tokenizer: Encodes sources, or prompts.
        target_tokenizer: Encodes the texts to score.
        ends_with: What follows a text: EOS, or the newline's token for a model of running text.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        *,
        ends_with: int,
    ) -> None:
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.ends_with = ends_with
        ids = tf.TensorSpec([None, None], tf.int32)
        weights = tf.TensorSpec([None, None], tf.float32)
        self._log_probs = tf.function(
            self._compute, input_signature=[ids, ids, weights], autograph=False
        )

    def score(
        self, sources: Sequence[str], targets: Sequence[str], *, batch_size: int = 64
    ) -> list[Score]:
        """Returns how likely each target is after its source.

        Args:
            sources: The inputs; for a language model the prompts, "" for none.
            targets: The texts to score, one for each source.
            batch_size: Texts scored together at most; the result does not depend on it.

        Raises:
            InputError: If the numbers of sources and targets differ.
        """
        if len(sources) != len(targets):
            raise InputError(
                f"Expected one target for each source. Received: {len(sources)} sources, "
                f"{len(targets)} targets."
            )
        source_ids = self.source_tokenizer.encode(sources)
        target_ids = self.target_tokenizer.encode(targets)
        return self.score_ids(
            source_ids, [[*row, self.ends_with] for row in target_ids], batch_size
        )

    def score_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        target_ids: Sequence[Sequence[int]],
        batch_size: int = 64,
    ) -> list[Score]:
        """Returns how likely each row of target ids, its end included, is after its source."""
        rows = [self._layout(*pair) for pair in zip(source_ids, target_ids, strict=True)]
        scores = np.zeros(len(rows))
        for members, shape in _groups(rows, min(batch_size, GROUP_SIZES[-1])):
            # The same row counts as in search_in_groups, for the same reason.
            size = min(size for size in GROUP_SIZES if size >= len(members))
            batch = _pad([rows[index] for index in members], size, shape)
            scores[members] = self._log_probs(**batch).numpy()[: len(members)]
        return [
            Score(float(log_prob), len(target))
            for log_prob, target in zip(scores, target_ids, strict=True)
        ]

    def _layout(self, source: Sequence[int], target: Sequence[int]) -> "_Row":
        if isinstance(self.model, LanguageModel):
            return _Row([Tokenizer.bos_id], [*source, *target], len(source))
        return _Row([*source, Tokenizer.eos_id], list(target), 0)

    def _compute(
        self, source_ids: tf.Tensor, target_ids: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        """Returns the log-probability of each row's weighted targets, float32 `(batch,)`."""
        bos = tf.fill([tf.shape(target_ids)[0], 1], Tokenizer.bos_id)
        decoder_input_ids = tf.concat([bos, target_ids[:, :-1]], axis=1)
        logits = self.model(
            {"source_ids": source_ids, "decoder_input_ids": decoder_input_ids}, training=False
        )
        nll = cross_entropy(logits, target_ids).negative_log_likelihood
        return -tf.reduce_sum(nll * weights, axis=1)


class _Row(NamedTuple):
    source: list[int]  # what the encoder reads; a language model ignores it
    target: list[int]  # what the decoder predicts
    unscored: int  # so many first targets are a prompt


def _groups(rows: Sequence[_Row], size: int) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Yields the rows of like padded lengths, at most `size` together, and those lengths."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, row in enumerate(rows):
        shape = (_round_up(len(row.source)), _round_up(len(row.target)))
        members.setdefault(shape, []).append(index)
    for shape, indices in members.items():
        for first in range(0, len(indices), size):
            yield indices[first : first + size], shape


def _round_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def _pad(rows: Sequence[_Row], size: int, shape: tuple[int, int]) -> dict[str, tf.Tensor]:
    """Returns the arguments of `Scorer._compute` for rows; missing ones are copies of the first."""
    source_ids = np.zeros((size, shape[0]), np.int32)
    target_ids = np.zeros((size, shape[1]), np.int32)
    weights = np.zeros((size, shape[1]), np.float32)
    for place, row in enumerate([*rows, *[rows[0]] * (size - len(rows))]):
        source_ids[place, : len(row.source)] = row.source
        target_ids[place, : len(row.target)] = row.target
        weights[place, row.unscored : len(row.target)] = 1.0
    return {
        "source_ids": tf.constant(source_ids),
        "target_ids": tf.constant(target_ids),
        "weights": tf.constant(weights),
    }
