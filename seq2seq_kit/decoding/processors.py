"""Logits processors: constraints on what an output may contain, and penalties.

Those that forbid tokens leave the probabilities of the others as they are, so log-probabilities
stay those of the model. They work on ids, and on what each id adds to a text.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.decoding.numerics import num_columns
from seq2seq_kit.decoding.protocol import MINUS_INFINITY, History, LogitsProcessor
from seq2seq_kit.errors import InputError


def process(
    processors: Sequence[LogitsProcessor],
    logits: tf.Tensor,
    history: History,
    states: Sequence[Any],
) -> tuple[tf.Tensor, tuple[Any, ...]]:
    """Returns the logits after all processors, and their next states."""
    next_states = []
    for processor, state in zip(processors, states, strict=True):
        logits, state = processor(logits, history, state)
        next_states.append(state)
    return logits, tuple(next_states)


class ForbiddenTokens:
    """Forbids some tokens at every step.

    Args:
        token_ids: The tokens.
    """

    rescales = False
    num_past_tokens = 0

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = list(token_ids)

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tuple[()]:
        return ()

    def __call__(
        self, logits: tf.Tensor, history: History, state: tuple[()]
    ) -> tuple[tf.Tensor, tuple[()]]:
        # A logit added to so large a number is lost in it; `tf.where` would take twice the time.
        columns = num_columns(logits)
        forbidden = tf.reduce_max(tf.one_hot(self._token_ids, columns), axis=0)
        return logits + MINUS_INFINITY * forbidden, state


class MinLength:
    """Forbids EOS before an output has a number of tokens.

    Args:
        min_length: Tokens at least, EOS not counted.
        eos_id: The token that ends an output.
    """

    rescales = False
    num_past_tokens = None

    def __init__(self, min_length: int | tf.Tensor, eos_id: int) -> None:
        self._min_length = min_length
        self._eos_id = eos_id

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tuple[()]:
        return ()

    def __call__(
        self, logits: tf.Tensor, history: History, state: tuple[()]
    ) -> tuple[tf.Tensor, tuple[()]]:
        is_short = tf.cast(history.length < self._min_length, tf.float32)
        is_eos = tf.one_hot(self._eos_id, num_columns(logits))
        return logits + MINUS_INFINITY * is_short * is_eos, state


class RepetitionPenalty:
    """Makes tokens that an output contains already less likely.

    The logit of such a token is divided by the penalty where it is positive, and multiplied by it
    where it is negative (Keskar et al., 2019, section 4.1, https://arxiv.org/abs/1909.05858). The
    prompt of a continuation does not count.

    Args:
        penalty: 1 or more; 1 changes nothing.
    """

    rescales = True
    num_past_tokens = None

    def __init__(self, penalty: float | tf.Tensor) -> None:
        self._penalty = penalty

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tuple[()]:
        return ()

    def __call__(
        self, logits: tf.Tensor, history: History, state: tuple[()]
    ) -> tuple[tf.Tensor, tuple[()]]:
        rows, time = tf.unstack(tf.shape(history.token_ids))
        is_token = tf.range(time) < history.length
        places = tf.stack(
            [
                tf.tile(tf.range(rows)[:, tf.newaxis], (1, time)),
                tf.where(is_token, history.token_ids, 0),
            ],
            axis=-1,
        )
        count = tf.scatter_nd(
            places,
            tf.cast(tf.broadcast_to(is_token, (rows, time)), tf.int32),
            tf.shape(logits),
        )
        penalized = tf.where(logits > 0, logits / self._penalty, logits * self._penalty)
        # What is forbidden already stays so.
        penalized = tf.maximum(penalized, tf.minimum(logits, MINUS_INFINITY))
        return tf.where(count > 0, penalized, logits), state


class NoRepeatedNgram:
    """Forbids the token that would make a hypothesis contain an n-gram twice.

    Args:
        ngram: The `n`, 1 or more.
    """

    rescales = False
    num_past_tokens = None

    def __init__(self, ngram: int) -> None:
        self._ngram = ngram

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tuple[()]:
        return ()

    def __call__(
        self, logits: tf.Tensor, history: History, state: tuple[()]
    ) -> tuple[tf.Tensor, tuple[()]]:
        vocab_size = tf.shape(logits)[-1]
        repeats = repeats_ngram(*history, ngram=self._ngram, vocab_size=vocab_size)
        return tf.where(repeats, MINUS_INFINITY, logits), state


MAX_PERIOD = 512
"""Tokens of the longest stretch whose repetition `NoLoop` notices."""


MAX_BAN_ENTRIES = 50_000_000
"""Entries of the tables of `BannedTexts`, of five bytes each."""


class BanTables(NamedTuple):
    """An automaton over tokens; a node is the longest beginning of a text that was just spelled."""

    next_nodes: Any
    """int32 `(nodes, tokens)`. The node after a token."""
    is_banned: Any
    """bool `(nodes, tokens)`. Whether a banned text is complete within the token."""


class LoopState(NamedTuple):
    """The state of `NoLoop`: repetitions in hypotheses without their last token."""

    repeated: tf.Tensor
    """int32 `(rows, periods)`. For each period, from 1 token to `max_length` or `MAX_PERIOD`:
    characters at the end of a hypothesis that equal, token by token, what is one period before
    them."""


class NoLoop:
    """Forbids the token that would make a hypothesis repeat a stretch back to back too often.

    A hypothesis is in a loop with a period of `p` tokens while each of its tokens equals the one
    `p` before. What it repeats, all that follows the stretch's first occurrence, must stay below
    `max_characters`; but the stretch may be repeated once in any case, and after that its beginning
    may, as long as that is shorter than the stretch and than `max_characters`. So `la la la` is
    possible, a line sung twice in a row, and a third one that begins like it. Repeats with
    something else between them are never forbidden, nor those of more than `MAX_PERIOD` tokens.

    Args:
        num_characters: int32 `(vocab_size,)`. Characters that each token adds to a text, as
            `count_characters` counts them.
        max_characters: 1 or more.
    """

    rescales = False
    num_past_tokens = MAX_PERIOD + 1

    def __init__(self, num_characters: tf.Tensor, max_characters: int) -> None:
        self._num_characters = num_characters
        self._max_characters = max_characters

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> LoopState:
        return LoopState(tf.zeros([rows, tf.minimum(max_length, MAX_PERIOD)], tf.int32))

    def __call__(
        self, logits: tf.Tensor, history: History, state: LoopState
    ) -> tuple[tf.Tensor, LoopState]:
        token_ids, time = history
        rows, longest = tf.unstack(tf.shape(state.repeated))
        period = tf.range(1, longest + 1)
        # Column p - 1 has the token p places before the next one, which would continue a loop of
        # period p.
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


class BannedTexts:
    """Forbids tokens with which an output would contain one of some texts.

    However a text is spelled in tokens, and wherever it begins within one: an automaton follows
    the bytes of an output (Aho and Corasick, 1975, https://doi.org/10.1145/360825.360855).

    Args:
        tables: From `ban_texts`, for the tokens that the logits belong to.
    """

    rescales = False
    num_past_tokens = 1

    def __init__(self, tables: BanTables) -> None:
        self._tables = tables

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> tf.Tensor:
        return tf.zeros([rows], tf.int32)

    def __call__(
        self, logits: tf.Tensor, history: History, state: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        token_ids, length = history
        last = token_ids[:, tf.maximum(length - 1, 0)]
        last = tf.clip_by_value(last, 0, num_columns(logits) - 1)
        node = tf.gather_nd(self._tables.next_nodes, tf.stack([state, last], axis=-1))
        node = tf.where(length > 0, node, state)
        is_banned = tf.gather(self._tables.is_banned, node)
        return tf.where(is_banned, MINUS_INFINITY, logits), node


def ban_texts(surfaces: Sequence[bytes], texts: Sequence[bytes]) -> BanTables:
    """Returns the tables of an automaton that recognizes texts in what tokens spell.

    Args:
        surfaces: What each token adds to a text, in bytes.
        texts: The texts, spelled as `surfaces` are; none is empty.

    Raises:
        InputError: If the tables would take more than `MAX_BAN_ENTRIES` entries.
    """
    children: list[dict[int, int]] = [{}]
    is_end = [False]
    for text in texts:
        node = 0
        for byte in text:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                is_end.append(False)
            node = children[node][byte]
        is_end[node] = True
    if len(children) * len(surfaces) > MAX_BAN_ENTRIES:
        raise InputError(
            f"`banned_texts` must have at most {MAX_BAN_ENTRIES // len(surfaces):,} bytes in all "
            f"with a vocabulary of {len(surfaces):,}. Received: {len(children) - 1:,}. Ban fewer "
            f"or shorter texts."
        )
    after_byte, ends = _complete(children, is_end)
    # (nodes, tokens): where each token leads from each node, all tokens byte by byte at once.
    nodes = np.tile(np.arange(len(children), dtype=np.int32)[:, None], (1, len(surfaces)))
    is_banned = np.zeros(nodes.shape, bool)
    for place in range(max(map(len, surfaces))):
        tokens = [token for token, surface in enumerate(surfaces) if len(surface) > place]
        next_bytes = np.array([surfaces[token][place] for token in tokens])
        nodes[:, tokens] = after_byte[nodes[:, tokens], next_bytes]
        is_banned[:, tokens] |= ends[nodes[:, tokens]]
    return BanTables(nodes, is_banned)


def _complete(
    children: Sequence[dict[int, int]], is_end: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns an automaton of a tree of texts.

    Args:
        children: The child of each node for each byte it has one for.
        is_end: Whether a text ends at a node.

    Returns:
        int32 `(nodes, 256)`, the node after each byte: that of the longest beginning of a text with
        which the bytes so far end; and bool `(nodes,)`, whether they end with a whole text.
    """
    after_byte = np.zeros((len(children), 256), np.int32)
    ends = np.array(is_end)
    shorter = [0] * len(children)  # The node of the next longest such beginning.
    waiting = [0]
    for node in waiting:  # Breadth first: shorter beginnings are complete already.
        after_byte[node] = after_byte[shorter[node]] if node else 0
        ends[node] |= ends[shorter[node]]
        for byte, child in children[node].items():
            shorter[child] = int(after_byte[node, byte])
            after_byte[node, byte] = child
            waiting.append(child)
    return after_byte, ends


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
    """Returns which next tokens would make a hypothesis contain an n-gram twice.

    Args:
        token_ids: int32 `(rows, time)`. The hypotheses so far; only the first `length` columns
            count.
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
