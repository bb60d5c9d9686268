"""Beam search."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding.greedy import write_column
from seq2seq_kit.decoding.numerics import (
    Blocks,
    best_of_first_row,
    best_of_line,
    in_blocks,
    log_normalizer,
)
from seq2seq_kit.decoding.processors import process
from seq2seq_kit.decoding.protocol import (
    MINUS_INFINITY,
    Decoder,
    History,
    LogitsProcessor,
    SearchInputs,
    SearchResult,
)
from seq2seq_kit.decoding.scores import normalize_log_probs


class Alive(NamedTuple):
    """Unfinished hypotheses: the greedy one first while it is unfinished, the others by rank."""

    token_ids: tf.Tensor  # int32 (lines, beam, max_length + 1)
    ranked: tf.Tensor  # float32 (lines, beam): log-probability; MINUS_INFINITY: an empty place
    log_probs: Any  # float32 (lines, beam): before processors that rescale; () without any


class Candidates(NamedTuple):
    """Hypotheses with one more token."""

    parents: tf.Tensor  # int32 (lines, candidates): the place in the beam of what they extend
    last_ids: tf.Tensor  # int32 (lines, candidates): their last token
    ranked: tf.Tensor  # float32 (lines, candidates); MINUS_INFINITY: an empty place
    log_probs: tf.Tensor  # float32 (lines, candidates): as in Alive; `ranked` without any
    is_cut: tf.Tensor  # bool (lines, candidates): whether EOS is no token of theirs

    @property
    def exist(self) -> tf.Tensor:
        """Bool `(lines, candidates)`."""
        return self.ranked > MINUS_INFINITY / 2


class BeamRecord(NamedTuple):
    """The record of a `BeamSearch`; `rows` are `lines * beam`."""

    time: tf.Tensor  # int32 (): steps taken
    state: Any  # of the decoder, leading axis rows
    processor_states: tuple[Any, ...]  # leading axis rows
    fed: tf.Tensor  # int32 (rows,): the token to feed next
    done: tf.Tensor  # bool (lines,)
    alive: Alive
    greedy_lives: tf.Tensor  # bool (lines,): whether the first alive is what greedy search has
    finished: SearchResult  # hypotheses that ended or were cut: beam of them, by score
    num_finished: tf.Tensor  # int32 (lines,): all that ever finished, not only those kept


@dataclass(frozen=True, kw_only=True, eq=False)
class BeamSearch:
    """Keeps the `beam_size` likeliest beginnings of each line at each step.

    Of all continuations of these, the best `beam_size` are examined: those that end with EOS are
    finished, and the best others live on. The one that greedy search would take is always among
    them, in the last place if need be, so that the best hypothesis never scores lower than greedy
    search's.

    A line is done once `beam_size` hypotheses are finished, the greedy one among them unless it can
    no longer win, or as soon as no unfinished hypothesis can win, even if each further token had
    the probability 1. A beam of 1 is greedy search; a beam that holds every hypothesis finds the
    best one.

    Args:
        decoder: Feeds one token to each row; the `beam_size` rows of a line are adjacent.
        processors: As in `OneTokenSearch`. What they rescale counts in ranks and scores, not in
            log-probabilities.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: As in `normalize_log_probs`.
        close_at_limit: As in `OneTokenSearch`.
        beam_size: Hypotheses kept at each step.
        num_hypotheses: Hypotheses returned for each line, at most `beam_size`.
        pad_id: Fills what follows a hypothesis's end.
        eos_id: Ends a hypothesis.

    Raises:
        ValueError: If `num_hypotheses` is not between 1 and `beam_size`.
    """

    decoder: Decoder
    processors: Sequence[LogitsProcessor] = ()
    max_length: tf.Tensor | int
    length_penalty: tf.Tensor | float = 0.0
    close_at_limit: bool = True
    beam_size: int
    num_hypotheses: int = 1
    pad_id: int = 0
    eos_id: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.num_hypotheses <= self.beam_size:
            raise ValueError(
                f"`num_hypotheses` must be between 1 and `beam_size`. Received: num_hypotheses="
                f"{self.num_hypotheses}, beam_size={self.beam_size}. Enlarge the beam."
            )

    def start(self, inputs: SearchInputs) -> BeamRecord:
        """Returns the record before the first step."""
        lines = tf.shape(inputs.token_ids)[0]
        no_ids = tf.fill([lines, self.beam_size, self.max_length + 1], self.pad_id)
        nothing = tf.fill([lines, self.beam_size], MINUS_INFINITY)
        # All rows of a line begin alike: only the first may have successors.
        first = tf.concat([tf.zeros([lines, 1]), nothing[:, 1:]], axis=1)
        no_lengths, not_cut = tf.zeros_like(first, tf.int32), tf.zeros_like(first, tf.bool)
        states = tuple(processor.start(lines, self.max_length) for processor in self.processors)
        state, processor_states = tf.nest.map_structure(
            lambda part: tf.repeat(part, self.beam_size, axis=0), (inputs.state, states)
        )
        done = tf.zeros([lines], tf.bool) if inputs.is_done is None else inputs.is_done
        return BeamRecord(
            time=tf.constant(0),
            state=state,
            processor_states=processor_states,
            fed=tf.repeat(inputs.token_ids, self.beam_size),
            done=done,
            alive=Alive(no_ids, first, first if self._rescales else ()),
            greedy_lives=tf.ones([lines], tf.bool),
            finished=SearchResult(no_ids, no_lengths, nothing, nothing, not_cut),
            num_finished=tf.zeros([lines], tf.int32),
        )

    @property
    def _rescales(self) -> bool:
        return any(processor.rescales for processor in self.processors)

    def step(self, record: BeamRecord, memory: Any) -> BeamRecord:
        """Returns the record after one more token."""
        if not self._rescales:  # Both are the same, and the loop carries one of them.
            record = record._replace(alive=record.alive._replace(log_probs=record.alive.ranked))
        output = self.decoder.step(record.fed, record.state, memory)
        by_row = tf.reshape(record.alive.token_ids, (tf.size(record.fed), -1))
        logits, processor_states = process(
            self.processors, output.logits, History(by_row, record.time), record.processor_states
        )
        candidates = self._candidates(record, output.logits, logits)
        ends = self._ends(candidates) & ~record.done[:, tf.newaxis]
        finished = self._finish(record, candidates, ends)
        num_finished = record.num_finished + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)
        alive, parents, fed, greedy_lives = self._go_on(record, candidates)
        rows = self._rows(tf.range(tf.shape(parents)[0]), parents)
        state, processor_states = tf.nest.map_structure(
            lambda part: tf.gather(part, rows), (output.state, processor_states)
        )
        return BeamRecord(
            time=record.time + 1,
            state=state,
            processor_states=processor_states,
            fed=tf.reshape(fed, [-1]),
            done=record.done | self._is_done(alive, greedy_lives, finished, num_finished),
            alive=alive if self._rescales else alive._replace(log_probs=()),
            greedy_lives=greedy_lives,
            finished=finished,
            num_finished=num_finished,
        )

    def take(self, record: BeamRecord, lines: tf.Tensor) -> BeamRecord:
        """Returns the record of some lines only."""
        rows = self._rows(lines, tf.range(self.beam_size)[tf.newaxis])
        by_row = (record.state, record.processor_states, record.fed)
        by_row = tf.nest.map_structure(lambda part: tf.gather(part, rows), by_row)
        by_line = tf.nest.map_structure(lambda part: tf.gather(part, lines), record[4:])
        return BeamRecord(record.time, *by_row, *by_line)

    def finish(self, record: BeamRecord) -> SearchResult:
        """Returns the best hypotheses; where few tokens are allowed, empty ones are among them."""
        return SearchResult(*(part[:, : self.num_hypotheses] for part in record.finished))

    def certain_ids(self, record: BeamRecord) -> list[int]:
        """Returns the tokens that all hypotheses of the first line share.

        Finished ones are among them: any of them may win.
        """
        rows = _live_rows(record) + _finished_rows(record.finished)
        same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
        return [column[0] for column in same]

    def _rows(self, lines: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Returns the rows of places in the beams of lines."""
        return tf.reshape(lines[:, tf.newaxis] * self.beam_size + places, [-1])

    def _candidates(
        self, record: BeamRecord, model_logits: tf.Tensor, logits: tf.Tensor
    ) -> Candidates:
        """Returns the hypotheses with one more token; the greedy one is the last of them.

        Args:
            record: The record before the token.
            model_logits: float32 `(rows, vocab_size)`. Of the decoder.
            logits: float32 `(rows, vocab_size)`. What the processors made of them.
        """
        shape = tf.shape(record.alive.ranked)
        normalizer = tf.reshape(log_normalizer(model_logits), shape)
        blocks = in_blocks(logits, self.beam_size)
        extended = _with_greedy(
            self._extend(record.alive, blocks, normalizer),
            _extend_greedily(record.alive, blocks, normalizer, record.greedy_lives),
        )
        if self._rescales:
            extended = _with_model_log_probs(extended, record.alive, model_logits, normalizer)
        # After `max_length` tokens only EOS may still follow.
        is_last = record.time >= self.max_length
        eos = tf.reshape(logits[:, self.eos_id], shape)
        is_cut = is_last & (eos < tf.reduce_max(blocks.largest, axis=-1))
        eos = tf.reshape(model_logits[:, self.eos_id], shape) - normalizer
        if not self.close_at_limit:
            eos = tf.where(is_cut, 0.0, eos)
        closed = self._close(record.alive, eos, is_cut)
        return tf.nest.map_structure(
            lambda one, other: tf.where(is_last, one, other), closed, extended
        )

    def _extend(self, alive: Alive, blocks: Blocks, normalizer: tf.Tensor) -> Candidates:
        """Returns the best `2 * beam_size` continuations of each line, the best first.

        At most `beam_size` of them end with EOS, one for each parent, so as many others are left.
        """
        best = best_of_line(blocks, alive.ranked, normalizer, 2 * self.beam_size)
        is_cut = tf.zeros_like(best.rows, tf.bool)
        return Candidates(best.rows, best.columns, best.values, best.values, is_cut)

    def _close(self, alive: Alive, eos: tf.Tensor, is_cut: tf.Tensor) -> Candidates:
        """Returns each hypothesis with EOS, padded to the number of `_with_greedy`.

        Args:
            alive: The hypotheses.
            eos: float32 `(lines, beam)`. The log-probability that EOS adds.
            is_cut: bool `(lines, beam)`.
        """
        missing = [[0, 0], [0, self.beam_size + 1]]
        parents = tf.broadcast_to(tf.range(self.beam_size), tf.shape(eos))
        last_ids = tf.fill(tf.shape(eos), self.eos_id)
        return Candidates(
            tf.pad(parents, missing),
            tf.pad(last_ids, missing, constant_values=self.eos_id),
            tf.pad(alive.ranked + eos, missing, constant_values=MINUS_INFINITY),
            tf.pad(alive.log_probs + eos, missing, constant_values=MINUS_INFINITY),
            # The places of `missing` do not exist.
            tf.gather(is_cut, tf.pad(parents, missing), batch_dims=1),
        )

    def _ends(self, candidates: Candidates) -> tf.Tensor:
        """Returns which candidates finish: those in the beam, or greedy, that end with EOS."""
        in_beam = [*[True] * self.beam_size, *[False] * self.beam_size, True]
        return (candidates.last_ids == self.eos_id) & tf.constant(in_beam) & candidates.exist

    def _finish(self, record: BeamRecord, candidates: Candidates, ends: tf.Tensor) -> SearchResult:
        """Returns the best of those finished before and of the candidates that end now."""
        time, before = record.time, record.finished
        scores = normalize_log_probs(candidates.ranked, time + 1, self.length_penalty)
        if not self.close_at_limit:
            shorter = normalize_log_probs(candidates.ranked, time, self.length_penalty)
            scores = tf.where(candidates.is_cut, shorter, scores)
        scores = tf.where(ends, scores, MINUS_INFINITY)
        alive_ids = record.alive.token_ids
        return _keep_best(before, candidates, scores, alive_ids, time, eos_id=self.eos_id)

    def _go_on(
        self, record: BeamRecord, candidates: Candidates
    ) -> tuple[Alive, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the hypotheses that live on, the greedy one first.

        Returns:
            Them; int32 `(lines, beam)`, their parents and their last tokens; and bool `(lines,)`,
            whether the greedy one is among them.
        """
        is_eos = candidates.last_ids == self.eos_id
        ranked = tf.where(is_eos, MINUS_INFINITY, candidates.ranked)
        greedy_lives = ranked[:, -1] > MINUS_INFINITY / 2
        order = tf.where(greedy_lives, math.inf, MINUS_INFINITY)[:, tf.newaxis]
        chosen = tf.math.top_k(tf.concat([ranked[:, :-1], order], axis=1), self.beam_size).indices
        parents, last_ids, ranked, log_probs = (
            tf.gather(part, chosen, batch_dims=1)
            for part in (candidates.parents, candidates.last_ids, ranked, candidates.log_probs)
        )
        token_ids = tf.gather(record.alive.token_ids, parents, batch_dims=1)
        token_ids = write_column(token_ids, record.time, last_ids)
        return Alive(token_ids, ranked, log_probs), parents, last_ids, greedy_lives

    def _is_done(
        self,
        alive: Alive,
        greedy_lives: tf.Tensor,
        finished: SearchResult,
        num_finished: tf.Tensor,
    ) -> tf.Tensor:
        """Returns for which lines no hypothesis has to be followed further, bool `(lines,)`."""
        # What a hypothesis scores at most: each further token has the probability 1.
        bounds = normalize_log_probs(alive.ranked, self.max_length + 1, self.length_penalty)
        greedy_can_win = greedy_lives & (bounds[:, 0] > finished.scores[:, 0])
        worst_returned = finished.scores[:, self.num_hypotheses - 1]
        is_decided = worst_returned >= tf.reduce_max(bounds, axis=1)
        return is_decided | ((num_finished >= self.beam_size) & ~greedy_can_win)


def _keep_best(
    before: SearchResult,
    candidates: Candidates,
    scores: tf.Tensor,
    alive_ids: tf.Tensor,
    time: tf.Tensor,
    *,
    eos_id: int,
) -> SearchResult:
    """Returns the best of finished hypotheses and of candidates, as many as were finished.

    Args:
        before: The finished hypotheses.
        candidates: The others.
        scores: float32 `(lines, candidates)`. Of the candidates; MINUS_INFINITY: not finished.
        alive_ids: int32 `(lines, beam, max_length + 1)`. The tokens of what candidates extend.
        time: int32 `()`. How many these are.
        eos_id: Ends a candidate that is not cut.
    """
    beam_size = before.scores.shape[1]
    best, chosen = tf.math.top_k(tf.concat([before.scores, scores], axis=1), beam_size)
    is_new = chosen >= beam_size
    # The row of each one's tokens in those of both, joined.
    kept = tf.broadcast_to(tf.range(beam_size), tf.shape(before.lengths))
    rows = tf.concat([kept, beam_size + candidates.parents], axis=1)
    both_ids = tf.concat([before.token_ids, alive_ids], axis=1)
    token_ids = tf.gather(both_ids, tf.gather(rows, chosen, batch_dims=1), batch_dims=1)
    lengths = tf.fill(tf.shape(scores), time + 1) - tf.cast(candidates.is_cut, tf.int32)
    lengths, log_probs, is_cut = (
        tf.gather(tf.concat(both, axis=1), chosen, batch_dims=1)
        for both in (
            (before.lengths, lengths),
            (before.log_probs, candidates.log_probs),
            (before.is_cut, candidates.is_cut),
        )
    )
    is_here = tf.range(tf.shape(token_ids)[-1]) == time
    token_ids = tf.where((is_new & ~is_cut)[..., tf.newaxis] & is_here, eos_id, token_ids)
    is_empty = best <= MINUS_INFINITY / 2
    return SearchResult(
        tf.where(is_empty[..., tf.newaxis], before.token_ids, token_ids),
        tf.where(is_empty, 0, lengths),
        tf.where(is_empty, MINUS_INFINITY, log_probs),
        best,
        is_cut & ~is_empty,
    )


def _live_rows(record: BeamRecord) -> list[list[int]]:
    """Returns the tokens of the first line's unfinished hypotheses."""
    if record.done[0]:
        return []
    rows = record.alive.token_ids[0, :, : int(record.time)].numpy().tolist()
    is_alive = record.alive.ranked[0].numpy() > MINUS_INFINITY / 2
    return list(itertools.compress(rows, is_alive))


def _finished_rows(finished: SearchResult) -> list[list[int]]:
    """Returns the tokens of the first line's hypotheses that ended."""
    rows = zip(finished.token_ids[0].numpy().tolist(), finished.lengths[0].numpy(), strict=True)
    has_ended = finished.scores[0].numpy() > MINUS_INFINITY / 2
    return [row[:length] for row, length in itertools.compress(rows, has_ended)]


def _extend_greedily(
    alive: Alive, blocks: Blocks, normalizer: tf.Tensor, greedy_lives: tf.Tensor
) -> Candidates:
    """Returns the choice of greedy search: one candidate, empty where its hypothesis has ended."""
    column, largest = best_of_first_row(blocks)
    ranked = alive.ranked[:, 0] + (largest - normalizer[:, 0])
    ranked = tf.where(greedy_lives, ranked, MINUS_INFINITY)
    no = tf.zeros_like(column)
    one = Candidates(no, column, ranked, ranked, tf.cast(no, tf.bool))
    return tf.nest.map_structure(lambda part: part[:, tf.newaxis], one)


def _with_greedy(candidates: Candidates, greedy: Candidates) -> Candidates:
    """Returns all of them, the greedy one last and nowhere else."""
    is_greedy = (candidates.parents == 0) & (candidates.last_ids == greedy.last_ids) & greedy.exist
    ranked = tf.where(is_greedy, MINUS_INFINITY, candidates.ranked)
    others = candidates._replace(ranked=ranked, log_probs=ranked)
    return tf.nest.map_structure(lambda one, other: tf.concat([one, other], axis=1), others, greedy)


def _with_model_log_probs(
    candidates: Candidates, alive: Alive, logits: tf.Tensor, normalizer: tf.Tensor
) -> Candidates:
    """Returns candidates whose `log_probs` are the decoder's, before processors rescaled them."""
    lines, beam = tf.unstack(tf.shape(alive.ranked))
    by_line = tf.reshape(logits, (lines, beam, -1))
    places = tf.stack([candidates.parents, candidates.last_ids], axis=-1)
    of_tokens = tf.gather_nd(by_line, places, batch_dims=1)
    before, off = (
        tf.gather(part, candidates.parents, batch_dims=1) for part in (alive.log_probs, normalizer)
    )
    log_probs = tf.where(candidates.exist, before + (of_tokens - off), MINUS_INFINITY)
    return candidates._replace(log_probs=log_probs)
