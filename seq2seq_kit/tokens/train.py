"""Training a SentencePiece model: the same texts give the same bytes, on any machine."""

import io
import logging
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from seq2seq_kit import bounds
from seq2seq_kit.errors import ConfigError, DataError, RunError
from seq2seq_kit.interruption import run_interruptibly
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK, TextRules, check_encodable
from seq2seq_kit.tokens.proto import parse_model, with_finite_scores

TokenizerType = Literal["unigram", "bpe", "word", "char"]

_logger = logging.getLogger(__name__)

SPECIAL_IDS = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}
"""SentencePiece's options for the special ids."""
_SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>")
_NUM_BYTES = 256

# Training needs up to 100 bytes of memory a character, measured on Chinese (BPE; unigram 60).
_MAX_TRAINING_CHARACTERS = 20_000_000

# The trainer silently skips texts longer than its limit, so they are cut to fit: that costs at most
# one odd piece in this many characters.
_MAX_TEXT_CHARACTERS = 10_000

# The trainer skips a whole text for one U+2585 (its mark for unknown characters) and a word for
# one NUL. Neither can be in a piece, and a newline never should: texts are cut there.
_CUTS = re.compile("[\0\n\u2585]")

_TRAINER_OPTIONS: dict[str, Any] = {
    **SPECIAL_IDS,
    "normalization_rule_name": "identity",
    "max_sentence_length": 4 * _MAX_TEXT_CHARACTERS,  # bytes; UTF-8 has at most 4 a character
    # A space has a piece even if the training texts hold none: spelled in bytes it would be lost.
    "required_chars": SPACE_MARK,
    "hard_vocab_limit": False,
    # Threads add float scores in groups, so that another number of them gives other pieces. A fixed
    # one gives the same model on a machine with more cores.
    "num_threads": 8,
    "minloglevel": 2,  # errors only; they are raised too
}


def train_model(
    texts: Iterable[str],
    *,
    model_type: TokenizerType,
    vocab_size: int,
    character_coverage: float,
    byte_fallback: bool | None,
    user_defined_symbols: Sequence[str],
    lossless: bool,
    rules: TextRules,
) -> bytes:
    """Returns the bytes of a trained model; arguments and errors as in `Tokenizer.train`.

    Args:
        texts: As there.
        model_type: `type` there.
        vocab_size: As there.
        character_coverage: As there.
        byte_fallback: As there.
        user_defined_symbols: As there.
        lossless: As there.
        rules: Applied to each text and symbol first.
    """
    if vocab_size > bounds.MAX_VOCAB_SIZE:
        raise ConfigError(
            f"`vocab_size` must be {bounds.MAX_VOCAB_SIZE} or less. Received: {vocab_size}."
        )
    symbols = _checked_symbols(user_defined_symbols, model_type, lossless, rules)
    sample = sample_texts(cut_texts(map(rules.prepare, texts)), _MAX_TRAINING_CHARACTERS)
    if not sample:
        raise DataError(
            "A tokenizer needs training texts, but all texts given are empty or blank. "
            "Check the files of the training data."
        )
    options = {
        "model_type": model_type,
        "vocab_size": vocab_size,
        "character_coverage": character_coverage,
        "user_defined_symbols": symbols,
        "add_dummy_prefix": not lossless,
        "remove_extra_whitespaces": not lossless,
    }
    try:
        options["byte_fallback"] = _choose_byte_fallback(sample, options, byte_fallback)
        run = _run_word_trainer if model_type == "word" else _run_trainer
        return run(sample, options)
    except RuntimeError as error:
        check_encodable(sample)
        raise RunError(f"SentencePiece could not train the tokenizer: {error}") from error


def _checked_symbols(
    symbols: Sequence[str], model_type: TokenizerType, lossless: bool, rules: TextRules
) -> list[str]:
    """Returns the symbols in the trainer's form: normalized like the texts, without repeats."""
    if lossless and model_type == "word":
        raise ConfigError(
            "A word tokenizer cannot be lossless: it splits only at spaces, so a newline would be "
            "part of the words beside it. Use unigram, bpe or char, or `lossless: false`."
        )
    reserved = [f"<0x{byte:02X}>" for byte in range(_NUM_BYTES)]
    for symbol in symbols:
        if not symbol or any(character in symbol for character in (" ", SPACE_MARK, "\0")):
            raise ConfigError(
                "A user-defined symbol must be a text without spaces, U+2581 and NUL. "
                f"Received: {symbol!r}."
            )
        if symbol in _SPECIAL_PIECES or symbol in reserved:
            raise ConfigError(
                f"The user-defined symbol {symbol!r} is the name of a special piece of the "
                "tokenizer. Choose another."
            )
        if not rules.prepare(symbol):
            raise ConfigError(
                f"The user-defined symbol {symbol!r} has no character that the normalization "
                f"{rules.normalization} keeps. Choose another, or `normalization: none`."
            )
    symbols = list(map(rules.prepare, symbols))
    if model_type == "word":  # A word's piece begins with the space before it.
        symbols = [SPACE_MARK + symbol for symbol in symbols]
    return list(dict.fromkeys([*symbols, "\n"] if lossless else symbols))


def cut_texts(texts: Iterable[str]) -> Iterator[str]:
    """Cuts texts into parts that the trainer does not skip, and leaves out blank ones."""
    for text in texts:
        for part in _CUTS.split(text):
            for start in range(0, len(part), _MAX_TEXT_CHARACTERS):
                piece = part[start : start + _MAX_TEXT_CHARACTERS]
                if piece.strip(" " + SPACE_MARK):
                    yield piece


def sample_texts(texts: Iterable[str], max_characters: int) -> list[str]:
    """Returns all texts in order, or a random sample of them that fits.

    Each text draws a number, and the highest half is dropped whenever the rest is too much: memory
    stays within `max_characters`, and the sample is the same each time. The trainer's own sampling
    (`input_sentence_size`) is not: its seed is fixed at the first use in a process.
    """
    rng = random.Random(0)  # noqa: S311 - no secret
    kept: list[tuple[float, str]] = []
    num_characters, share = 0, 1.0
    for text in texts:
        draw = rng.random()
        if draw >= share:
            continue
        kept.append((draw, text))
        num_characters += len(text)
        while num_characters > max_characters:
            share /= 2
            kept = [(draw, text) for draw, text in kept if draw < share]
            num_characters = sum(len(text) for _, text in kept)
    if share < 1.0:
        _logger.info("The tokenizer is trained on a random %g %% of the texts.", 100 * share)
    return [text for _, text in kept]


def _choose_byte_fallback(
    texts: list[str], options: dict[str, Any], byte_fallback: bool | None
) -> bool:
    """Returns whether the model gets pieces for bytes; None leaves it to the room for them.

    Raises:
        ConfigError: If `vocab_size` is too small for the pieces that it must have.
        RuntimeError: If SentencePiece fails.
    """
    num_fixed = len(_SPECIAL_PIECES) + len(options["user_defined_symbols"])
    num_characters = _num_characters(texts, options)
    room = options["vocab_size"] - num_fixed
    if byte_fallback is None and num_characters <= room < num_characters + _NUM_BYTES:
        byte_fallback = False
        _logger.info(
            "vocab_size=%d has no room for the %d bytes beside the characters, so byte_fallback "
            "is off: a character that the training texts lack is one unknown token.",
            options["vocab_size"],
            _NUM_BYTES,
        )
    # The trainer of characters gives pieces to the most frequent ones; bytes spell the others.
    is_char = options["model_type"] == "char"
    needed_with_bytes = _NUM_BYTES if is_char else num_characters + _NUM_BYTES
    if byte_fallback is None:
        byte_fallback = room >= needed_with_bytes
    needed = needed_with_bytes if byte_fallback else num_characters
    if room < needed:
        cure = ", or set `byte_fallback: false`" if byte_fallback else ""
        raise ConfigError(
            f"`vocab_size` must be at least {num_fixed + needed} for these training texts: special "
            "pieces, user-defined symbols, bytes, and each character. Received: "
            f"{options['vocab_size']}. Raise it, or lower `character_coverage`{cure}."
        )
    return byte_fallback


def _num_characters(texts: list[str], options: dict[str, Any]) -> int:
    """Returns how many characters must have pieces: the coverage's share, and the space."""
    if options["model_type"] == "word":
        return 0
    every = {**options, "model_type": "char", "byte_fallback": False, "vocab_size": sys.maxunicode}
    num_fixed = len(_SPECIAL_PIECES) + len(options["user_defined_symbols"])
    return len(parse_model(_run_trainer(texts, every)).pieces) - num_fixed


def _run_trainer(texts: list[str], options: dict[str, Any]) -> bytes:
    """Runs the SentencePiece trainer and returns the model. It raises RuntimeError."""
    model = io.BytesIO()
    run_interruptibly(
        lambda: sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, **_TRAINER_OPTIONS, **options
        )
    )
    return with_finite_scores(model.getvalue())


def _run_word_trainer(texts: list[str], options: dict[str, Any]) -> bytes:
    """Trains a word model with a rule that replaces U+2581 by a space after decoding.

    A word without a piece is spelled in bytes, together with the mark of the space before it, and
    decoding would leave that mark in the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        rule = Path(folder, "rule.tsv")
        rule.write_text(f"{ord(SPACE_MARK):X}\t{ord(' '):X}\n", encoding="ascii")
        options = {**options, "denormalization_rule_tsv": str(rule)}
        model = parse_model(_run_trainer(texts, options))
    model.denormalizer.remove_extra_whitespaces = (
        True  # An extra space before a spelled first word.
    )
    model.denormalizer.ClearField("rule_file")
    return bytes(model.SerializeToString())
