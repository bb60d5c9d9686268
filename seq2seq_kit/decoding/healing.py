"""Token healing: what is generated after a prompt may join the prompt's last tokens.

A prompt's tokens are those of a text that ends there. The whole text may have others: `an `
is two tokens, `an apple` two others. So the last tokens are taken back, as far as the tokenizer
could have cut them differently, and the search begins with the likeliest tokens that spell them
again: either the same bytes, or all but the last bytes and then a token that extends beyond them.

Works on ids and on what each id adds to a text in bytes, so that it needs no tokenizer in a graph.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding.byte_tree import MAX_BYTES, MAX_TOKENS, SPACE, ByteTree
from seq2seq_kit.decoding.loop import run_while
from seq2seq_kit.decoding.numerics import log_normalizer
from seq2seq_kit.decoding.protocol import MINUS_INFINITY, Decoder, SearchInputs, StepOutput

# A word is taken back whole, from its space or the line's beginning on, if it has at most this many
# bytes; in a longer run, as in Chinese, only from the token in which a longer token could begin.
_WORD_BYTES = 32

# Ways to spell the prompt's end that are followed at once. Each is dropped as soon as its own
# probability is less than that of a way already complete, so that one or two are the rule.
WAYS = 4


class PromptEnds(NamedTuple):
    """The ends of prompts that are taken back; a line without one has `num_bytes` 0."""

    num_tokens: tf.Tensor
    """int32 `(lines,)`. Tokens taken back."""
    num_bytes: tf.Tensor
    """int32 `(lines,)`. Their bytes, and those of a space that the tokenizer dropped."""
    left_after: tf.Tensor
    """int32 `(lines, MAX_TOKENS + 1)`. Bytes left after 0, 1, ... of these tokens; -1 beyond."""
    spelling: tf.Tensor
    """int32 `(lines, MAX_BYTES + 1)`. The bytes, the last one in column 1; -1 where there is none.
    """


class Healed(NamedTuple):
    """The start of a search after the ends of prompts were spelled again."""

    start_ids: tf.Tensor
    """int32 `(lines,)`. The token to feed first."""
    state: Any
    """The step function's state before it."""
    first: tf.Tensor
    """int32 `(lines, 2)`. Ranks between which the first token must be; (-1, -1) if it is free."""
    token_ids: tf.Tensor
    """int32 `(lines, MAX_TOKENS)`. The tokens that were taken again, then zeros."""
    lengths: tf.Tensor
    """int32 `(lines,)`. The number of these tokens."""


class _Loop(NamedTuple):
    time: tf.Tensor  # int32 ()
    fed: tf.Tensor  # int32 (lines * ways,)
    state: Any  # leading axis lines * ways
    log_probs: tf.Tensor  # float32 (lines, ways); MINUS_INFINITY: no way
    left: tf.Tensor  # int32 (lines, ways): bytes still to spell
    is_given: tf.Tensor  # bool (lines, ways): whether it is the prompt's own tokens so far
    token_ids: tf.Tensor  # int32 (lines, ways, MAX_TOKENS)
    best_score: tf.Tensor  # float32 (lines,)
    best: Healed


class _Added(NamedTuple):
    """Ways with one more token; `(lines, ways)` each."""

    parents: tf.Tensor  # int32: the places of the ways that they extend
    token_ids: tf.Tensor  # int32: the tokens added
    log_probs: tf.Tensor  # float32, as in _Loop
    left: tf.Tensor  # int32, as in _Loop
    is_given: tf.Tensor  # bool, as in _Loop


class Healer:
    """Takes the ends of prompts back and spells them again.

    Args:
        surfaces: What each id adds to a text, in UTF-8, with U+2581 for a space.
    """

    def __init__(self, surfaces: Sequence[bytes]) -> None:
        self.tree = ByteTree(surfaces)

    def take_back(
        self, token_ids: tf.Tensor, lengths: tf.Tensor, lost_space: tf.Tensor
    ) -> PromptEnds:
        """Returns what is taken back of each prompt.

        Args:
            token_ids: int32 `(lines, time)`. The prompts, right-padded; a token without a surface,
                such as an unknown one, is kept and all that comes before it.
            lengths: int32 `(lines,)`.
            lost_space: bool `(lines,)`. Whether the text ends with a space that has no token.
        """
        # The last tokens, the very last one first; 0, which has no surface, where there is none.
        places = lengths[:, tf.newaxis] - 1 - tf.range(MAX_TOKENS)
        tail = tf.gather(token_ids, tf.maximum(places, 0), batch_dims=1)
        sizes = self.tree.sizes(tf.where(places >= 0, tail, 0))
        known = tf.cast(tf.cumsum(tf.cast(sizes == 0, tf.int32), axis=1) == 0, tf.int32)
        gap = len(SPACE) * tf.cast(lost_space & (lengths > 0) & self.tree.joins_spaces, tf.int32)
        # Bytes from where a token begins to the end of the text.
        ends = gap[:, tf.newaxis] + tf.cumsum(sizes * known, axis=1)
        spelling = self.tree.spell(tail, ends, gap)

        first, last = tf.unstack(self.tree.walk(spelling)[0], axis=-1)
        left = tf.range(MAX_BYTES + 1)
        could_go_on = (last > first) & (left > 0) & (left <= ends[:, -1:])
        reach = tf.reduce_max(tf.where(could_go_on, left, 0), axis=1, keepdims=True)
        may_begin = (reach > 0) & (ends >= reach) & (ends <= MAX_BYTES) & (known > 0)

        def byte(place: int) -> tf.Tensor:  # Counted from the first byte of each token.
            at = tf.clip_by_value(ends - place, 0, MAX_BYTES)
            return tf.gather(spelling, at, batch_dims=1)

        begins_word = tf.reduce_all([byte(n) == code for n, code in enumerate(SPACE)], axis=0)
        begins_word |= (byte(-1) == ord("\n")) | (byte(-1) < 0)
        word = _count_to_first(may_begin & begins_word & (ends <= tf.maximum(reach, _WORD_BYTES)))
        num_tokens = tf.where(word > 0, word, _count_to_first(may_begin))
        bytes_before = tf.concat([gap[:, tf.newaxis], ends], axis=1)
        after = num_tokens[:, tf.newaxis] - tf.range(MAX_TOKENS + 1)
        left_after = tf.gather(bytes_before, tf.maximum(after, 0), batch_dims=1)
        return PromptEnds(
            num_tokens,
            tf.gather(bytes_before, num_tokens, batch_dims=1),
            tf.where(after >= 0, left_after, -1),
            spelling,
        )

    def spell_again(self, decoder: Decoder, inputs: SearchInputs, ends: PromptEnds) -> Healed:
        """Returns the likeliest way to spell what was taken back, as the start of a search.

        A way spells all bytes, or some, and then a token follows that extends beyond the rest. Its
        log-probability is that of its tokens, the likeliest such token included. Ways are followed
        from token to token, as in beam search; the prompt's own tokens always are among them.

        Args:
            decoder: Feeds one token to each row.
            inputs: Where decoding begins after the tokens that were kept.
            ends: What was taken back.
        """
        start_ids, state, memory, _ = inputs
        lines = tf.shape(start_ids)[0]
        no_tokens = tf.zeros([lines, MAX_TOKENS], tf.int32)
        free = tf.fill([lines, 2], -1)
        as_given = Healed(start_ids, state, free, no_tokens, tf.zeros([lines], tf.int32))
        is_healed = ends.num_bytes > 0

        def search() -> Healed:
            beyond, tokens = self.tree.walk(ends.spelling)
            only_first = tf.concat([[True], tf.fill([WAYS - 1], False)], axis=0)
            is_way = is_healed[:, tf.newaxis] & only_first
            rows = tf.nest.map_structure(lambda part: tf.repeat(part, WAYS, axis=0), state)
            loop = _Loop(
                time=tf.constant(0),
                fed=tf.repeat(start_ids, WAYS),
                state=rows,
                log_probs=tf.where(is_way, 0.0, MINUS_INFINITY),
                left=tf.where(is_way, ends.num_bytes[:, tf.newaxis], 0),
                is_given=is_way,
                token_ids=tf.tile(no_tokens[:, tf.newaxis], (1, WAYS, 1)),
                best_score=tf.where(is_healed, MINUS_INFINITY, 0.0),
                best=as_given,
            )
            return run_while(
                lambda loop: (
                    (loop.time <= MAX_TOKENS) & tf.reduce_any(loop.log_probs > MINUS_INFINITY)
                ),
                lambda loop: (self._follow(decoder, memory, loop, ends, tokens, beyond),),
                (loop,),
            )[0].best

        return tf.cond(tf.reduce_any(is_healed), search, lambda: as_given)

    def _follow(
        self,
        decoder: Decoder,
        memory: Any,
        loop: _Loop,
        ends: PromptEnds,
        tokens: tf.Tensor,
        beyond: tf.Tensor,
    ) -> _Loop:
        """Returns the ways with one more token, and the best complete one so far.

        Args:
            decoder: Feeds one token to each row.
            memory: What it reads.
            loop: The ways.
            ends: What was taken back.
            tokens: From `_walk`.
            beyond: int32 `(lines, MAX_BYTES + 1, 2)`. Between which ranks the tokens are that
                extend beyond the bytes left.
        """
        output = decoder.step(loop.fed, loop.state, memory)
        lines = tf.shape(loop.left)[0]
        logits = tf.reshape(output.logits, (lines, WAYS, self.tree.vocab_size))
        normalizer = tf.reshape(log_normalizer(output.logits), (lines, WAYS))
        best_score, best = self._best_complete(loop, logits, normalizer, beyond)

        added = self._extend(loop, logits, normalizer, ends, tokens, best_score)
        rows = tf.reshape(tf.range(lines)[:, tf.newaxis] * WAYS + added.parents, [-1])
        here = tf.range(MAX_TOKENS) == loop.time
        before = tf.gather(loop.token_ids, added.parents, batch_dims=1)
        return _Loop(
            time=loop.time + 1,
            fed=tf.reshape(added.token_ids, [-1]),
            state=tf.nest.map_structure(lambda part: tf.gather(part, rows), output.state),
            log_probs=added.log_probs,
            left=added.left,
            is_given=added.is_given,
            token_ids=tf.where(here, added.token_ids[..., tf.newaxis], before),
            best_score=best_score,
            best=best,
        )

    def _extend(
        self,
        loop: _Loop,
        logits: tf.Tensor,
        normalizer: tf.Tensor,
        ends: PromptEnds,
        tokens: tf.Tensor,
        best_score: tf.Tensor,
    ) -> _Added:
        """Adds a token to the ways that are not complete and may still be better than the best.

        Args:
            loop: The ways.
            logits: As in `_best_complete`.
            normalizer: As in `_best_complete`.
            ends: As in `_follow`.
            tokens: As in `_follow`.
            best_score: float32 `(lines,)`. The log-probability of the best complete way.
        """
        longest = self.tree.longest
        next_ids = tf.gather(tokens, loop.left, batch_dims=1)
        log_probs = tf.gather(logits, tf.maximum(next_ids, 0), batch_dims=2)
        log_probs += (loop.log_probs - normalizer)[..., tf.newaxis]
        left = loop.left[..., tf.newaxis] - 1 - tf.range(longest)
        goes_on = (next_ids >= 0) & (left >= 0) & (loop.log_probs > MINUS_INFINITY)[..., tf.newaxis]
        goes_on &= log_probs > best_score[:, tf.newaxis, tf.newaxis]
        given = tf.gather(ends.left_after, tf.minimum(loop.time + 1, MAX_TOKENS), axis=1)
        is_given = loop.is_given[..., tf.newaxis] & (left == given[:, tf.newaxis, tf.newaxis])

        def flat(part: tf.Tensor) -> tf.Tensor:
            return tf.reshape(part, (tf.shape(loop.left)[0], WAYS * longest))

        order = tf.where(is_given, -MINUS_INFINITY, log_probs)
        value, place = tf.math.top_k(flat(tf.where(goes_on, order, MINUS_INFINITY)), WAYS)
        is_taken = value > MINUS_INFINITY

        def take(part: tf.Tensor) -> tf.Tensor:
            return tf.gather(flat(part), place, batch_dims=1)

        return _Added(
            parents=place // longest,
            token_ids=take(tf.maximum(next_ids, 0)),
            log_probs=tf.where(is_taken, take(log_probs), MINUS_INFINITY),
            left=tf.where(is_taken, take(left), 0),
            is_given=take(is_given) & is_taken,
        )

    def _best_complete(
        self, loop: _Loop, logits: tf.Tensor, normalizer: tf.Tensor, beyond: tf.Tensor
    ) -> tuple[tf.Tensor, Healed]:
        """Returns the best complete way so far, its log-probability float32 `(lines,)` first.

        A way is complete if no bytes are left, or by a last token that extends beyond them.

        Args:
            loop: The ways.
            logits: float32 `(lines, WAYS, vocab_size)`. Of the next token of each.
            normalizer: float32 `(lines, WAYS)`. Turns them into log-probabilities.
            beyond: As in `_follow`.
        """
        between = tf.gather(beyond, loop.left, batch_dims=1)
        allowed = self.tree.between(between)
        last = tf.reduce_max(tf.where(allowed, logits, MINUS_INFINITY), axis=-1) - normalizer
        is_exact = loop.left == 0
        score = tf.where(is_exact, loop.log_probs, loop.log_probs + last)
        is_way = loop.log_probs > MINUS_INFINITY
        score = tf.where(is_way, tf.maximum(score, MINUS_INFINITY), MINUS_INFINITY)
        chosen = tf.argmax(score, axis=1, output_type=tf.int32)
        new = tf.gather(score, chosen, batch_dims=1)
        is_better = new > loop.best_score
        lines = tf.shape(loop.left)[0]
        row = tf.range(lines) * WAYS + chosen
        first = tf.where(is_exact[..., tf.newaxis], -1, between)
        found = Healed(
            tf.gather(loop.fed, row),
            tf.nest.map_structure(lambda part: tf.gather(part, row), loop.state),
            tf.gather(first, chosen, batch_dims=1),
            tf.gather(loop.token_ids, chosen, batch_dims=1),
            tf.fill([lines], loop.time),
        )
        best = tf.nest.map_structure(
            lambda new, old: tf.where(expand_like(is_better, new), new, old), found, loop.best
        )
        return tf.where(is_better, new, loop.best_score), best


class HealedDecoder:
    """A decoder after whose first step only tokens within `Healed.first` follow.

    Its state is that of the decoder and `first`. Its first probabilities are those among the tokens
    that agree with the prompt.

    Args:
        decoder: The decoder.
        healer: What the ranks are those of.
    """

    def __init__(self, decoder: Decoder, healer: Healer) -> None:
        self._decoder = decoder
        self._healer = healer

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        """Feeds one token to each row."""
        state, first = state
        output = self._decoder.step(token_ids, state, memory)
        is_bound = first[:, :1] >= 0
        logits = tf.cond(
            tf.reduce_any(is_bound),
            lambda: tf.where(
                self._healer.tree.between(first) | ~is_bound, output.logits, MINUS_INFINITY
            ),
            lambda: output.logits,
        )
        return StepOutput(logits, (output.state, tf.fill(tf.shape(first), -1)), output.attention)


@functools.lru_cache(maxsize=4)
def healer_of(surfaces: tuple[bytes, ...]) -> Healer:
    """Returns the `Healer` of a vocabulary, made once."""
    return Healer(surfaces)


def _count_to_first(values: tf.Tensor) -> tf.Tensor:
    """Returns how many values there are up to the first True, it included; 0 if there is none."""
    count = tf.argmax(tf.cast(values, tf.int32), axis=1, output_type=tf.int32) + 1
    return tf.where(tf.reduce_any(values, axis=1), count, 0)


def expand_like(condition: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Returns a condition on rows with as many axes as `part`."""
    return tf.reshape(condition, [-1] + [1] * (part.shape.rank - 1))
