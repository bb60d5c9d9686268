"""Greedy and beam search, batched and in graph, over a function that feeds one token.

A search stops a hypothesis at EOS and never extends it. A line that is finished is frozen, so its
result does not depend on how long the other lines of the batch go on.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding.constraints import repeats_ngram

# Stands for log(0). Finite, because -inf times 0 is NaN; far below any sum of log-probabilities.
_MINUS_INFINITY = -1e9


class StepOutput(NamedTuple):
    """What the step function gives for the tokens it was fed."""

    logits: tf.Tensor
    """float32 `(rows, vocab_size)`. Unnormalised log-probabilities of the next token."""
    state: Any
    """The state after these tokens: any nest of tensors with leading axis `rows`."""


StepFunction = Callable[[tf.Tensor, Any], StepOutput]
"""`step(token_ids, state)`: feeds int32 `(rows,)` tokens, one to each row."""


class SearchResult(NamedTuple):
    """The best hypotheses of each line, best first.

    Hypotheses that ended with EOS come first, by score; those cut at `max_length` fill the places
    that are left.
    """

    token_ids: tf.Tensor
    """int32 `(batch, hypotheses, max_length + 1)`. Generated ids, EOS included, then padding."""
    lengths: tf.Tensor
    """int32 `(batch, hypotheses)`. Generated tokens, EOS included."""
    log_probs: tf.Tensor
    """float32 `(batch, hypotheses)`. Summed over the generated tokens, EOS included, in nats."""
    scores: tf.Tensor
    """float32 `(batch, hypotheses)`. What they are ranked by: `normalize_log_probs`."""


def normalize_log_probs(
    log_probs: tf.Tensor, lengths: tf.Tensor, length_penalty: tf.Tensor | float
) -> tf.Tensor:
    """Scores hypotheses so that a longer one does not lose only by being longer.

    The score is `log_prob / ((5 + length) / 6) ** length_penalty` (Wu et al., 2016, equation 14,
    https://arxiv.org/abs/1609.08144).

    Args:
        log_probs: float32, any shape. Summed log-probabilities in nats.
        lengths: int32, the same shape. Tokens, EOS included.
        length_penalty: The exponent, 0 or more; 0 returns `log_probs`.

    Returns:
        float32, the same shape. Higher is better.

    Example:

    >>> normalize_log_probs([-6.0, -6.0], [1, 7], 1.0).numpy().tolist()
    [-6.0, -3.0]
    """
    return log_probs / ((5.0 + tf.cast(lengths, tf.float32)) / 6.0) ** length_penalty


class _GreedyState(NamedTuple):
    time: tf.Tensor  # int32 (): steps taken
    state: Any  # of the step function
    fed: tf.Tensor  # int32 (batch,): the token to feed next
    done: tf.Tensor  # bool (batch,)
    token_ids: tf.Tensor  # int32 (batch, max_length + 1)
    lengths: tf.Tensor  # int32 (batch,)
    log_probs: tf.Tensor  # float32 (batch,)


def greedy_search(
    step: StepFunction,
    start_ids: tf.Tensor,
    state: Any,
    *,
    max_length: tf.Tensor | int,
    length_penalty: tf.Tensor | float = 0.0,
    suppressed_ids: Sequence[int] = (),
    no_repeat_ngram: int = 0,
    pad_id: int = 0,
    eos_id: int = 3,
) -> SearchResult:
    """Takes the likeliest token at each step until EOS or `max_length` tokens.

    Args:
        step: Feeds one token to each row; here a row is a line.
        start_ids: int32 `(batch,)`. The first tokens to feed, such as BOS.
        state: The step function's state before them.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: Only for `scores`: greedy search itself ranks nothing.
        suppressed_ids: Tokens that are never taken. Their probability is not given to the others,
            so that log-probabilities stay those of the model.
        no_repeat_ngram: No hypothesis contains so many tokens in a row twice; 0 allows it.
        pad_id: What stands after a hypothesis's end.
        eos_id: The token that ends a hypothesis.

    Returns:
        A `SearchResult` with one hypothesis a line.
    """
    batch = tf.shape(start_ids)[0]

    def body(loop: _GreedyState) -> tuple[_GreedyState]:
        output = step(loop.fed, loop.state)
        log_probs = _token_log_probs(
            output.logits, loop.token_ids, loop.time, suppressed_ids, no_repeat_ngram
        )
        token = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
        # After `max_length` tokens only EOS may still follow.
        taken = ~loop.done & ((loop.time < max_length) | (token == eos_id))
        gain = tf.gather(log_probs, token, batch_dims=1)
        return (
            _GreedyState(
                time=loop.time + 1,
                state=output.state,
                fed=token,
                done=loop.done | (token == eos_id),
                token_ids=_write(loop.token_ids, loop.time, tf.where(taken, token, pad_id)),
                lengths=loop.lengths + tf.cast(taken, tf.int32),
                log_probs=loop.log_probs + tf.where(taken, gain, 0.0),
            ),
        )

    loop = _run(
        lambda loop: (loop.time <= max_length) & ~tf.reduce_all(loop.done),
        body,
        _GreedyState(
            time=tf.constant(0),
            state=state,
            fed=start_ids,
            done=tf.zeros([batch], tf.bool),
            token_ids=tf.fill([batch, max_length + 1], pad_id),
            lengths=tf.zeros([batch], tf.int32),
            log_probs=tf.zeros([batch]),
        ),
    )
    scores = normalize_log_probs(loop.log_probs, loop.lengths, length_penalty)
    found = (loop.token_ids, loop.lengths, loop.log_probs, scores)
    return SearchResult(*(tf.expand_dims(part, 1) for part in found))


class _Hypotheses(NamedTuple):
    token_ids: tf.Tensor  # int32 (batch, beam, max_length + 1)
    lengths: tf.Tensor  # int32 (batch, beam)
    log_probs: tf.Tensor  # float32 (batch, beam); _MINUS_INFINITY: an empty place


class _BeamState(NamedTuple):
    time: tf.Tensor  # int32 (): steps taken
    state: Any  # of the step function, leading axis batch * beam
    fed: tf.Tensor  # int32 (batch * beam,): the token to feed next
    done: tf.Tensor  # bool (batch,)
    alive: _Hypotheses  # best first
    finished: _Hypotheses  # by score, best first
    num_finished: tf.Tensor  # int32 (batch,): all that ever finished, not only those kept


def beam_search(
    step: StepFunction,
    start_ids: tf.Tensor,
    state: Any,
    *,
    beam_size: int,
    num_hypotheses: int = 1,
    max_length: tf.Tensor | int,
    length_penalty: tf.Tensor | float = 0.0,
    suppressed_ids: Sequence[int] = (),
    no_repeat_ngram: int = 0,
    pad_id: int = 0,
    eos_id: int = 3,
) -> SearchResult:
    """Keeps the `beam_size` likeliest beginnings of each line at each step.

    Of all continuations of these, the best `beam_size` are looked at: those that end with EOS are
    finished, and the best others live on. A line is done once `beam_size` hypotheses are finished,
    so that a beam of 1 is greedy search; a beam that holds every hypothesis finds the best one.

    Args:
        step: Feeds one token to each row; the `beam_size` rows of a line stand together.
        start_ids: int32 `(batch,)`. The first tokens to feed, such as BOS.
        state: The step function's state before them, leading axis `batch`.
        beam_size: Hypotheses kept at each step.
        num_hypotheses: Hypotheses returned for each line, at most `beam_size`.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: As in `normalize_log_probs`.
        suppressed_ids: Tokens that are never taken. Their probability is not given to the others,
            so that log-probabilities stay those of the model.
        no_repeat_ngram: No hypothesis contains so many tokens in a row twice; 0 allows it.
        pad_id: What stands after a hypothesis's end.
        eos_id: The token that ends a hypothesis.

    Returns:
        A `SearchResult` with `num_hypotheses` hypotheses a line.

    Raises:
        ValueError: If `num_hypotheses` is not between 1 and `beam_size`.
    """
    if not 1 <= num_hypotheses <= beam_size:
        raise ValueError(
            f"`num_hypotheses` must be between 1 and `beam_size`. Received: "
            f"num_hypotheses={num_hypotheses}, beam_size={beam_size}. Enlarge the beam."
        )
    batch = tf.shape(start_ids)[0]

    def body(loop: _BeamState) -> tuple[_BeamState]:
        output = step(loop.fed, loop.state)
        token_log_probs = _token_log_probs(
            output.logits,
            tf.reshape(loop.alive.token_ids, (batch * beam_size, -1)),
            loop.time,
            suppressed_ids,
            no_repeat_ngram,
        )
        candidates, parents = _expand(loop.alive, token_log_probs, loop.time)
        last_ids = candidates.token_ids[:, :, loop.time]
        is_eos = last_ids == eos_id
        # After `max_length` tokens only EOS may still follow.
        may_live = tf.fill(tf.shape(is_eos), loop.time < max_length) & ~is_eos
        ends = is_eos & (tf.range(tf.shape(is_eos)[1]) < beam_size)
        ends &= (candidates.log_probs > _MINUS_INFINITY / 2) & ~loop.done[:, tf.newaxis]
        num_finished = loop.num_finished + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)
        finished = _merge(loop.finished, _drop(candidates, ~ends), beam_size, length_penalty)
        alive, chosen = _best(_drop(candidates, ~may_live), beam_size)
        # At the last step nobody lives on: what was alive before is what `max_length` cut.
        is_last = loop.time >= max_length
        alive = tf.nest.map_structure(
            lambda new, old: tf.where(is_last, old, new), alive, loop.alive
        )
        rows = tf.gather(parents, chosen, batch_dims=1)
        rows = tf.reshape(rows + tf.range(batch)[:, tf.newaxis] * beam_size, [-1])
        return (
            _BeamState(
                time=loop.time + 1,
                state=tf.nest.map_structure(lambda part: tf.gather(part, rows), output.state),
                fed=tf.reshape(tf.gather(last_ids, chosen, batch_dims=1), [-1]),
                done=num_finished >= beam_size,
                alive=alive,
                finished=finished,
                num_finished=num_finished,
            ),
        )

    empty = _Hypotheses(
        token_ids=tf.fill([batch, beam_size, max_length + 1], pad_id),
        lengths=tf.zeros([batch, beam_size], tf.int32),
        log_probs=tf.fill([batch, beam_size], _MINUS_INFINITY),
    )
    # All rows of a line begin alike: only the first may have successors.
    first = tf.concat([tf.zeros([batch, 1]), empty.log_probs[:, 1:]], axis=1)
    loop = _run(
        lambda loop: (loop.time <= max_length) & ~tf.reduce_all(loop.done),
        body,
        _BeamState(
            time=tf.constant(0),
            state=tf.nest.map_structure(lambda part: tf.repeat(part, beam_size, axis=0), state),
            fed=tf.repeat(start_ids, beam_size),
            done=tf.zeros([batch], tf.bool),
            alive=empty._replace(log_probs=first),
            finished=empty,
            num_finished=tf.zeros([batch], tf.int32),
        ),
    )
    return _rank(loop, num_hypotheses, length_penalty, pad_id)


def _token_log_probs(
    logits: tf.Tensor,
    token_ids: tf.Tensor,
    time: tf.Tensor,
    suppressed_ids: Sequence[int],
    no_repeat_ngram: int,
) -> tf.Tensor:
    """Returns the log-probabilities of the next token, float32 `(rows, vocab_size)`."""
    log_probs, vocab_size = tf.nn.log_softmax(logits), logits.shape[-1]
    if suppressed_ids:
        suppressed = tf.reduce_any(tf.one_hot(list(suppressed_ids), vocab_size) > 0, axis=0)
        log_probs = tf.where(suppressed, _MINUS_INFINITY, log_probs)
    if no_repeat_ngram:
        repeats = repeats_ngram(token_ids, time, ngram=no_repeat_ngram, vocab_size=vocab_size)
        log_probs = tf.where(repeats, _MINUS_INFINITY, log_probs)
    return log_probs


def _expand(
    alive: _Hypotheses, log_probs: tf.Tensor, time: tf.Tensor
) -> tuple[_Hypotheses, tf.Tensor]:
    """Returns the best `2 * beam` continuations, best first, and each one's parent in the beam.

    At most `beam` of them end with EOS, one for each parent, so `beam` others are always left.
    """
    batch, beam = tf.shape(alive.log_probs)[0], alive.log_probs.shape[1]
    vocab_size = log_probs.shape[-1]
    # (batch * beam, vocab) -> (batch, beam, vocab)
    log_probs = tf.reshape(log_probs, (batch, beam, vocab_size))
    # Nobody outside its own parent's best `2 * beam` can be among the line's best `2 * beam`.
    num_each = min(2 * beam, vocab_size)
    log_probs, token_ids = tf.math.top_k(log_probs, num_each)
    total = tf.reshape(alive.log_probs[:, :, tf.newaxis] + log_probs, (batch, beam * num_each))
    best, chosen = tf.math.top_k(total, min(2 * beam, beam * num_each))
    parents = chosen // num_each
    token_ids = tf.gather(tf.reshape(token_ids, (batch, -1)), chosen, batch_dims=1)
    return (
        _Hypotheses(
            _write(tf.gather(alive.token_ids, parents, batch_dims=1), time, token_ids),
            tf.gather(alive.lengths, parents, batch_dims=1) + 1,
            best,
        ),
        parents,
    )


def _drop(hypotheses: _Hypotheses, where: tf.Tensor) -> _Hypotheses:
    """Empties the places where the mask is True."""
    return hypotheses._replace(
        log_probs=tf.where(where, _MINUS_INFINITY, hypotheses.log_probs),
    )


def _best(hypotheses: _Hypotheses, number: int) -> tuple[_Hypotheses, tf.Tensor]:
    """Returns the likeliest hypotheses, best first, and where they stood."""
    _, chosen = tf.math.top_k(hypotheses.log_probs, number)
    return _take(hypotheses, chosen), chosen


def _merge(
    kept: _Hypotheses, new: _Hypotheses, number: int, length_penalty: tf.Tensor | float
) -> _Hypotheses:
    """Returns the best of both by score, best first."""
    both = _Hypotheses(*(tf.concat(parts, axis=1) for parts in zip(kept, new, strict=True)))
    scores = normalize_log_probs(both.log_probs, both.lengths, length_penalty)
    # The score of an empty place shrinks with its length: keep it below every real one.
    scores = tf.where(both.log_probs > _MINUS_INFINITY / 2, scores, _MINUS_INFINITY)
    return _take(both, tf.math.top_k(scores, number).indices)


def _rank(
    loop: _BeamState, number: int, length_penalty: tf.Tensor | float, pad_id: int
) -> SearchResult:
    """Returns the finished hypotheses and, where they are too few, those cut at `max_length`.

    Where there are too few of both, because so much is forbidden, a place has no token.
    """
    beam = loop.alive.log_probs.shape[1]
    place = tf.range(beam)
    num_kept = tf.minimum(loop.num_finished, beam)[:, tf.newaxis]
    # Finished ones stand at 0 .. beam - 1 of both lists joined, those alive from `beam` on.
    chosen = tf.where(place < num_kept, place, beam + place - num_kept)[:, :number]
    both = _Hypotheses(
        *(tf.concat(parts, axis=1) for parts in zip(loop.finished, loop.alive, strict=True))
    )
    found = _take(both, chosen)
    is_empty = found.log_probs <= _MINUS_INFINITY / 2
    found = _Hypotheses(
        tf.where(is_empty[..., tf.newaxis], pad_id, found.token_ids),
        tf.where(is_empty, 0, found.lengths),
        tf.where(is_empty, _MINUS_INFINITY, found.log_probs),
    )
    scores = normalize_log_probs(found.log_probs, found.lengths, length_penalty)
    return SearchResult(found.token_ids, found.lengths, found.log_probs, scores)


def _take(hypotheses: _Hypotheses, indices: tf.Tensor) -> _Hypotheses:
    return _Hypotheses(*(tf.gather(part, indices, batch_dims=1) for part in hypotheses))


def _write(token_ids: tf.Tensor, time: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns `token_ids`, (..., max_length + 1), with `column`, (...), written at `time`."""
    here = tf.range(tf.shape(token_ids)[-1]) == time
    return tf.where(here, column[..., tf.newaxis], token_ids)


def _run(condition: Callable[..., tf.Tensor], body: Callable[..., Any], start: Any) -> Any:
    """Runs a while loop over one record whose tensors keep their rank, not each axis's size."""
    shapes = tf.nest.map_structure(
        lambda part: tf.TensorShape([None, *part.shape[1:]]) if part.shape.rank else part.shape,
        start,
    )
    return tf.while_loop(condition, body, (start,), shape_invariants=(shapes,))[0]
