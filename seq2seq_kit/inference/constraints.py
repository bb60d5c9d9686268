"""The constraints that decoding options ask for, as logits processors."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding import (
    ForbiddenTokens,
    LogitsProcessor,
    MinLength,
    NoLoop,
    NoRepeatedNgram,
    RepetitionPenalty,
    count_characters,
)
from seq2seq_kit.decoding.processors import BannedTexts, BanTables, ban_texts
from seq2seq_kit.errors import InputError
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK
from seq2seq_kit.tokens.tokenizer import Tokenizer


def build_processors(
    decoding: DecodingConfig, tokenizer: Tokenizer, columns: tf.Tensor | None
) -> list[LogitsProcessor]:
    """Returns what changes the logits, those that rescale first.

    Args:
        decoding: The options.
        tokenizer: The tokenizer of the outputs.
        columns: int32 `(columns,)`. The tokens that the logits belong to; None: the vocabulary.

    Raises:
        InputError: If a text cannot be banned.
    """

    def of_columns(table: Any) -> tf.Tensor:
        return tf.constant(table) if columns is None else tf.gather(table, columns, axis=-1)

    processors: list[LogitsProcessor] = []
    if decoding.repetition_penalty != 1.0:
        processors.append(RepetitionPenalty(decoding.repetition_penalty))
    if columns is None:  # A shortlist allows none of these.
        processors.append(ForbiddenTokens((PAD_ID, UNK_ID, BOS_ID)))
    if decoding.min_length:
        processors.append(MinLength(decoding.min_length, EOS_ID))
    if decoding.no_repeat_ngram:
        processors.append(NoRepeatedNgram(decoding.no_repeat_ngram))
    if decoding.max_loop_characters:
        num_characters = of_columns(count_characters(tokenizer.surfaces))
        processors.append(NoLoop(num_characters, decoding.max_loop_characters))
    if decoding.banned_texts:
        tables = _ban_tables(decoding.banned_texts, tokenizer)
        processors.append(BannedTexts(BanTables(*map(of_columns, tables))))
    return processors


def _ban_tables(texts: Sequence[str], tokenizer: Tokenizer) -> BanTables:
    """Returns the tables that ban texts, which are normalized as all texts are.

    Raises:
        InputError: If one has no character that normalization leaves, or there are too many.
    """
    spelled = []
    for text in texts:
        prepared = tokenizer.text_rules.prepare(text)
        if not prepared:
            raise InputError(
                f"`banned_texts` must have characters that the tokenizer's normalization "
                f"leaves. Received: {text!r}."
            )
        spelled.append(prepared.replace(" ", SPACE_MARK).encode())
    return ban_texts(tokenizer.surfaces, spelled)
