"""Greedy and beam search, batched and in graph, over a function that feeds one token.

A search stops a hypothesis at EOS and never extends it. A line that is finished is frozen, so its
result does not depend on how long the other lines of the batch go on.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import tensorflow as tf

from seq2seq_kit.decoding.constraints import MINUS_INFINITY, Constraint

BLOCK = 64
"""Columns that beam search looks at together: logits of so many, or a multiple, need no filling."""

REGISTER = 16
"""Numbers in the widest vector register, 512 bits."""


class StepOutput(NamedTuple):
    """What the step function gives for the tokens it was fed."""

    logits: tf.Tensor
    """float32 `(rows, vocab_size)`. Unnormalised log-probabilities of the next token."""
    state: Any
    """The state after these tokens: any nest of tensors with leading axis `rows`."""


StepFunction = Callable[[tf.Tensor, Any, Any], StepOutput]
"""`step(token_ids, state, memory)`: feeds int32 `(rows,)` tokens, one to each row."""


class SearchResult(NamedTuple):
    """The best hypotheses of each line by score, best first.

    A hypothesis is cut if it has `max_length` tokens and EOS is not the likeliest next one. Where
    the search closes such hypotheses, EOS counts in their log-probability and score all the same,
    so that they compare with those that ended: as texts of that length.
    """

    token_ids: tf.Tensor
    """int32 `(batch, hypotheses, max_length + 1)`. Generated ids, EOS included unless the
    hypothesis is cut, then padding."""
    lengths: tf.Tensor
    """int32 `(batch, hypotheses)`. Tokens in `token_ids`."""
    log_probs: tf.Tensor
    """float32 `(batch, hypotheses)`. Summed over these tokens, in nats, and over a missing EOS."""
    scores: tf.Tensor
    """float32 `(batch, hypotheses)`. What they are ranked by: `normalize_log_probs`."""
    is_cut: tf.Tensor
    """bool `(batch, hypotheses)`. Whether `max_length` cut it."""


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
    grown = (5.0 + tf.cast(lengths, tf.float32)) / 6.0
    return log_probs / _in_own_registers(lambda value: value**length_penalty, grown)


def _in_own_registers(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """Returns an elementwise function of values, with bits that do not depend on their places.

    On a CPU, the last values of a tensor that fill no vector register are computed one by one, and
    a power or a logarithm then can have another last bit.
    """
    return function(tf.repeat(values[..., tf.newaxis], REGISTER, axis=-1))[..., 0]


class _RowState(NamedTuple):
    """What a search carries along with each hypothesis and never looks into."""

    step: Any  # of the step function
    constraints: tuple[Any, ...]  # one of each constraint

    @classmethod
    def start(
        cls,
        state: Any,
        constraints: Sequence[Constraint],
        rows: tf.Tensor,
        max_length: tf.Tensor | int,
    ) -> Self:
        return cls(state, tuple(constraint.start(rows, max_length) for constraint in constraints))


class _GreedyState(NamedTuple):
    time: tf.Tensor  # int32 (): steps taken
    state: _RowState  # leading axis batch
    fed: tf.Tensor  # int32 (batch,): the token to feed next
    done: tf.Tensor  # bool (batch,)
    token_ids: tf.Tensor  # int32 (batch, max_length + 1)
    lengths: tf.Tensor  # int32 (batch,)
    log_probs: tf.Tensor  # float32 (batch,)
    is_cut: tf.Tensor  # bool (batch,)


def greedy_search(
    step: StepFunction,
    start_ids: tf.Tensor,
    state: Any,
    *,
    memory: Any = (),
    is_done: tf.Tensor | None = None,
    row_counts: Sequence[int] = (),
    max_length: tf.Tensor | int,
    length_penalty: tf.Tensor | float = 0.0,
    suppressed_ids: Sequence[int] = (),
    constraints: Sequence[Constraint] = (),
    close_at_limit: bool = True,
    pad_id: int = 0,
    eos_id: int = 3,
) -> SearchResult:
    """Takes the likeliest token at each step until EOS or `max_length` tokens.

    Args:
        step: Feeds one token to each row; here a row is a line.
        start_ids: int32 `(batch,)`. The first tokens to feed, such as BOS.
        state: The step function's state before them.
        memory: What the step function reads of each line and never changes: any nest of tensors
            with leading axis `batch`.
        is_done: bool `(batch,)`. True where a line is not to be searched: its results mean nothing.
        row_counts: Numbers of lines, fewer than `batch`, to which the batch shrinks when so few go
            on; without any, lines that have ended stay in it.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: Only for `scores`: greedy search itself ranks nothing.
        suppressed_ids: Tokens that are never taken. Their probability is not given to the others,
            so that log-probabilities stay those of the model.
        constraints: What a hypothesis must not contain. The probability of a forbidden token is not
            given to the others either.
        close_at_limit: Whether the log-probability of EOS counts for a hypothesis that is cut at
            `max_length`; False where reaching it is a usual end.
        pad_id: What stands after a hypothesis's end.
        eos_id: The token that ends a hypothesis.

    Returns:
        A `SearchResult` with one hypothesis a line.
    """
    batch = tf.shape(start_ids)[0]

    def body(loop: _GreedyState, memory: Any) -> _GreedyState:
        output = step(loop.fed, loop.state.step, memory)
        logits, constrained = _allowed(
            output.logits,
            loop.token_ids,
            loop.time,
            suppressed_ids,
            constraints,
            loop.state.constraints,
        )
        token = tf.argmax(logits, axis=-1, output_type=tf.int32)
        log_normalizer = log_normalizer_of(output.logits)
        gain = tf.gather(logits, token, batch_dims=1) - log_normalizer
        ends = token == eos_id
        # After `max_length` tokens only EOS may still follow.
        cut = ~loop.done & ~ends & (loop.time >= max_length)
        taken = ~loop.done & ~cut
        counted = taken
        if close_at_limit:
            gain = tf.where(cut, output.logits[:, eos_id] - log_normalizer, gain)
            counted |= cut
        return _GreedyState(
            time=loop.time + 1,
            state=_RowState(output.state, constrained),
            fed=token,
            done=loop.done | ends,
            token_ids=_write(loop.token_ids, loop.time, tf.where(taken, token, pad_id)),
            lengths=loop.lengths + tf.cast(taken, tf.int32),
            log_probs=loop.log_probs + tf.where(counted, gain, 0.0),
            is_cut=loop.is_cut | cut,
        )

    def take(loop: _GreedyState, lines: tf.Tensor) -> _GreedyState:
        rest = loop._replace(time=())
        return tf.nest.map_structure(lambda part: tf.gather(part, lines), rest)._replace(
            time=loop.time
        )

    token_ids, lengths, log_probs, is_cut = _run(
        body,
        _GreedyState(
            time=tf.constant(0),
            state=_RowState.start(state, constraints, batch, max_length),
            fed=start_ids,
            done=tf.zeros([batch], tf.bool) if is_done is None else is_done,
            token_ids=tf.fill([batch, max_length + 1], pad_id),
            lengths=tf.zeros([batch], tf.int32),
            log_probs=tf.zeros([batch]),
            is_cut=tf.zeros([batch], tf.bool),
        ),
        memory,
        take,
        lambda loop: (loop.token_ids, loop.lengths, loop.log_probs, loop.is_cut),
        max_length=max_length,
        row_counts=row_counts,
    )
    counted = lengths + tf.cast(is_cut, tf.int32) if close_at_limit else lengths
    scores = normalize_log_probs(log_probs, counted, length_penalty)
    found = (token_ids, lengths, log_probs, scores, is_cut)
    return SearchResult(*(tf.expand_dims(part, 1) for part in found))


class _Alive(NamedTuple):
    """Hypotheses that go on: the greedy one first while it does, the others by log-probability."""

    token_ids: tf.Tensor  # int32 (batch, beam, max_length + 1)
    log_probs: tf.Tensor  # float32 (batch, beam); MINUS_INFINITY: an empty place


class _Candidates(NamedTuple):
    """Hypotheses with one token more."""

    parents: tf.Tensor  # int32 (batch, candidates): the place in the beam of what they continue
    last_ids: tf.Tensor  # int32 (batch, candidates): their last token
    log_probs: tf.Tensor  # float32 (batch, candidates); MINUS_INFINITY: an empty place


class _Blocks(NamedTuple):
    """Logits of a step in blocks of `BLOCK` columns; what fills the last block is -infinity."""

    values: tf.Tensor  # float32 (batch, beam, blocks, BLOCK)
    largest: tf.Tensor  # float32 (batch, beam, blocks): of each block


class _BeamState(NamedTuple):
    time: tf.Tensor  # int32 (): steps taken
    state: _RowState  # leading axis batch * beam
    fed: tf.Tensor  # int32 (batch * beam,): the token to feed next
    done: tf.Tensor  # bool (batch,)
    alive: _Alive
    greedy_lives: tf.Tensor  # bool (batch,): whether the first alive is what greedy search has
    finished: SearchResult  # hypotheses that ended or were cut: beam of them, by score
    num_finished: tf.Tensor  # int32 (batch,): all that ever finished, not only those kept


def beam_search(
    step: StepFunction,
    start_ids: tf.Tensor,
    state: Any,
    *,
    beam_size: int,
    num_hypotheses: int = 1,
    memory: Any = (),
    is_done: tf.Tensor | None = None,
    row_counts: Sequence[int] = (),
    max_length: tf.Tensor | int,
    length_penalty: tf.Tensor | float = 0.0,
    suppressed_ids: Sequence[int] = (),
    constraints: Sequence[Constraint] = (),
    close_at_limit: bool = True,
    pad_id: int = 0,
    eos_id: int = 3,
) -> SearchResult:
    """Keeps the `beam_size` likeliest beginnings of each line at each step.

    Of all continuations of these, the best `beam_size` are looked at: those that end with EOS are
    finished, and the best others live on. What greedy search would take always is among them, in
    the last place if need be, so that the best hypothesis never scores lower than greedy search's.

    A line is done once `beam_size` hypotheses are finished, the greedy one among them unless it can
    no longer win, or as soon as no hypothesis that goes on can win, even if each further token had
    the probability 1. A beam of 1 is greedy search; a beam that holds every hypothesis finds the
    best one.

    Args:
        step: Feeds one token to each row; the `beam_size` rows of a line stand together.
        start_ids: int32 `(batch,)`. The first tokens to feed, such as BOS.
        state: The step function's state before them, leading axis `batch`.
        beam_size: Hypotheses kept at each step.
        num_hypotheses: Hypotheses returned for each line, at most `beam_size`.
        memory: As in `greedy_search`: leading axis `batch`, not `batch * beam_size`.
        is_done: As in `greedy_search`.
        row_counts: As in `greedy_search`.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: As in `normalize_log_probs`.
        suppressed_ids: Tokens that are never taken. Their probability is not given to the others,
            so that log-probabilities stay those of the model.
        constraints: What a hypothesis must not contain. The probability of a forbidden token is not
            given to the others either.
        close_at_limit: Whether the log-probability of EOS counts for a hypothesis that is cut at
            `max_length`; False where reaching it is a usual end.
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

    candidates_in_beam = tf.constant([*[True] * beam_size, *[False] * beam_size, True])

    def body(loop: _BeamState, memory: Any) -> _BeamState:
        output = step(loop.fed, loop.state.step, memory)
        before = loop.alive
        logits, constrained = _allowed(
            output.logits,
            tf.reshape(before.token_ids, (tf.size(loop.fed), -1)),
            loop.time,
            suppressed_ids,
            constraints,
            loop.state.constraints,
        )
        by_line = tf.shape(before.log_probs)
        log_normalizer = tf.reshape(log_normalizer_of(output.logits), by_line)
        blocks = _in_blocks(logits, beam_size)
        grown = _with_greedy(
            _expand(before.log_probs, blocks, log_normalizer),
            _continue_greedily(before.log_probs, blocks, log_normalizer, loop.greedy_lives),
        )
        # After `max_length` tokens only EOS may still follow.
        is_last = loop.time >= max_length
        is_cut = tf.reshape(logits[:, eos_id], by_line) < tf.reduce_max(blocks.largest, axis=-1)
        is_cut &= is_last
        eos_gain = tf.reshape(output.logits[:, eos_id], by_line) - log_normalizer
        if not close_at_limit:
            eos_gain = tf.where(is_cut, 0.0, eos_gain)
        closed = _close(before.log_probs + eos_gain, eos_id)
        candidates = tf.nest.map_structure(
            lambda one, other: tf.where(is_last, one, other), closed, grown
        )

        is_eos = candidates.last_ids == eos_id
        ends = is_eos & candidates_in_beam & ~loop.done[:, tf.newaxis]
        ends &= candidates.log_probs > MINUS_INFINITY / 2
        num_finished = loop.num_finished + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)
        is_cut = tf.gather(is_cut, candidates.parents, batch_dims=1)
        scores = normalize_log_probs(candidates.log_probs, loop.time + 1, length_penalty)
        if not close_at_limit:
            shorter = normalize_log_probs(candidates.log_probs, loop.time, length_penalty)
            scores = tf.where(is_cut, shorter, scores)
        scores = tf.where(ends, scores, MINUS_INFINITY)
        finished = _finish(
            loop.finished, before.token_ids, candidates, scores, is_cut, loop.time, eos_id
        )

        # The greedy hypothesis, the last candidate, goes first.
        likely = tf.where(is_eos, MINUS_INFINITY, candidates.log_probs)
        greedy_lives = likely[:, -1] > MINUS_INFINITY / 2
        order = tf.where(greedy_lives, math.inf, MINUS_INFINITY)[:, tf.newaxis]
        chosen = tf.math.top_k(tf.concat([likely[:, :-1], order], axis=1), beam_size).indices
        parents = tf.gather(candidates.parents, chosen, batch_dims=1)
        fed = tf.gather(candidates.last_ids, chosen, batch_dims=1)
        alive = _Alive(
            _write(tf.gather(before.token_ids, parents, batch_dims=1), loop.time, fed),
            tf.gather(likely, chosen, batch_dims=1),
        )
        # What a hypothesis scores at most: each further token has the probability 1.
        bounds = normalize_log_probs(alive.log_probs, max_length + 1, length_penalty)
        greedy_can_win = greedy_lives & (bounds[:, 0] > finished.scores[:, 0])
        is_decided = finished.scores[:, num_hypotheses - 1] >= tf.reduce_max(bounds, axis=1)
        rows = _rows_of(tf.range(tf.shape(parents)[0]), parents, beam_size)
        return _BeamState(
            time=loop.time + 1,
            state=tf.nest.map_structure(
                lambda part: tf.gather(part, rows), _RowState(output.state, constrained)
            ),
            fed=tf.reshape(fed, [-1]),
            done=loop.done | is_decided | ((num_finished >= beam_size) & ~greedy_can_win),
            alive=alive,
            greedy_lives=greedy_lives,
            finished=finished,
            num_finished=num_finished,
        )

    def take(loop: _BeamState, lines: tf.Tensor) -> _BeamState:
        rows = _rows_of(lines, tf.range(beam_size)[tf.newaxis], beam_size)
        by_row = (loop.state, loop.fed)
        by_row = tf.nest.map_structure(lambda part: tf.gather(part, rows), by_row)
        by_line = (loop.done, loop.alive, loop.greedy_lives, loop.finished, loop.num_finished)
        by_line = tf.nest.map_structure(lambda part: tf.gather(part, lines), by_line)
        return _BeamState(loop.time, *by_row, *by_line)

    no_ids = tf.fill([batch, beam_size, max_length + 1], pad_id)
    nothing = tf.fill([batch, beam_size], MINUS_INFINITY)
    # All rows of a line begin alike: only the first may have successors.
    first = tf.concat([tf.zeros([batch, 1]), nothing[:, 1:]], axis=1)
    no_lengths, not_cut = tf.zeros_like(first, tf.int32), tf.zeros_like(first, tf.bool)
    found: SearchResult = _run(
        body,
        _BeamState(
            time=tf.constant(0),
            state=tf.nest.map_structure(
                lambda part: tf.repeat(part, beam_size, axis=0),
                _RowState.start(state, constraints, batch, max_length),
            ),
            fed=tf.repeat(start_ids, beam_size),
            done=tf.zeros([batch], tf.bool) if is_done is None else is_done,
            alive=_Alive(no_ids, first),
            greedy_lives=tf.ones([batch], tf.bool),
            finished=SearchResult(no_ids, no_lengths, nothing, nothing, not_cut),
            num_finished=tf.zeros([batch], tf.int32),
        ),
        memory,
        take,
        lambda loop: loop.finished,
        max_length=max_length,
        row_counts=row_counts,
    )
    # Where too little is allowed there are fewer: a place that nothing fills has no token.
    return SearchResult(*(part[:, :num_hypotheses] for part in found))


def _rows_of(lines: tf.Tensor, places: tf.Tensor, beam_size: int) -> tf.Tensor:
    """Returns the rows of the step function in which places of the lines' beams stand."""
    return tf.reshape(lines[:, tf.newaxis] * beam_size + places, [-1])


def _allowed(
    logits: tf.Tensor,
    token_ids: tf.Tensor,
    time: tf.Tensor,
    suppressed_ids: Sequence[int],
    constraints: Sequence[Constraint],
    states: Sequence[Any],
) -> tuple[tf.Tensor, tuple[Any, ...]]:
    """Returns logits, `MINUS_INFINITY` for what may not be taken, and the constraints' states."""
    if suppressed_ids:
        # What is added to so large a number is lost in it; a choice would take twice the time.
        columns = _num_columns(logits)
        suppressed = tf.reduce_max(tf.one_hot(list(suppressed_ids), columns), axis=0)
        logits += MINUS_INFINITY * suppressed
    next_states = []
    for constraint, state in zip(constraints, states, strict=True):
        logits, state = constraint(logits, token_ids, time, state)
        next_states.append(state)
    return logits, tuple(next_states)


def _num_columns(logits: tf.Tensor) -> int | tf.Tensor:
    """Returns the static number of columns, or where there is none the one at run time."""
    static: int | None = logits.shape[-1]
    return tf.shape(logits)[-1] if static is None else static


def log_normalizer_of(logits: tf.Tensor) -> tf.Tensor:
    """Returns what turns logits into log-probabilities when it is taken off, float32 `(rows,)`.

    By way of the largest probability, which cannot underflow: softmax is the fastest of the
    operations that pass over all logits.
    """
    largest = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    return tf.reduce_max(logits, axis=-1) - _in_own_registers(tf.math.log, largest)


def _in_blocks(logits: tf.Tensor, beam: int) -> _Blocks:
    """Returns float32 `(batch * beam, columns)` in blocks."""
    num_columns = _num_columns(logits)
    num_blocks = -(-num_columns // BLOCK)
    # What fills the last block never is among the best.
    missing = [[0, 0], [0, num_blocks * BLOCK - num_columns]]
    values = tf.reshape(
        tf.pad(logits, missing, constant_values=-math.inf), (-1, beam, num_blocks, BLOCK)
    )
    return _Blocks(values, tf.reduce_max(values, axis=-1))


def _expand(alive: tf.Tensor, blocks: _Blocks, log_normalizer: tf.Tensor) -> _Candidates:
    """Returns the best `2 * beam` continuations of each line, the best first; equal ones anyhow.

    At most `beam` of them end with EOS, one for each parent, so `beam` others are always left.

    They stand in the `2 * beam` blocks of columns whose largest values are best: the rest of the
    line's `beam * columns` need not be ordered, which takes many times as long.

    Args:
        alive: float32 `(batch, beam)`. The log-probabilities of what is continued.
        blocks: The logits of the next token.
        log_normalizer: float32 `(batch, beam)`.
    """
    batch, beam = tf.shape(alive)[0], alive.shape[1]
    static: int | None = blocks.values.shape[2]
    num_blocks = tf.shape(blocks.values)[2] if static is None else static
    largest = alive[..., tf.newaxis] + (blocks.largest - log_normalizer[..., tf.newaxis])
    smaller = min if isinstance(num_blocks, int) else tf.minimum
    num_chosen = smaller(2 * beam, beam * num_blocks)
    largest = tf.reshape(largest, (batch, beam * num_blocks))
    chosen = tf.math.top_k(largest, num_chosen).indices

    parents = chosen // num_blocks
    before = tf.gather(alive, parents, batch_dims=1)
    taken_off = tf.gather(log_normalizer, parents, batch_dims=1)
    values = tf.reshape(blocks.values, (batch, beam * num_blocks, BLOCK))
    inside = tf.gather(values, chosen, batch_dims=1) - taken_off[..., tf.newaxis]
    inside = tf.reshape(before[..., tf.newaxis] + inside, (batch, num_chosen * BLOCK))
    log_probs, places = tf.math.top_k(inside, 2 * beam)
    of, column = places // BLOCK, places % BLOCK
    block = tf.gather(chosen, of, batch_dims=1) % num_blocks
    return _Candidates(tf.gather(parents, of, batch_dims=1), block * BLOCK + column, log_probs)


def _continue_greedily(
    alive: tf.Tensor, blocks: _Blocks, log_normalizer: tf.Tensor, greedy_lives: tf.Tensor
) -> _Candidates:
    """Returns how greedy search goes on: one candidate, empty where its hypothesis has ended."""
    block = tf.argmax(blocks.largest[:, 0], axis=-1, output_type=tf.int32)
    values = tf.gather(blocks.values[:, 0], block, batch_dims=1)
    column = tf.argmax(values, axis=-1, output_type=tf.int32)
    log_probs = alive[:, 0] + (tf.reduce_max(values, axis=-1) - log_normalizer[:, 0])
    one = _Candidates(
        tf.zeros_like(column),
        block * BLOCK + column,
        tf.where(greedy_lives, log_probs, MINUS_INFINITY),
    )
    return tf.nest.map_structure(lambda part: part[:, tf.newaxis], one)


def _with_greedy(candidates: _Candidates, greedy: _Candidates) -> _Candidates:
    """Returns all of them, the greedy one last and nowhere else."""
    is_greedy = (candidates.parents == 0) & (candidates.last_ids == greedy.last_ids)
    is_greedy &= greedy.log_probs > MINUS_INFINITY / 2
    others = candidates._replace(
        log_probs=tf.where(is_greedy, MINUS_INFINITY, candidates.log_probs)
    )
    return tf.nest.map_structure(lambda one, other: tf.concat([one, other], axis=1), others, greedy)


def _close(log_probs: tf.Tensor, eos_id: int) -> _Candidates:
    """Returns each hypothesis with EOS, filled up to the number of `_with_greedy`.

    Args:
        log_probs: float32 `(batch, beam)`. With EOS.
        eos_id: The token that ends a hypothesis.
    """
    beam = log_probs.shape[1]
    missing = [[0, 0], [0, beam + 1]]
    parents = tf.broadcast_to(tf.range(beam), tf.shape(log_probs))
    return _Candidates(
        tf.pad(parents, missing),
        tf.pad(tf.fill(tf.shape(log_probs), eos_id), missing, constant_values=eos_id),
        tf.pad(log_probs, missing, constant_values=MINUS_INFINITY),
    )


def _finish(
    finished: SearchResult,
    alive_ids: tf.Tensor,
    candidates: _Candidates,
    scores: tf.Tensor,
    is_cut: tf.Tensor,
    time: tf.Tensor,
    eos_id: int,
) -> SearchResult:
    """Returns the best of those finished before and of the candidates that end now.

    Args:
        finished: Those before.
        alive_ids: int32 `(batch, beam, max_length + 1)`. What the candidates continue.
        candidates: Hypotheses of `time + 1` tokens.
        scores: float32 `(batch, candidates)`. `MINUS_INFINITY` for those that do not end.
        is_cut: bool `(batch, candidates)`. Whether EOS is no token of theirs.
        time: int32 `()`.
        eos_id: The token that ends a hypothesis.
    """
    beam = alive_ids.shape[1]
    best, chosen = tf.math.top_k(tf.concat([finished.scores, scores], axis=1), beam)
    is_new = chosen >= beam
    # Where each one's tokens stand in those of both joined.
    kept = tf.broadcast_to(tf.range(beam), tf.shape(finished.lengths))
    rows = tf.concat([kept, beam + candidates.parents], axis=1)
    both_ids = tf.concat([finished.token_ids, alive_ids], axis=1)
    token_ids = tf.gather(both_ids, tf.gather(rows, chosen, batch_dims=1), batch_dims=1)
    lengths = tf.fill(tf.shape(scores), time + 1) - tf.cast(is_cut, tf.int32)
    lengths, log_probs, is_cut = (
        tf.gather(tf.concat(both, axis=1), chosen, batch_dims=1)
        for both in (
            (finished.lengths, lengths),
            (finished.log_probs, candidates.log_probs),
            (finished.is_cut, is_cut),
        )
    )
    ends_here = (is_new & ~is_cut)[..., tf.newaxis] & (tf.range(tf.shape(token_ids)[-1]) == time)
    token_ids = tf.where(ends_here, eos_id, token_ids)
    is_empty = best <= MINUS_INFINITY / 2
    return SearchResult(
        tf.where(is_empty[..., tf.newaxis], finished.token_ids, token_ids),
        tf.where(is_empty, 0, lengths),
        tf.where(is_empty, MINUS_INFINITY, log_probs),
        best,
        is_cut & ~is_empty,
    )


def _write(token_ids: tf.Tensor, time: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns `token_ids`, (..., max_length + 1), with `column`, (...), written at `time`."""
    here = tf.range(tf.shape(token_ids)[-1]) == time
    return tf.where(here, column[..., tf.newaxis], token_ids)


def _run(
    body: Callable[[Any, Any], Any],
    start: Any,
    memory: Any,
    take: Callable[[Any, tf.Tensor], Any],
    results: Callable[[Any], Any],
    *,
    max_length: tf.Tensor | int,
    row_counts: Sequence[int],
) -> Any:
    """Runs a search to its end and returns the results of all lines.

    Whenever so few lines go on that they fill one of `row_counts`, the others leave the batch.

    Args:
        body: One step: from a record with `time` and `done`, and the memory, to the next record.
        start: The first record.
        memory: Of all lines.
        take: Returns a record of the given lines only.
        results: Returns what is wanted of a record: a nest of tensors with leading axis `batch`.
        max_length: Of the search.
        row_counts: As in `greedy_search`.
    """

    def goes_on(loop: Any) -> tf.Tensor:
        return (loop.time <= max_length) & ~tf.reduce_all(loop.done)

    def run_until_it_shrinks(
        loop: Any, memory: Any, lines: tf.Tensor, found: Any
    ) -> tuple[Any, Any, tf.Tensor, Any]:
        counts = tf.constant([0, *row_counts])
        fewer = tf.reduce_max(tf.boolean_mask(counts, counts < tf.size(lines)))
        loop = run_while(
            lambda loop: goes_on(loop) & (_num_going_on(loop) > fewer),
            lambda loop: (body(loop, memory),),
            (loop,),
        )[0]
        found = tf.nest.map_structure(
            lambda whole, part: tf.tensor_scatter_nd_update(whole, lines[:, tf.newaxis], part),
            found,
            results(loop),
        )
        # Where rows are missing, the first line that goes on stands there once more: it comes to
        # the same result in each of its rows.
        left = tf.cast(tf.where(~loop.done)[:, 0], tf.int32)
        fill = tf.fill([tf.maximum(fewer - tf.size(left), 0)], tf.concat([left, [0]], 0)[0])
        chosen = tf.concat([left, fill], 0)
        memory = tf.nest.map_structure(lambda part: tf.gather(part, chosen), memory)
        return take(loop, chosen), memory, tf.gather(lines, chosen), found

    if not row_counts:
        loop = run_while(goes_on, lambda loop: (body(loop, memory),), (start,))[0]
        return results(loop)
    lines = tf.range(tf.size(start.done))
    first = (start, memory, lines, results(start))
    return run_while(lambda loop, *_: goes_on(loop), run_until_it_shrinks, first)[-1]


def _num_going_on(loop: Any) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(~loop.done, tf.int32))


def run_while(condition: Callable[..., tf.Tensor], body: Callable[..., Any], start: Any) -> Any:
    """Runs a while loop whose tensors keep their rank, not each axis's size."""
    shapes = tf.nest.map_structure(
        lambda part: tf.TensorShape([None, *part.shape[1:]]) if part.shape.rank else part.shape,
        start,
    )
    return tf.while_loop(condition, body, start, shape_invariants=shapes)
