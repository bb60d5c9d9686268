"""Reads texts with a language model from beginning to end, in pieces that fit into memory.

The state is carried from piece to piece, so that a text has the losses of one that is read at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.data.batches import gather_windows
from seq2seq_kit.data.streams import Spans, StreamPlan, plan_windows
from seq2seq_kit.decoding.groups import LENGTH_STEP
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import BOS_ID
from seq2seq_kit.training.losses import cross_entropy

# Texts that are read side by side, and tokens of each that are read at once.
_TEXTS = 16
_TOKENS = 128
# Logits that are in memory at once, at most: 1 GB. Computing takes a few times as much.
_MAX_LOGITS = 2**28


class TextReader:
    """Returns how surprising each token of a text is after all those before it.

    Args:
        model: The network.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        ids = tf.TensorSpec([None, None], tf.int32)
        state = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, part.shape[-1]], part.dtype), self._zero_states(1)
        )
        self._function = tf.function(
            self._compute,
            input_signature=[ids, ids, tf.TensorSpec([None], tf.bool), state],
            autograph=False,
        )

    @property
    def tokens_at_once(self) -> int:
        """Tokens of a row that are read at once: fewer with a vocabulary of a million."""
        most = _MAX_LOGITS // (_TEXTS * self.model.vocab_size)
        return max(LENGTH_STEP, min(_TOKENS, most - most % LENGTH_STEP))

    def read_rows(self, target_ids: np.ndarray) -> np.ndarray:
        """Returns the losses of rows that begin with BOS.

        Args:
            target_ids: int32 `(rows, time)`, without BOS.

        Returns:
            float32 `(rows, time)`, in nats.
        """
        first = np.full_like(target_ids[:, :1], BOS_ID)
        input_ids = np.concatenate([first, target_ids[:, :-1]], axis=1)
        states = self._zero_states(len(target_ids))
        losses = []
        for start in range(0, target_ids.shape[1], self.tokens_at_once):
            here = slice(start, start + self.tokens_at_once)
            restarts = np.full(len(target_ids), start == 0)
            part, states = self._read(input_ids[:, here], target_ids[:, here], restarts, states)
            losses.append(part)
        return np.concatenate(losses, axis=1)

    def read_texts(self, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the losses of the tokens of each text, from its beginning to its end.

        Args:
            texts: The ids of each text, without BOS; one or more.

        Returns:
            float32 `(tokens,)` for each text, in nats.
        """
        ids = np.concatenate([np.asarray(text, np.int32) for text in texts])
        lengths = np.array([len(text) for text in texts])
        plan = self._plan(lengths)
        losses = np.zeros(len(ids), np.float32)
        states = self._zero_states(plan.begins.shape[1])
        for index in range(len(plan)):
            window = gather_windows(ids, plan, index, 0, 1)
            part, states = self._read(
                window["decoder_input_ids"], window["target_ids"], window["restarts"], states
            )
            for row, (begin, length) in enumerate(
                zip(plan.begins[index], plan.lengths[index], strict=True)
            ):
                losses[begin : begin + length] = part[row, :length]
        return np.split(losses, np.cumsum(lengths)[:-1])

    def _plan(self, lengths: np.ndarray) -> StreamPlan:
        """Deals texts to rows, the longest first, each to the row that has the fewest tokens."""
        num_rows = min(_TEXTS, len(lengths))
        dealt: list[list[int]] = [[] for _ in range(num_rows)]
        totals = np.zeros(num_rows, np.int64)
        for text in np.argsort(-lengths, kind="stable").tolist():
            row = int(np.argmin(totals))
            dealt[row].append(text)
            totals[row] += lengths[text]
        order = np.array([text for texts in dealt for text in texts])
        begins = (np.cumsum(lengths) - lengths)[order]
        return plan_windows(
            Spans(begins, lengths[order], np.zeros(len(order), bool), begins),
            np.zeros(len(order), np.int64),
            np.cumsum([0, *map(len, dealt)]),
            window=self.tokens_at_once,
            rng=None,
            restarts=0.0,
            usual_tokens=1,
        )

    def _zero_states(self, rows: int) -> Any:
        return self.model.lstm.zero_state(rows)

    def _read(
        self, input_ids: np.ndarray, target_ids: np.ndarray, restarts: np.ndarray, states: Any
    ) -> tuple[np.ndarray, Any]:
        # As a graph, even where other code has functions run eagerly.
        function = self._function.get_concrete_function()
        losses, states = function(*map(tf.constant, (input_ids, target_ids, restarts)), states)
        return losses.numpy(), states

    def _compute(
        self, input_ids: tf.Tensor, target_ids: tf.Tensor, restarts: tf.Tensor, states: Any
    ) -> tuple[tf.Tensor, Any]:
        """Returns the loss of each target, and the states after the last one."""
        outputs, states, _ = self.model.read(input_ids, states, restarts=restarts)
        logits = self.model.output_layer().logits(outputs)
        return cross_entropy(logits, target_ids).negative_log_likelihood, states
