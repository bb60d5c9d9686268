"""How texts become the inputs of a model: which ids it reads, and which texts it cannot take."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import Config
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

_HASHES = 2**62


class Inputs(NamedTuple):
    """The inputs of some lines, as a search takes them: arrays, or tensors in a graph."""

    token_ids: np.ndarray | tf.Tensor
    """int32 `(lines, time)`, right-padded: a source and EOS, or BOS and a prompt."""
    lengths: np.ndarray | tf.Tensor
    """int32 `(lines,)`. Tokens of each line, 1 or more."""
    lost_space: np.ndarray | tf.Tensor
    """bool `(lines,)`. Whether a prompt ends with a space for which the tokenizer has no token."""
    hashes: np.ndarray | tf.Tensor
    """int64 `(lines,)`. A hash of each text, 0 or more: equal texts have the same samples."""


class Prefixes(NamedTuple):
    """The texts with which the outputs of some lines must begin."""

    token_ids: np.ndarray | tf.Tensor
    """int32 `(lines, time)`, right-padded, without special tokens."""
    lengths: np.ndarray | tf.Tensor
    """int32 `(lines,)`. Tokens of each; 0 for an output that may begin as it likes."""
    lost_space: np.ndarray | tf.Tensor
    """bool `(lines,)`. As in `Inputs`."""


SIGNATURE = Inputs(
    tf.TensorSpec([None, None], tf.int32),
    tf.TensorSpec([None], tf.int32),
    tf.TensorSpec([None], tf.bool),
    tf.TensorSpec([None], tf.int64),
)
"""The types of `Inputs` in a graph."""


PREFIX_SIGNATURE = Prefixes(*SIGNATURE[:3])
"""The types of `Prefixes` in a graph."""


def hash_texts(texts: tf.Tensor) -> tf.Tensor:
    """Returns a hash of each text, int64 from 0 to 2**62 - 1; the same on every platform.

    Args:
        texts: string, any shape.
    """
    return tf.strings.to_hash_bucket_fast(texts, _HASHES)


class InputEncoder:
    """Encodes the inputs of a model.

    Args:
        tokenizer: The tokenizer of the inputs.
        reads_prompt: Whether a language model reads an input as the beginning of its text, after
            BOS. Otherwise an encoder reads it, and EOS after it.
        max_length: Tokens of an input at most; None for no limit, as a language model has.
        keep_end: Whether a truncated input keeps its end, as a prompt should.
        answers_empty: Whether an empty input has an output like any other, as a prompt has.
        marks_spaces: Whether a space at the end of an input is noted where it has no token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        reads_prompt: bool,
        max_length: int | None,
        keep_end: bool,
        answers_empty: bool,
        marks_spaces: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.reads_prompt = reads_prompt
        self.max_length = max_length
        self.keep_end = keep_end
        self.answers_empty = answers_empty
        self.marks_spaces = marks_spaces and not tokenizer.lossless
        self.num_tokens: int | None = None
        """The tokens that every input must have because something was said of each of them, such
        as forced attention; None for any number."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        first_line: int = 1,
        is_hashed: bool = True,
    ) -> Inputs:
        """Returns the inputs of texts, as arrays.

        Args:
            texts: The texts.
            truncate: Cut over-long texts instead of refusing them.
            first_line: The line number of the first text, for messages.
            is_hashed: Whether to compute the hashes, which only sampling needs; else they are 0.

        Raises:
            InputError: If one has more than `max_length` tokens, or is no text.
        """
        rows = self.encode_rows(texts, truncate=truncate, first_line=first_line)
        if self.reads_prompt:
            rows = [[BOS_ID, *row] for row in rows]
        else:
            rows = [[*row, EOS_ID] for row in rows]
        prepared = list(map(self.tokenizer.text_rules.prepare, texts))
        lost_space = [self.marks_spaces and _ends_with_space(text) for text in prepared]
        hashes = np.zeros(len(texts), np.int64)
        if is_hashed:
            hashes = hash_texts(tf.constant(prepared, tf.string)).numpy()
        return Inputs(*_pad(rows), np.array(lost_space, bool), hashes)

    def encode_rows(
        self, texts: Sequence[str], *, truncate: bool = False, first_line: int = 1
    ) -> list[list[int]]:
        """Returns the ids of texts without special tokens; arguments and errors as in `encode`."""
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(
                    f"Expected texts. Received {shorten(text)} as line {first_line + index}."
                )
        rows = self.tokenizer.encode(texts)
        for index, row in enumerate(rows):
            if self.num_tokens not in (None, len(row)):
                raise InputError(
                    f"Line {first_line + index} has {len(row)} tokens and the end, and attention "
                    f"is forced for {self.num_tokens} tokens and the end. Force as many weights "
                    f"as the input has tokens (`Trace.source_tokens`)."
                )
        if self.max_length is None:
            return rows
        for index, row in enumerate(rows):
            if len(row) > self.max_length and not truncate:
                raise self.too_long(f"Line {first_line + index}", len(row))
        limit = self.max_length
        return [row[-limit:] if self.keep_end else row[:limit] for row in rows]

    def is_empty(self, inputs: Inputs) -> np.ndarray:
        """Returns which inputs have an empty output without asking the model, bool `(lines,)`."""
        return (np.asarray(inputs.lengths) == 1) & (not self.answers_empty)

    def too_long(self, line: str, num_tokens: int) -> InputError:
        """Returns the error for an input with too many tokens.

        Args:
            line: What the message calls the input.
            num_tokens: Its tokens.
        """
        return InputError(
            f"{line} has {num_tokens} tokens; the model takes at most {self.max_length} "
            f"(data.max_source_length). Split the line, or truncate such lines (--long-lines "
            f"truncate, in Python truncate=True)."
        )

    def overlong(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """Returns the place, from 0, and the tokens of each text that is over-long."""
        limit = self.max_length
        if limit is None:
            return []
        rows = enumerate(self.tokenizer.encode(texts))
        return [(place, len(row)) for place, row in rows if len(row) > limit]


def input_encoder(config: Config, tokenizer: Tokenizer) -> InputEncoder:
    """Returns the encoder of the inputs of a run.

    A language model has no limit on a prompt: it reads it token by token into a state of fixed
    size.

    Args:
        config: The resolved config.
        tokenizer: The tokenizer of the inputs.
    """
    continues = config.task == "continuation"
    reads_prompt = config.model.architecture == "language_model"
    return InputEncoder(
        tokenizer,
        reads_prompt=reads_prompt,
        max_length=None if reads_prompt else config.data.max_source_length,
        keep_end=continues,
        answers_empty=continues,
        marks_spaces=config.joins_texts,
    )


def encode_prefixes(tokenizer: Tokenizer, prefixes: Sequence[str]) -> Prefixes:
    """Returns the texts with which outputs must begin, as arrays.

    Args:
        tokenizer: The tokenizer of the outputs.
        prefixes: One for each line; "" for an output that may begin as it likes.

    Raises:
        InputError: If one has a character for which the tokenizer has no token.
    """
    rows = tokenizer.encode(prefixes)
    for prefix, row in zip(prefixes, rows, strict=True):
        if UNK_ID in row:
            raise InputError(
                f"`prefixes` must be texts that the model can write. Received: {shorten(prefix)}, "
                f"which has a character without a token. Leave it out."
            )
    prepared = map(tokenizer.text_rules.prepare, prefixes)
    lost_space = [not tokenizer.lossless and _ends_with_space(text) for text in prepared]
    return Prefixes(*_pad(rows), np.array(lost_space, bool))


def _pad(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids, right-padded, int32 `(rows, time)`, and lengths, int32 `(rows,)`."""
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.full((len(rows), lengths.max(initial=1)), PAD_ID, np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, np.newaxis]] = np.concatenate([[], *rows])
    return ids, lengths


def as_texts(texts: Iterable[str]) -> list[str]:
    """Returns texts as a list.

    Raises:
        InputError: If it is one text, or not iterable.
    """
    if isinstance(texts, str):
        raise InputError(f"Expected a list of texts. Received a text: use [{shorten(texts)}].")
    if not isinstance(texts, Iterable):
        raise InputError(f"Expected a list of texts. Received: {shorten(texts)}.")
    return list(texts)


def _ends_with_space(text: str) -> bool:
    return text.endswith(" ") and not text.isspace()
