"""What a hypothesis must not contain, as changes of the next token's logits.

A constraint has a state of its own, as a step function has one. It sees a hypothesis token by
token, and what it forbids keeps its probability: log-probabilities stay those of the model.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

MINUS_INFINITY = -1e9
"""For log(0): finite, because -inf times 0 is NaN; far below any sum of log-probabilities."""


class Constraint(Protocol):
    """Lowers the logits of tokens that must not come next."""

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> Any:
        """Returns the state of `rows` hypotheses without tokens: any nest, leading axis `rows`."""

    def __call__(
        self, logits: tf.Tensor, token_ids: tf.Tensor, time: tf.Tensor, state: Any
    ) -> tuple[tf.Tensor, Any]:
        """Returns the logits, `MINUS_INFINITY` for forbidden tokens, and the next state.

        Args:
            logits: float32 `(rows, vocab_size)`. Of the next token.
            token_ids: int32 `(rows, max_length + 1)`. The hypotheses so far; what follows their
                first `time` tokens does not count.
            time: int32 `()`.
            state: Of the hypotheses without their last token; at `time` 0, what `start` gave.
        """


class NoRepeatedNgram:
    """Forbids the token that would make a hypothesis contain an n-gram twice.

    Args:
        ngram: The `n`, 1 or more.
    """

    def __init__(self, ngram: int) -> None:
        self._ngram = ngram

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tuple[()]:
        return ()

    def __call__(
        self, logits: tf.Tensor, token_ids: tf.Tensor, time: tf.Tensor, state: tuple[()]
    ) -> tuple[tf.Tensor, tuple[()]]:
        vocab_size = tf.shape(logits)[-1]
        repeats = repeats_ngram(token_ids, time, ngram=self._ngram, vocab_size=vocab_size)
        return tf.where(repeats, MINUS_INFINITY, logits), state


class LoopState(NamedTuple):
    """What `NoLoop` remembers of hypotheses without their last token."""

    repeated: tf.Tensor
    """int32 `(rows, max_length)`. For each period, from 1 token on: characters at the end of a
    hypothesis that equal, token by token, what is one period before them."""


class NoLoop:
    """Forbids the token that would make a hypothesis repeat a stretch back to back too often.

    A hypothesis is in a loop with a period of `p` tokens while each of its tokens equals the one
    `p` before. What it repeats, all that follows the stretch's first occurrence, must stay below
    `max_characters`; but the stretch may be repeated once in any case, and after that its beginning
    may, as long as that is shorter than the stretch and than `max_characters`. So `la la la` is
    possible, a line sung twice in a row, and a third one that begins like it. Repeats with
    something else between them are never forbidden.

    Args:
        num_characters: int32 `(vocab_size,)`. Characters that each token adds to a text, as
            `count_characters` counts them.
        max_characters: 1 or more.
    """

    def __init__(self, num_characters: tf.Tensor, max_characters: int) -> None:
        self._num_characters = num_characters
        self._max_characters = max_characters

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> LoopState:
        return LoopState(tf.zeros([rows, max_length], tf.int32))

    def __call__(
        self, logits: tf.Tensor, token_ids: tf.Tensor, time: tf.Tensor, state: LoopState
    ) -> tuple[tf.Tensor, LoopState]:
        rows, longest = tf.unstack(tf.shape(state.repeated))
        period = tf.range(1, longest + 1)
        # Column p - 1 has the token p places before the next one: it would go on with period p.
        backwards = tf.gather(token_ids, tf.maximum(time - 1 - tf.range(longest + 1), 0), axis=1)
        backwards = tf.maximum(backwards, 0)  # Padding beyond the hypothesis may be anything.
        characters = tf.gather(self._num_characters, backwards)
        is_repeat = (backwards[:, :1] == backwards[:, 1:]) & (period < time)
        repeated = tf.where(is_repeat, state.repeated + characters[:, :1], 0)

        next_ids, characters = backwards[:, :-1], characters[:, :-1]
        stretch = tf.cumsum(characters, axis=1)
        limit = tf.maximum(
            stretch + tf.minimum(stretch, self._max_characters), self._max_characters
        )
        forbidden = (repeated + characters >= limit) & (period <= time)
        row_of = tf.tile(tf.range(rows)[:, tf.newaxis], (1, longest))
        lowered = tf.tensor_scatter_nd_min(
            logits,
            tf.stack([row_of, tf.where(forbidden, next_ids, 0)], axis=-1),
            tf.where(forbidden, MINUS_INFINITY, math.inf),
        )
        return lowered, LoopState(repeated)


def count_characters(surfaces: Sequence[bytes]) -> np.ndarray:
    r"""Returns how many characters each token adds to a text; a wide one counts as two.

    Wide are those from U+3000 on, such as Chinese, kana, Hangul and emoji: each of them says as
    much as several letters.

    Args:
        surfaces: What each token adds, in UTF-8. Of a character that several tokens spell, byte by
            byte or in parts, the one with its first byte counts.

    Returns:
        int32 `(len(surfaces),)`.

    Example:

    >>> count_characters([b"", "né".encode(), "春".encode(), b"\xc3", b"\xa9"]).tolist()
    [0, 2, 2, 1, 0]
    """
    # In UTF-8 all bytes of a character but the first are 10xxxxxx; those from U+3000 on begin with
    # 0xE3 or more.
    width = [0 if byte & 0b11000000 == 0b10000000 else 1 + (byte >= 0xE3) for byte in range(256)]
    return np.array([sum(width[byte] for byte in surface) for surface in surfaces], np.int32)


def repeats_ngram(
    token_ids: tf.Tensor, length: tf.Tensor, *, ngram: int, vocab_size: int | tf.Tensor
) -> tf.Tensor:
    """Tells which next tokens would make a hypothesis contain an n-gram twice.

    Args:
        token_ids: int32 `(rows, time)`. The hypotheses so far; what stands from `length` on does
            not count.
        length: int32 `()`. Their tokens.
        ngram: The `n`, 1 or more.
        vocab_size: Tokens to choose from.

    Returns:
        bool `(rows, vocab_size)`.

    Reference: Paulus et al., 2017, section 2.5, https://arxiv.org/abs/1705.04304
    """
    rows, time = tf.unstack(tf.shape(token_ids))
    # An n-gram that begins at `start` ends with the token at `start + ngram - 1`.
    starts = tf.range(tf.maximum(time - ngram + 1, 0))
    repeated = tf.tile((starts + ngram <= length)[tf.newaxis], (rows, 1))
    for place in range(ngram - 1):
        # The last n - 1 tokens are what the next one would complete.
        last = token_ids[:, tf.maximum(length - ngram + 1 + place, 0)]
        repeated &= tf.gather(token_ids, starts + place, axis=1) == last[:, tf.newaxis]
    # Beyond `length` there may be anything: it must not index the vocabulary.
    ends = tf.where(repeated, tf.gather(token_ids, starts + ngram - 1, axis=1), 0)
    row_of = tf.tile(tf.range(rows)[:, tf.newaxis], (1, tf.size(starts)))
    return tf.cast(
        tf.scatter_nd(
            tf.stack([row_of, ends], axis=-1), tf.cast(repeated, tf.int32), (rows, vocab_size)
        ),
        tf.bool,
    )
