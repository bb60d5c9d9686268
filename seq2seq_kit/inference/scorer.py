"""How likely a model finds given texts: log-probabilities, and the perplexities made of them."""

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit import bounds
from seq2seq_kit.config import AdaptationConfig
from seq2seq_kit.decoding.groups import LENGTH_STEP, group_sizes
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.adaptation import AdaptiveReader, restored_weights
from seq2seq_kit.inference.inputs import InputEncoder, as_texts
from seq2seq_kit.inference.parallel import map_ahead, num_threads
from seq2seq_kit.inference.reading import TextReader
from seq2seq_kit.model.ensemble import Network
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID
from seq2seq_kit.text.statistics import measure_texts
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.losses import cross_entropy

# Numbers in the largest tensors of a batch at most: 1 GB. Computing takes a few times as much.
_MAX_NUMBERS = 2**28


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
    per_word: float | None
    """A whitespace-separated word; the end of a line counts as one. None where no spaces part the
    words (`TextStatistics.is_unspaced`): in Chinese, Japanese, Thai and the like, unless they are
    segmented."""
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
    per_token, per_word, per_character = (math.exp(min(nats / number, 700.0)) for number in units)
    has_words = not measure_texts(texts).is_unspaced
    return Perplexity(per_token, per_word if has_words else None, per_character)


class _Row(NamedTuple):
    source: list[int]  # what the encoder reads; a language model ignores it
    target: list[int]  # what the decoder predicts
    num_prompt: int  # the first targets, which are a prompt and not scored


class _Shape(NamedTuple):
    """Padded lengths."""

    source: int
    target: int


class Scorer:
    """Scores texts with a model and its tokenizers.

    The score of a text after its source is the same whatever texts are scored with it.

    Args:
        model: The network.
        inputs: Encodes sources, or prompts.
        tokenizer: Encodes the texts to score.
        ends_with: What follows a text: EOS, or the newline's token for a model of running text.
        reads_running_text: Whether the model has learned running text.
        has_separator: Whether blank lines separate its texts.
    """

    def __init__(
        self,
        model: Network,
        inputs: InputEncoder,
        tokenizer: Tokenizer,
        *,
        ends_with: int,
        reads_running_text: bool = False,
        has_separator: bool = False,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.tokenizer = tokenizer
        self.ends_with = ends_with
        self.reads_running_text = reads_running_text
        self.has_separator = has_separator
        self._reader = TextReader(model) if isinstance(model, LanguageModel) else None
        ids = tf.TensorSpec([None, None], tf.int32)
        self._sizes = group_sizes(model.gate_width)
        self._function = tf.function(self._compute, input_signature=[ids, ids], autograph=False)

    def score(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        *,
        batch_size: int = 64,
        threads: int = 0,
        truncate: bool = False,
    ) -> list[Score]:
        """Returns how likely each target is after its source.

        Args:
            sources: The inputs; for a language model the prompts, "" for none. An empty input
                is the model's to score, though `generate` answers it without asking the model.
            targets: The texts to score, one for each source.
            batch_size: Texts scored together at most; the result does not depend on it.
            threads: As in `DecodingConfig`.
            truncate: Cut over-long sources instead of refusing them; a target never is cut.

        Raises:
            InputError: If the numbers of sources and targets differ, a source is over-long, a
                target is longer than memory allows, or a number is out of range.
        """
        check_not_forked()
        if (
            not isinstance(batch_size, numbers.Integral)
            or not 1 <= batch_size <= bounds.MAX_BATCH_SIZE
        ):
            raise InputError(
                f"`batch_size` must be a whole number from 1 to {bounds.MAX_BATCH_SIZE}. Received: "
                f"{shorten(batch_size)}."
            )
        sources, targets = as_texts(sources), as_texts(targets)
        if len(sources) != len(targets):
            raise InputError(
                f"Expected one target for each source. Received: {len(sources)} sources, "
                f"{len(targets)} targets."
            )
        source_ids = self.inputs.encode_rows(sources, truncate=truncate)
        target_ids = self.tokenizer.encode(targets)
        ends = [[*row, self.ends_with] for row in target_ids]
        return self.score_ids(source_ids, ends, batch_size=batch_size, threads=threads)

    def score_text(
        self, lines: Iterable[str], adaptation: AdaptationConfig | None = None
    ) -> list[Score]:
        """Returns how likely each line of running text is after all lines before it.

        A line ends with its newline, and a text with EOS, which belongs to its last line. Where
        blank lines separated the texts that the model has learned, they do so here: such a line has
        no tokens, and the line after it has nothing before it. Otherwise all lines are one text.

        Args:
            lines: The lines, without newlines.
            adaptation: How the model adapts to the lines while it reads them; None for not at all.
                Its weights are then as they were.

        Returns:
            A score for each line.

        Raises:
            InputError: If the model is no language model of running text, or there is no line.
        """
        rows, texts = self._texts_of(lines)
        if adaptation is None:
            losses = self._language_reader().read_texts(texts)
        else:
            with restored_weights(self.model):
                losses = self._adaptive_reader(adaptation).read_texts(texts)
        parts = np.split(np.concatenate(losses), np.cumsum(list(map(len, rows)))[:-1])
        return [Score(-float(part.sum(dtype=np.float64)), len(part)) for part in parts]

    def adapt(self, lines: Iterable[str], adaptation: AdaptationConfig) -> None:
        """Changes the weights of the model, which learns from lines as in `score_text`.

        Args:
            lines: As in `score_text`.
            adaptation: How the model adapts.

        Raises:
            InputError: As in `score_text`.
        """
        _, texts = self._texts_of(lines)
        self._adaptive_reader(adaptation).read_texts(texts)

    def _language_reader(self) -> TextReader:
        if self._reader is None or not self.reads_running_text:
            raise InputError(
                "Only a language model that was trained on running text (`text` in `data.train`) "
                "reads lines as one text. Score them one by one (in Python `score`)."
            )
        return self._reader

    def _adaptive_reader(self, adaptation: AdaptationConfig) -> AdaptiveReader:
        return AdaptiveReader(self._language_reader().model, adaptation)

    def _texts_of(self, lines: Iterable[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Returns the ids of each line, and of each text that the lines make.

        Raises:
            InputError: If the model does not read running text, or there is no line.
        """
        check_not_forked()
        self._language_reader()
        lines = as_texts(lines)
        rows = self.tokenizer.encode([line + "\n" for line in lines])
        if self.has_separator:
            rows = [row if line.strip() else [] for line, row in zip(lines, rows, strict=True)]
        firsts = [n for n, row in enumerate(rows) if row and (n == 0 or not rows[n - 1])]
        lasts = [n for n, row in enumerate(rows) if row and not any(rows[n + 1 : n + 2])]
        if not firsts:
            raise InputError("Expected at least one line of text. Received: none.")
        for last in lasts:
            rows[last].append(EOS_ID)
        texts = [
            list(chain.from_iterable(rows[first : last + 1]))
            for first, last in zip(firsts, lasts, strict=True)
        ]
        return rows, texts

    def score_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        target_ids: Sequence[Sequence[int]],
        *,
        batch_size: int = 64,
        threads: int = 0,
    ) -> list[Score]:
        """Returns how likely each row of target ids, its end included, is after its source."""
        rows = [self._layout(*pair) for pair in zip(source_ids, target_ids, strict=True)]
        batches = [
            (indices[first : first + at_once], shape)
            for shape, indices in _by_shape(rows).items()
            for at_once in [min(batch_size, self._most_rows(shape, indices[0] + 1))]
            for first in range(0, len(indices), at_once)
        ]

        def score(batch: tuple[list[int], _Shape]) -> tuple[list[int], np.ndarray]:
            members, shape = batch
            losses, weights = self._losses([rows[index] for index in members], shape)
            log_probs = -np.einsum("rt,rt->r", losses, weights, dtype=np.float64)
            return members, log_probs[: len(members)]

        shares = (len(members) * self._numbers(shape) / _MAX_NUMBERS for members, shape in batches)
        threads = num_threads(threads, len(batches))
        scores = np.zeros(len(rows))
        for members, log_probs in map_ahead(
            score, zip(batches, shares, strict=True), threads=threads
        ):
            scores[members] = log_probs
        return [
            Score(float(log_prob), len(target))
            for log_prob, target in zip(scores, target_ids, strict=True)
        ]

    def token_log_probs(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> np.ndarray:
        """Returns how likely each token of a row is after its source and the tokens before it.

        Args:
            source_ids: The ids of an input, without special tokens.
            target_ids: The ids to score, the end included.

        Returns:
            float32 `(tokens,)`, in nats. Their sum is the `log_prob` of `score_ids`.

        Raises:
            InputError: If the row is longer than memory allows.
        """
        row = self._layout(source_ids, target_ids)
        ((shape, _),) = _by_shape([row]).items()
        self._most_rows(shape, line=1)
        losses, _ = self._losses([row], shape)
        return -losses[0, row.num_prompt : len(row.target)]

    def _layout(self, source: Sequence[int], target: Sequence[int]) -> _Row:
        if isinstance(self.model, LanguageModel):
            return _Row([BOS_ID], [*source, *target], len(source))
        return _Row([*source, EOS_ID], list(target), 0)

    def _losses(self, rows: Sequence[_Row], shape: _Shape) -> tuple[np.ndarray, np.ndarray]:
        """Returns the loss and the weight of each target token, float32 `(group, time)` each."""
        # The same row counts as in search_in_groups, for the same reason.
        size = min(size for size in self._sizes if size >= len(rows))
        source_ids, target_ids, weights = _pad(rows, size, shape)
        if self._reader is not None:
            losses = self._reader.read_rows(target_ids)
        else:
            # As a graph, even where other code has functions run eagerly.
            function = self._function.get_concrete_function()
            losses = function(tf.constant(source_ids), tf.constant(target_ids)).numpy()
        return losses, weights

    def _most_rows(self, shape: _Shape, line: int) -> int:
        """Returns how many rows of a shape fit into memory together.

        Raises:
            InputError: If not even the smallest group does; names `line`.
        """
        numbers = self._numbers(shape)
        fitting = [size for size in self._sizes if size * numbers <= _MAX_NUMBERS]
        if self._reader is not None:  # It reads a long row in pieces.
            return max(fitting, default=self._sizes[0])
        if not fitting:
            raise InputError(
                f"Line {line} has about {shape.target} tokens to score, more than fit into memory "
                f"with this model. Split the line."
            )
        return fitting[-1]

    def _numbers(self, shape: _Shape) -> int:
        """Returns the numbers in the largest tensors of a row."""
        if self._reader is not None:
            return self._reader.tokens_at_once * self.model.vocab_size
        numbers = shape.target * self.model.vocab_size
        if not isinstance(self.model, LanguageModel):
            # Additive attention compares each target with each source token.
            numbers += shape.target * shape.source * self.model.units
        return numbers

    def _compute(self, source_ids: tf.Tensor, target_ids: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each target after its source, float32 `(batch, time)`."""
        bos = tf.fill([tf.shape(target_ids)[0], 1], BOS_ID)
        decoder_input_ids = tf.concat([bos, target_ids[:, :-1]], axis=1)
        logits = self.model(
            {"source_ids": source_ids, "decoder_input_ids": decoder_input_ids}, training=False
        )
        return cross_entropy(logits, target_ids).negative_log_likelihood


def _by_shape(rows: Sequence[_Row]) -> dict[_Shape, list[int]]:
    """Returns which rows have which padded lengths."""
    members: dict[_Shape, list[int]] = {}
    for index, row in enumerate(rows):
        shape = _Shape(_round_up(len(row.source)), _round_up(len(row.target)))
        members.setdefault(shape, []).append(index)
    return members


def _round_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def _pad(
    rows: Sequence[_Row], size: int, shape: _Shape
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sources, targets and weights of rows; missing ones are copies of the first."""
    source_ids = np.zeros((size, shape.source), np.int32)
    target_ids = np.zeros((size, shape.target), np.int32)
    weights = np.zeros((size, shape.target), np.float32)
    for place, row in enumerate([*rows, *[rows[0]] * (size - len(rows))]):
        source_ids[place, : len(row.source)] = row.source
        target_ids[place, : len(row.target)] = row.target
        weights[place, row.num_prompt : len(row.target)] = 1.0
    return source_ids, target_ids, weights
