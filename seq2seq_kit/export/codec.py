"""The text side of an export's graph: strings to ids and back, and what happens to bad inputs."""

import math
from types import ModuleType
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding import SearchResult
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.folder import LongLines
from seq2seq_kit.inference.inputs import InputEncoder, Inputs, hash_texts
from seq2seq_kit.inference.search import Found
from seq2seq_kit.special_ids import BOS_ID, EOS_ID
from seq2seq_kit.startup import quiet_stderr
from seq2seq_kit.tokens.tokenizer import Tokenizer

TOO_LONG = "An input has more tokens than the model takes (its place, the limit, its tokens):"
"""Followed by the place of the first such input, the limit and its length."""

NOT_TEXT = "An input is not UTF-8 (its place):"
"""Followed by the place of the first such input."""

SOURCE_TOKENIZER, TARGET_TOKENIZER = "source_tokenizer", "target_tokenizer"
"""The names of the tokenizers in a graph; where both sides share one, it has the first."""

_UNEQUAL = "Expected one target for each input (inputs, targets):"


class Encoded(NamedTuple):
    """The inputs of a batch, in graph."""

    inputs: Inputs
    """The inputs as a search takes them."""
    is_unanswered: tf.Tensor
    """bool `(batch,)`. Inputs to mark: too long, or not UTF-8."""
    is_truncated: tf.Tensor
    """bool `(batch,)`. Inputs that were cut."""


class Codec:
    """Encodes and decodes strings in graph as the Python API does.

    Args:
        inputs: Encodes the inputs in Python; says how.
        tokenizer: The tokenizer of the outputs.
        long_lines: What to do with an input that has too many tokens: "error" fails, "truncate"
            cuts it, "mark" gives it an empty output with the score -inf. One that is not UTF-8 is
            marked too, else fails.
    """

    def __init__(
        self, inputs: InputEncoder, tokenizer: Tokenizer, long_lines: LongLines = "error"
    ) -> None:
        text = tensorflow_text()
        self._inputs = inputs
        self._text_rules = tokenizer.text_rules
        self._long_lines = long_lines
        with quiet_stderr():
            # A loaded export finds each by its name; without one, both would be the same.
            self._encoder = text.SentencepieceTokenizer(
                model=inputs.tokenizer.model_proto, name=SOURCE_TOKENIZER
            )
            self._decoder = self._encoder
            if tokenizer is not inputs.tokenizer:
                self._decoder = text.SentencepieceTokenizer(
                    model=tokenizer.model_proto, name=TARGET_TOKENIZER
                )
        strings = [tf.TensorSpec([None], tf.string)]
        # One function for all signatures.
        self.encode = tf.function(self._encode, input_signature=strings, autograph=False)
        self.encode_targets = tf.function(
            self._encode_targets, input_signature=2 * strings, autograph=False
        )

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers in the graph, which an export must hold."""
        return [self._encoder, self._decoder]

    @property
    def counts_truncated(self) -> bool:
        """Whether answers say which inputs were cut."""
        return self._long_lines == "truncate" and self._inputs.max_length is not None

    def _encode(self, inputs: tf.Tensor) -> Encoded:
        """Returns the inputs of a search; in graph what `InputEncoder.encode` does.

        Args:
            inputs: string `(batch,)`.
        """
        is_text = _is_utf8(inputs)
        if self._long_lines != "mark":
            refuse(~is_text, NOT_TEXT)
        texts = self._inputs.tokenizer.text_rules.prepare_tensor(tf.where(is_text, inputs, ""))
        ids, is_overlong = self._limit(self._encoder.tokenize(texts))
        number, lengths = ids.nrows(), tf.cast(ids.row_lengths(), tf.int32)
        place = tf.maximum(tf.strings.length(texts) - 1, 0)
        last = tf.strings.substr(texts, place, tf.ones_like(place))
        lost_space = (last == " ") & (lengths > 0) & self._inputs.marks_spaces
        if self._inputs.reads_prompt:
            ids = tf.concat([tf.fill([number, 1], BOS_ID), ids], axis=1)
        else:
            ids = tf.concat([ids, tf.fill([number, 1], EOS_ID)], axis=1)
        encoded = Inputs(ids.to_tensor(), lengths + 1, lost_space, hash_texts(texts))
        is_marked = self._long_lines == "mark"
        return Encoded(
            encoded,
            (is_overlong | ~is_text) & is_marked,
            is_overlong & self.counts_truncated,
        )

    def _encode_targets(
        self, inputs: tf.Tensor, targets: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns the ids of texts to score, and which are not UTF-8, bool `(batch,)`.

        Args:
            inputs: string `(batch,)`. Their inputs, of which there must be as many.
            targets: string `(batch,)`.
        """
        sizes = [tf.size(inputs), tf.size(targets)]
        tf.debugging.Assert(tf.equal(*sizes), [_UNEQUAL, *sizes])
        is_text = _is_utf8(targets)
        if self._long_lines != "mark":
            refuse(~is_text, NOT_TEXT)
        texts = self._text_rules.prepare_tensor(tf.where(is_text, targets, ""))
        return self._decoder.tokenize(texts), ~is_text

    def _limit(self, ids: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns ids that are not too long, and which had been, bool `(batch,)`."""
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        limit = self._inputs.max_length
        if limit is None:
            return ids, tf.zeros_like(lengths, tf.bool)
        is_overlong = lengths > limit
        match self._long_lines:
            case "error":
                refuse(is_overlong, TOO_LONG, limit, lengths)
            case "truncate":
                ids = _cut(ids, tf.minimum(lengths, limit), keep_end=self._inputs.keep_end)
            case "mark":
                ids = _cut(ids, tf.where(is_overlong, 0, lengths), keep_end=False)
        return ids, is_overlong

    def texts(self, found: Found, lost_space: tf.Tensor) -> tf.Tensor:
        """Returns the text of each hypothesis, string `(batch, num_hypotheses)`.

        Args:
            found: The hypotheses.
            lost_space: As in `Inputs`.
        """
        shape = tf.shape(found.hypotheses.lengths)
        ids = _ids_without_eos(found.hypotheses)
        if isinstance(found.before, tuple):  # No prompt is healed.
            return tf.reshape(self.detokenize(ids), shape)
        before = found.before
        prompts = self.detokenize(tf.concat([before, found.taken_back], axis=1))
        start = tf.strings.length(prompts) + tf.cast(lost_space, tf.int32)
        line = tf.repeat(tf.range(shape[0]), shape[1])
        texts = self.detokenize(tf.concat([tf.gather(before, line), ids], axis=1))
        size = tf.strings.length(texts)
        texts = tf.strings.substr(texts, tf.minimum(tf.gather(start, line), size), size)
        return tf.reshape(texts, shape)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row of ids, string `(rows,)`."""
        return self._text_rules.restore_tensor(self._decoder.detokenize(ids))

    def finish(self, answers: dict[str, tf.Tensor], encoded: Encoded) -> dict[str, tf.Tensor]:
        """Returns answers in which inputs without one are marked, and which inputs were cut.

        Args:
            answers: Tensors by name, `(batch, ...)`.
            encoded: The inputs.
        """
        if self._long_lines == "mark":
            answers = replace_answers(encoded.is_unanswered, -math.inf, answers)
        if self.counts_truncated:
            answers["is_truncated"] = encoded.is_truncated
        return answers

    def answer_empty(self, answers: dict[str, tf.Tensor], encoded: Encoded) -> dict[str, tf.Tensor]:
        """Returns answers with an empty output for each empty input that the model does not see."""
        if self._inputs.answers_empty:
            return answers
        return replace_answers(encoded.inputs.lengths == 1, 0.0, answers)


def _is_utf8(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore") == texts


def _ids_without_eos(found: SearchResult) -> tf.RaggedTensor:
    """Returns the tokens of each hypothesis, a row for each."""
    ids = tf.reshape(found.token_ids, [-1, tf.shape(found.token_ids)[-1]])
    ends = tf.reduce_any(ids == EOS_ID, axis=1)
    lengths = tf.reshape(found.lengths, [-1]) - tf.cast(ends, tf.int32)
    return tf.RaggedTensor.from_tensor(ids, lengths=lengths)


def refuse(is_wrong: tf.Tensor, message: str, *values: Any) -> None:
    """Fails where an input is wrong, with the place of the first one.

    Args:
        is_wrong: bool `(batch,)`.
        message: What is wrong.
        *values: What the message ends with: numbers, and of a tensor `(batch,)` that input's.
    """
    first = tf.where(is_wrong)[:1, 0]
    values = tuple(tf.gather(v, first) if tf.is_tensor(v) else v for v in values)
    tf.debugging.Assert(tf.size(first) == 0, [message, first, *values], summarize=1)


def checked_number(name: str, number: tf.Tensor, least: int, most: int) -> tf.Tensor:
    """Returns an option, or fails where it is out of range.

    What follows must use the number returned: only that waits for the check. An operation that
    reads the tensor itself may fail first, with a message of its own.

    Args:
        name: The option.
        number: Its value, `()`.
        least: The smallest value allowed.
        most: The largest.
    """
    message = f"`{name}` must be from {least} to {most}:"
    is_right = (number >= least) & (number <= most)
    with tf.control_dependencies([tf.debugging.Assert(is_right, [message, number])]):
        return tf.identity(number)


def _cut(ids: tf.RaggedTensor, lengths: tf.Tensor, *, keep_end: bool) -> tf.RaggedTensor:
    """Returns the first or last ids of each row.

    Args:
        ids: int32 `(batch, None)`.
        lengths: int32 `(batch,)`. Ids to keep, of each row at most as many as it has.
        keep_end: Whether to keep the last ones.
    """
    kept = tf.cast(lengths, tf.int64)
    starts = ids.row_limits() - kept if keep_end else ids.row_starts()
    values = tf.gather(ids.values, tf.ragged.range(starts, starts + kept).values)
    return tf.RaggedTensor.from_row_lengths(values, kept, validate=False)


# What an answer without an output holds; in log-probabilities and scores a number is given.
_NOTHING = {"outputs": "", "is_cut": False, "num_tokens": 0, "token_log_probs": 0.0}


def replace_answers(
    where: tf.Tensor, number: float, answers: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns answers that are empty in some lines.

    Args:
        where: bool `(batch,)`. Which lines.
        number: Their log-probability and score.
        answers: Tensors by name, `(batch,)` or `(batch, columns)`.
    """

    def replace(name: str, values: tf.Tensor) -> tf.Tensor:
        rows = where if values.shape.rank == 1 else where[:, tf.newaxis]
        return tf.where(rows, _NOTHING.get(name, number), values)

    return {name: replace(name, values) for name, values in answers.items()}


def tensorflow_text() -> ModuleType:
    """Returns the module whose ops tokenize within the graph.

    Raises:
        InputError: Where it is not installed.
    """
    try:
        import tensorflow_text
    except ImportError as error:
        raise InputError(
            "Exports need tensorflow-text, which is not installed here (it has no wheel for "
            "Windows and for Macs with Intel processors). Use Linux, WSL, Colab or a Mac with "
            "Apple silicon."
        ) from error
    return tensorflow_text
