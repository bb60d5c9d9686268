"""Sampling: each token is drawn from the model's distribution, or from its likeliest part."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding.greedy import OneTokenRecord, OneTokenSearch
from seq2seq_kit.decoding.numerics import pad_to_blocks
from seq2seq_kit.decoding.protocol import MINUS_INFINITY
from seq2seq_kit.decoding.random import threefry, uniform

# Tokens that are sorted at first to find the smallest set of a given probability. If it is larger
# in one row, all tokens are sorted; that takes many times as long, and is rare.
_SORTED_FIRST = 256


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tokens are drawn from, and how their probabilities are changed.

    They are applied in the order of the fields, each to what the one before leaves.
    """

    temperature: float | tf.Tensor = 1.0
    """Logits are divided by it: below 1 likely tokens become likelier, above 1 less likely."""
    top_k: int = 0
    """The number of likeliest tokens to draw from; 0 for all."""
    top_p: float = 1.0
    """The likeliest tokens that together have at least this probability are drawn from (Holtzman et
    al., 2020, https://arxiv.org/abs/1904.09751)."""
    min_p: float | tf.Tensor = 0.0
    """Only tokens with at least this share of the likeliest token's probability are drawn from
    (Nguyen et al., 2024, https://arxiv.org/abs/2407.01082)."""


class _Draws(NamedTuple):
    """The state of the random numbers of each row."""

    key: tf.Tensor  # int64 (rows, 2)
    position: tf.Tensor  # int64 (rows,): tokens drawn before


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling(OneTokenSearch):
    """Draws each token at random.

    A draw is a function of the line's key, the number of the sample and the position, so a line's
    samples depend neither on the lines beside it nor on how many samples are asked for.

    Args:
        line_keys: int64 `(lines, 2)`. From `line_key`.
        filters: Which tokens are drawn from.
    """

    line_keys: tf.Tensor
    filters: Filters = Filters()

    def _start_choice(self, lines: tf.Tensor) -> _Draws:
        number = self.num_hypotheses
        keys = tf.repeat(self.line_keys, number, axis=0)
        sample = tf.tile(tf.range(tf.cast(number, tf.int64)), [lines])
        # The 1 keeps these counters apart from those of the draws, which have 0.
        counter = tf.stack([sample, tf.ones_like(sample)], axis=-1)
        return _Draws(threefry(keys, counter), tf.zeros([lines * number], tf.int64))

    def _choose(self, logits: tf.Tensor, record: OneTokenRecord) -> tuple[tf.Tensor, Any]:
        draws: _Draws = record.choice_state
        counter = tf.stack([draws.position, tf.zeros_like(draws.position)], axis=-1)
        number = uniform(threefry(draws.key, counter)[:, 0])
        token = draw(logits, number, self.filters)
        is_allowed = tf.reduce_max(logits, axis=-1) > MINUS_INFINITY / 2
        token = tf.where(is_allowed, token, self.eos_id)
        return token, draws._replace(position=draws.position + 1)


def draw(logits: tf.Tensor, numbers: tf.Tensor, filters: Filters) -> tf.Tensor:
    """Returns a token for each row, by inverting the distribution function.

    Args:
        logits: float32 `(rows, vocab_size)`; `MINUS_INFINITY` for a forbidden token.
        numbers: float32 `(rows,)`. From 0 up to, not including, 1, one for each draw.
        filters: Which tokens are drawn from.

    Returns:
        int32 `(rows,)`.
    """
    # Each row fills whole registers: its weights have the same bits whatever rows are beside it.
    padded = pad_to_blocks(logits)
    relative = padded - tf.reduce_max(padded, axis=-1, keepdims=True)
    weights = tf.exp(relative / filters.temperature)
    size: int | None = logits.shape[-1]
    if filters.top_k and (size is None or filters.top_k < size):
        weights, ids = tf.math.top_k(weights, filters.top_k)
        return _draw_sorted(weights, ids, numbers, tf.reduce_sum(weights, axis=-1), filters)
    total = tf.reduce_sum(weights, axis=-1)
    if filters.top_p == 1.0:
        weights = tf.where(weights >= filters.min_p, weights, 0.0)
        return _invert(weights, numbers)

    def draw_from(count: tf.Tensor | int) -> tf.Tensor:
        largest, ids = tf.math.top_k(weights, count)
        return _draw_sorted(largest, ids, numbers, total, filters)

    columns = tf.shape(weights)[-1]
    first = tf.minimum(_SORTED_FIRST, columns)
    enough = tf.cumsum(tf.math.top_k(weights, first).values, axis=-1)[:, -1]
    return tf.cond(
        tf.reduce_all(enough >= filters.top_p * total),
        lambda: draw_from(first),
        lambda: draw_from(columns),
    )


def _draw_sorted(
    weights: tf.Tensor, ids: tf.Tensor, numbers: tf.Tensor, total: tf.Tensor, filters: Filters
) -> tf.Tensor:
    """Draws from tokens in the order of their weights, the largest, 1, first."""
    before = tf.cumsum(weights, axis=-1, exclusive=True)
    is_kept = (before < filters.top_p * total[:, tf.newaxis]) & (weights >= filters.min_p)
    place = _invert(tf.where(is_kept, weights, 0.0), numbers)
    return tf.gather(ids, place, batch_dims=1)


def _invert(weights: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Returns an index for each row, drawn with probabilities in proportion to the weights."""
    before = tf.cumsum(weights, axis=-1, exclusive=True)
    total = before[:, -1] + weights[:, -1]
    # The last place that begins at or before the number; one of weight 0 holds none.
    is_before = (before <= (numbers * total)[:, tf.newaxis]) & (weights > 0)
    place = tf.range(tf.shape(weights)[-1])
    return tf.reduce_max(tf.where(is_before, place, 0), axis=-1)
