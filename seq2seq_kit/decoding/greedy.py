"""Searches that choose one token for each row and never look back: greedy search and its base."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding.numerics import log_normalizer
from seq2seq_kit.decoding.processors import process
from seq2seq_kit.decoding.protocol import (
    MINUS_INFINITY,
    Decoder,
    History,
    LogitsProcessor,
    SearchInputs,
    SearchResult,
    StepOutput,
)
from seq2seq_kit.decoding.scores import normalize_log_probs


class OneTokenRecord(NamedTuple):
    """The record of a `OneTokenSearch`; `rows` are `lines * hypotheses`."""

    time: tf.Tensor  # int32 (): steps taken
    state: Any  # of the decoder, leading axis rows
    processor_states: tuple[Any, ...]  # leading axis rows
    choice_state: Any  # of `_choose`, leading axis rows
    fed: tf.Tensor  # int32 (rows,): the token to feed next
    done: tf.Tensor  # bool (lines,): whether all hypotheses of a line have ended
    ended: tf.Tensor  # bool (rows,)
    token_ids: tf.Tensor  # int32 (rows, max_length + 1)
    lengths: tf.Tensor  # int32 (rows,)
    log_probs: tf.Tensor  # float32 (rows,): of the decoder
    ranked: tf.Tensor  # float32 (rows,): the same after processors that rescale
    is_cut: tf.Tensor  # bool (rows,)


@dataclass(frozen=True, kw_only=True, eq=False)
class OneTokenSearch:
    """Chooses a token for each row at each step until EOS or `max_length` tokens.

    Args:
        decoder: Feeds one token to each row.
        processors: Applied to the logits in this order. A forbidden token keeps its probability, so
            that log-probabilities stay those of the decoder. Where all tokens are forbidden, a
            hypothesis ends.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: Only for `scores`: nothing is ranked.
        close_at_limit: Whether the log-probability of EOS counts for a hypothesis that is cut at
            `max_length`; False where reaching it is a usual end.
        num_hypotheses: Hypotheses of each line.
        pad_id: Fills what follows a hypothesis's end.
        eos_id: Ends a hypothesis.
    """

    decoder: Decoder
    processors: Sequence[LogitsProcessor] = ()
    max_length: tf.Tensor | int
    length_penalty: tf.Tensor | float = 0.0
    close_at_limit: bool = True
    num_hypotheses: tf.Tensor | int = 1
    pad_id: int = 0
    eos_id: int = 3

    def start(self, inputs: SearchInputs) -> OneTokenRecord:
        """Returns the record before the first step."""
        lines = tf.shape(inputs.token_ids)[0]
        rows = lines * self.num_hypotheses
        done = tf.zeros([lines], tf.bool) if inputs.is_done is None else inputs.is_done
        states = tuple(processor.start(lines, self.max_length) for processor in self.processors)
        return OneTokenRecord(
            time=tf.constant(0),
            state=self._repeat(inputs.state),
            processor_states=self._repeat(states),
            choice_state=self._start_choice(lines),
            fed=self._repeat(inputs.token_ids),
            done=done,
            ended=self._repeat(done),
            token_ids=tf.fill([rows, self.max_length + 1], self.pad_id),
            lengths=tf.zeros([rows], tf.int32),
            log_probs=tf.zeros([rows]),
            ranked=tf.zeros([rows]),
            is_cut=tf.zeros([rows], tf.bool),
        )

    def step(self, record: OneTokenRecord, memory: Any) -> OneTokenRecord:
        """Returns the record after one more token."""
        output = self.decoder.step(record.fed, record.state, memory)
        history = History(record.token_ids, record.time)
        logits, processor_states = process(
            self.processors, output.logits, history, record.processor_states
        )
        token, choice_state = self._choose(logits, record)
        ends = token == self.eos_id
        # After `max_length` tokens only EOS may still follow.
        cut = ~record.ended & ~ends & (record.time >= self.max_length)
        taken = ~record.ended & ~cut
        log_probs, ranked = self._add_log_probs(record, output, logits, token, taken, cut)
        ended = record.ended | ends
        return OneTokenRecord(
            time=record.time + 1,
            state=output.state,
            processor_states=processor_states,
            choice_state=choice_state,
            fed=token,
            done=self._all_of_line(ended),
            ended=ended,
            token_ids=write_column(
                record.token_ids, record.time, tf.where(taken, token, self.pad_id)
            ),
            lengths=record.lengths + tf.cast(taken, tf.int32),
            log_probs=log_probs,
            ranked=ranked,
            is_cut=record.is_cut | cut,
        )

    def take(self, record: OneTokenRecord, lines: tf.Tensor) -> OneTokenRecord:
        """Returns the record of some lines only."""
        number, rows = self.num_hypotheses, lines
        if not self._has_one:
            rows = tf.reshape(lines[:, tf.newaxis] * number + tf.range(number), [-1])
        taken = tf.nest.map_structure(
            lambda part: tf.gather(part, rows), record._replace(time=(), done=())
        )
        return taken._replace(time=record.time, done=tf.gather(record.done, lines))

    def finish(self, record: OneTokenRecord) -> SearchResult:
        """Returns the hypotheses of a record's lines, in the order of their rows."""
        lengths = record.lengths
        counted = lengths + tf.cast(record.is_cut, tf.int32) if self.close_at_limit else lengths
        scores = normalize_log_probs(record.ranked, counted, self.length_penalty)
        return SearchResult(
            tf.reshape(record.token_ids, (-1, self.num_hypotheses, tf.shape(record.token_ids)[1])),
            *(
                tf.reshape(part, (-1, self.num_hypotheses))
                for part in (lengths, record.log_probs, scores, record.is_cut)
            ),
        )

    def certain_ids(self, record: OneTokenRecord) -> list[int]:
        """Returns all tokens of the first line's first hypothesis: a token taken stays."""
        ids: list[int] = record.token_ids[0, : int(record.lengths[0])].numpy().tolist()
        return ids

    def _start_choice(self, lines: tf.Tensor) -> Any:
        """Returns the first state of `_choose`."""
        return ()

    def _choose(self, logits: tf.Tensor, record: OneTokenRecord) -> tuple[tf.Tensor, Any]:
        """Returns the next token of each row, int32 `(rows,)`, and the next `choice_state`."""
        raise NotImplementedError

    @property
    def _has_one(self) -> bool:
        """Whether each line is known to have a single hypothesis while a graph is traced."""
        return isinstance(self.num_hypotheses, int) and self.num_hypotheses == 1

    def _all_of_line(self, of_rows: tf.Tensor) -> tf.Tensor:
        """Returns whether something is true of all hypotheses of a line, bool `(lines,)`."""
        if self._has_one:
            return of_rows
        return tf.reduce_all(tf.reshape(of_rows, (-1, self.num_hypotheses)), axis=1)

    def _repeat(self, nest: Any) -> Any:
        if self._has_one:
            return nest
        return tf.nest.map_structure(lambda part: tf.repeat(part, self.num_hypotheses, 0), nest)

    def _add_log_probs(
        self,
        record: OneTokenRecord,
        output: StepOutput,
        logits: tf.Tensor,
        token: tf.Tensor,
        taken: tf.Tensor,
        cut: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `log_probs` and `ranked` after a step."""
        normalizer = log_normalizer(output.logits)
        counted = taken
        closing = output.logits[:, self.eos_id] - normalizer
        if self.close_at_limit:
            counted |= cut

        def add(total: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
            token_log_prob = tf.gather(of, token, batch_dims=1) - normalizer
            if self.close_at_limit:
                token_log_prob = tf.where(cut, closing, token_log_prob)
            return total + tf.where(counted, token_log_prob, 0.0)

        log_probs = add(record.log_probs, output.logits)
        if any(processor.rescales for processor in self.processors):
            return log_probs, add(record.ranked, logits)
        return log_probs, log_probs


class GreedySearch(OneTokenSearch):
    """Takes the likeliest token at each step."""

    def _choose(self, logits: tf.Tensor, record: OneTokenRecord) -> tuple[tf.Tensor, Any]:
        token = tf.argmax(logits, axis=-1, output_type=tf.int32)
        is_allowed = tf.gather(logits, token, batch_dims=1) > MINUS_INFINITY / 2
        return tf.where(is_allowed, token, self.eos_id), record.choice_state


def write_column(token_ids: tf.Tensor, time: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns `token_ids`, `(..., max_length + 1)`, with `column`, `(...)`, written at `time`."""
    here = tf.range(tf.shape(token_ids)[-1]) == time
    return tf.where(here, column[..., tf.newaxis], token_ids)
