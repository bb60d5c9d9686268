r"""Text to token ids and back with SentencePiece, alike in Python and in TensorFlow's graph op.

Trains, loads and saves a vocabulary. Knows nothing of TensorFlow, corpora or padding.

What comes back from `decode(encode(text))` is `text`, with these exceptions:

- Normalization, if there is any, changes what `normalization` says.
- Not lossless: runs of spaces (U+0020 alone) become one, and spaces at the ends go.
- Without byte fallback: a character that has no piece comes back as " \u2047 ", the unknown token.
- A model made before there was `normalization`: U+2581, SentencePiece's own mark for a space, comes
  back as one.
- A model given ready with rules of its own (its charsmap): what they say.
"""

import hashlib
import io
import logging
import math
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import sentencepiece
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from seq2seq_kit import bounds
from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.config.sections import Normalization
from seq2seq_kit.errors import ConfigError, DataError, RunError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.interruption import run_interruptibly
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK, TextRules, normalize

TokenizerType = Literal["unigram", "bpe", "word", "char"]

_logger = logging.getLogger(__name__)

_SPECIAL_IDS = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}
_SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>")
_NUM_BYTES = 256
_UNIGRAM = 1  # TrainerSpec.ModelType
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6  # SentencePiece.Type

# A model's normalizer has this name and the normalization's: SentencePiece reads no names.
_RULES_NAME = "seq2seq_kit/"

# Sums of scores below 2**14 in steps of 2**-10 fit in the 24 bits of a float32 and are exact.
_SCORE_STEPS = 2**10

# Training takes up to 100 bytes of memory a character, measured on Chinese (BPE; unigram takes 60).
_MAX_TRAINING_CHARACTERS = 20_000_000

# The trainer skips texts longer than its limit without a word, so they are cut to fit: that costs
# at most one odd piece in so many characters.
_MAX_TEXT_CHARACTERS = 10_000

# The trainer skips a whole text for one U+2585 (its mark for unknown characters) and a word for
# one NUL. Neither can be in a piece, and a newline never should: texts are cut there.
_CUTS = re.compile("[\0\n\u2585]")

_TRAINER_OPTIONS: dict[str, Any] = {
    **_SPECIAL_IDS,
    "normalization_rule_name": "identity",
    "max_sentence_length": 4 * _MAX_TEXT_CHARACTERS,  # bytes; UTF-8 takes at most 4 a character
    # A space has a piece though the training texts hold none: spelt in bytes it would be no space.
    "required_chars": SPACE_MARK,
    "hard_vocab_limit": False,
    # Threads add float scores in groups, so that another number of them gives other pieces. A fixed
    # one gives the same model on a machine with more cores.
    "num_threads": 8,
    "minloglevel": 2,  # errors alone; they are raised too
}


# The parts of a SentencePiece model that are read or changed here; the others pass through as they
# are. The class that comes with sentencepiece is no help: it refuses every protobuf runtime older
# than the one it was generated with, and TensorFlow runs with older ones.
# Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
_SCHEMA = """
name: "seq2seq_kit/sentencepiece_model.proto"
package: "seq2seq_kit"
message_type { name: "Piece"
  field { name: "piece" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "score" number: 2 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type { name: "TrainerSpec"
  field { name: "input" number: 1 label: LABEL_REPEATED type: TYPE_STRING }
  field { name: "model_prefix" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type { name: "Rules"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "charsmap" number: 2 label: LABEL_OPTIONAL type: TYPE_BYTES }
  field { name: "add_dummy_prefix" number: 3 label: LABEL_OPTIONAL
          type: TYPE_BOOL default_value: "true" }
  field { name: "remove_extra_whitespaces" number: 4 label: LABEL_OPTIONAL
          type: TYPE_BOOL default_value: "true" }
  field { name: "rule_file" number: 6 label: LABEL_OPTIONAL type: TYPE_STRING }
}
message_type { name: "Model"
  field { name: "pieces" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Piece" }
  field { name: "trainer" number: 2 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.TrainerSpec" }
  field { name: "normalizer" number: 3 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Rules" }
  field { name: "denormalizer" number: 5 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Rules" }
}
"""


def _model_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("seq2seq_kit.Model"))


_Model = _model_class()


class Tokenizer:
    """A SentencePiece vocabulary: texts to ids, and ids to texts.

    The special ids are the same in every model. `encode` adds none of them, and a text that spells
    `<s>` does not become one.

    A unigram model's scores are rounded to multiples of 1/1024. The release of SentencePiece inside
    tensorflow-text adds them in another order than the one in Python, and float32 rounding would
    break ties differently: rounded scores add exactly, so that both find the same pieces. That
    holds up to a sum of 2**14, some 1,000 tokens and more; beyond, two segmentations of a text that
    are equally good may be told apart by rounding.

    Args:
        model_proto: The bytes of a SentencePiece `.model` file.
        normalization: The Unicode form of its texts, if the file does not say its own. None leaves
            them as they are, and a U+2581 in a text comes back as a space: so were the models of
            earlier runs.

    Raises:
        ConfigError: If `model_proto` is no SentencePiece model, has other special ids, or a
            normalization that this version does not know.

    Example:

    >>> tokenizer = Tokenizer.train(["a rose is a rose"], type="char", vocab_size=267)
    >>> tokenizer.tokenize("a rose")
    ['▁', 'a', '▁', 'r', 'o', 's', 'e']
    >>> tokenizer.decode(tokenizer.encode(["is a rose", "春"]))
    ['is a rose', '春']
    """

    def __init__(self, model_proto: bytes, normalization: Normalization | None = None) -> None:
        model = _parse(model_proto)
        if normalization is not None and not _is_named(model):
            model.normalizer.name = _RULES_NAME + normalization
            model_proto = bytes(model.SerializeToString())
        self._rules = _text_rules(model)
        self._model_proto = _with_exact_scores(_without_paths(model_proto, model), model)
        self._processor = _load(self._model_proto)
        _check_special_ids(self._processor)
        self._pieces = [piece.piece for piece in model.pieces]
        self._surfaces = tuple(map(_surface, model.pieces))
        self._lossless = _is_lossless(model)
        self._joins_spaces = bool(model.normalizer.remove_extra_whitespaces)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        type: TokenizerType = "unigram",  # noqa: A002 - the config's name for it
        vocab_size: int,
        character_coverage: float = 1.0,
        byte_fallback: bool | None = None,
        user_defined_symbols: Sequence[str] = (),
        lossless: bool = False,
        normalization: Normalization = "none",
    ) -> Self:
        """Trains a vocabulary. The same texts give the same bytes.

        Of more than 20 million characters, a random sample of 10 to 20 million is used. Text
        without spaces, such as Chinese, trains within seconds as `bpe` and takes minutes as
        `unigram`: 3 and 130 seconds for 2.7 million characters.

        Args:
            texts: Training texts, such as the lines of a corpus; read once, not kept.
            type: The SentencePiece algorithm. `word` splits at spaces alone.
            vocab_size: Pieces wanted, the four special ones included. If the texts cannot give so
                many, all they give are used, and a warning says how many those are.
            character_coverage: Share of the characters that get pieces, above 0 and up to 1.
            byte_fallback: Whether to spell what has no piece in UTF-8 bytes (256 pieces more)
                instead of as one unknown token. None does if `vocab_size` has room for the bytes
                beside a piece for each character.
            user_defined_symbols: Texts that always are one token, such as tags. With `word`, only
                where they stand as a word.
            lossless: Whether to keep runs of spaces, and spaces at the ends, and to make each
                newline a token of its own, which no piece crosses: encoding line by line, each with
                its newline, is then the same as encoding all at once. (For unigram up to some 1,000
                tokens at once, as the class says.)
            normalization: The Unicode form of training texts, and of all that is encoded later.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: If `vocab_size` is more than `bounds.MAX_VOCAB_SIZE`, or too small for the
                characters and bytes (the message says the least that works), a symbol is unusable,
                or `word` is to be lossless.
            DataError: If `texts` hold no text, or half of a surrogate pair.
        """
        rules = TextRules(normalization, escapes=True)
        if vocab_size > bounds.MAX_VOCAB_SIZE:
            raise ConfigError(
                f"`vocab_size` must be {bounds.MAX_VOCAB_SIZE} or less. Received: {vocab_size}."
            )
        symbols = _checked_symbols(user_defined_symbols, type, lossless, rules)
        sample = _sample(_training_texts(map(rules.prepare, texts)), _MAX_TRAINING_CHARACTERS)
        if not sample:
            raise DataError(
                "A tokenizer needs training texts, but all that came are empty or blank. "
                "Check the files of the training data."
            )
        options = {
            "model_type": type,
            "vocab_size": vocab_size,
            "character_coverage": character_coverage,
            "user_defined_symbols": symbols,
            "add_dummy_prefix": not lossless,
            "remove_extra_whitespaces": not lossless,
        }
        try:
            model_proto = _train(sample, options, byte_fallback)
        except RuntimeError as error:
            _check_encodable(sample)
            raise RunError(f"SentencePiece could not train the tokenizer: {error}") from error
        tokenizer = cls(model_proto, normalization)
        tokenizer.warn_if_smaller(vocab_size)
        return tokenizer

    @classmethod
    def load(cls, path: Path, normalization: Normalization | None = None) -> Self:
        """Loads a `.model` file, one that `save` wrote or another with the same special ids.

        Args:
            path: The file.
            normalization: As for the class.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: If the file cannot be read, or holds no such model.
        """
        try:
            return cls(_read(path), normalization)
        except OSError as error:
            raise ConfigError(
                f"{path}: the tokenizer model cannot be read ({error.strerror}). Check the path."
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def warn_if_smaller(self, vocab_size: int) -> None:
        """Logs a warning if the vocabulary has fewer pieces than `vocab_size`."""
        if self.vocab_size < vocab_size:
            _logger.warning(
                "vocab_size=%d was asked for, but the training texts give %d pieces at most: the "
                "vocabulary has %d.",
                vocab_size,
                self.vocab_size,
                self.vocab_size,
            )

    def save(self, path: Path) -> None:
        """Writes the model as a plain SentencePiece `.model` file, whole or not at all.

        Args:
            path: The file; one that exists is replaced.
        """
        write_bytes(path, self._model_proto, "The tokenizer")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turns texts into ids, without BOS and EOS.

        Args:
            texts: The texts. An empty one has no ids.

        Returns:
            The ids of each text.

        Raises:
            TypeError: If `texts` is one string: it would be taken for a list of characters.
            DataError: If a text holds half of a surrogate pair, which UTF-8 cannot spell.
        """
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be a list of strings. Received one string: {texts!r}.")
        try:
            ids: list[list[int]] = self._processor.encode(list(map(self._rules.prepare, texts)))
        except (RuntimeError, TypeError):
            _check_encodable(texts)
            raise
        return ids

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Turns ids into texts: the inverse of `encode`, but for what the module names.

        Padding, BOS and EOS give no text, and nothing ends at them: the caller cuts at EOS. Bytes
        that are not UTF-8 together become U+FFFD. Under the normalization `nfd`, texts are composed
        again, to NFC.

        Args:
            ids: Ids of each text, lists or integer arrays, each from 0 to `vocab_size - 1`.

        Returns:
            The texts.

        Raises:
            IndexError: If an id is out of range.
        """
        decoded = (self._processor.decode([int(token_id) for token_id in row]) for row in ids)
        return list(map(self._rules.restore, decoded))

    def normalize(self, text: str) -> str:
        """Returns a text as it comes back from `decode(encode(text))`, if all in it has tokens.

        Two texts that come out equal are the same to the model: compare texts in this form.

        Args:
            text: One text.
        """
        text = normalize(text, self._rules.normalization)
        if self._rules.normalization == "nfd":
            text = normalize(text, "nfc")
        return " ".join(filter(None, text.split(" "))) if self._joins_spaces else text

    def tokenize(self, text: str) -> list[str]:
        """Returns the pieces of a text, with U+2581 for a space: what to show a person.

        Args:
            text: One text.

        Returns:
            A piece for each id that `encode` gives.
        """
        return [self._pieces[token_id] for token_id in self.encode([text])[0]]

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special ones included."""
        return len(self._pieces)

    @property
    def pieces(self) -> list[str]:
        """The piece of each id."""
        return list(self._pieces)

    @property
    def surfaces(self) -> tuple[bytes, ...]:
        """What each id adds to a text as SentencePiece spells it: UTF-8, U+2581 for a space.

        The byte itself for one of byte fallback; nothing for padding, the unknown token and other
        marks. Those of the ids of a text, joined, are its spelling, unless an unknown token is
        among them.
        """
        return self._surfaces

    @property
    def model_proto(self) -> bytes:
        """The model as bytes, for `tensorflow_text.SentencepieceTokenizer` too."""
        return self._model_proto

    @property
    def text_rules(self) -> TextRules:
        """How texts are spelt before SentencePiece and read after it; a graph must do the same."""
        return self._rules

    @property
    def lossless(self) -> bool:
        """Whether spaces and newlines all come back, each newline as one token."""
        return self._lossless

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model, in hex: equal means that every text has the same ids."""
        return hashlib.sha256(self._model_proto).hexdigest()


def _surface(piece: Any) -> bytes:
    if piece.type == _BYTE:
        return bytes([int(piece.piece[1:-1], 16)])
    return piece.piece.encode() if piece.type in (_NORMAL, _USER_DEFINED) else b""


def _checked_symbols(
    symbols: Sequence[str], model_type: TokenizerType, lossless: bool, rules: TextRules
) -> list[str]:
    """Returns the symbols as the trainer takes them, each once: normalized, as texts are."""
    if lossless and model_type == "word":
        raise ConfigError(
            "A word tokenizer cannot be lossless: it splits at spaces alone, so that a newline "
            "sticks to the words beside it. Use unigram, bpe or char, or `lossless: false`."
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
                f"The user-defined symbol {symbol!r} is the name of a piece of the tokenizer's "
                "own. Choose another."
            )
        if not rules.prepare(symbol):
            raise ConfigError(
                f"The user-defined symbol {symbol!r} has no character that the normalization "
                f"{rules.normalization} leaves. Choose another, or `normalization: none`."
            )
    symbols = list(map(rules.prepare, symbols))
    if model_type == "word":  # a word's piece begins with the space before it
        symbols = [SPACE_MARK + symbol for symbol in symbols]
    return list(dict.fromkeys([*symbols, "\n"] if lossless else symbols))


def _training_texts(texts: Iterable[str]) -> Iterator[str]:
    """Cuts texts into what the trainer reads whole, and leaves out what is blank."""
    for text in texts:
        for part in _CUTS.split(text):
            for start in range(0, len(part), _MAX_TEXT_CHARACTERS):
                piece = part[start : start + _MAX_TEXT_CHARACTERS]
                if piece.strip(" " + SPACE_MARK):
                    yield piece


def _sample(texts: Iterable[str], max_characters: int) -> list[str]:
    """Returns all texts in order, or a random sample of them that fits.

    Each text draws a number, and the highest half goes whenever the rest is too much: memory stays
    within `max_characters`, and the sample is the same each time. The trainer's own sampling
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


def _train(texts: list[str], options: dict[str, Any], byte_fallback: bool | None) -> bytes:
    """Trains a model with pieces for bytes or without; None decides by the room that there is.

    Raises:
        ConfigError: If `vocab_size` is too small for what must be in it.
        RuntimeError: If SentencePiece fails.
    """
    model_type = options["model_type"]
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
    needed_with_bytes = _NUM_BYTES if model_type == "char" else num_characters + _NUM_BYTES
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
    run = _run_word_trainer if model_type == "word" else _run_trainer
    return run(texts, {**options, "byte_fallback": byte_fallback})


def _num_characters(texts: list[str], options: dict[str, Any]) -> int:
    """Returns how many characters must have pieces: the coverage's share, and the space."""
    if options["model_type"] == "word":
        return 0
    every = {**options, "model_type": "char", "byte_fallback": False, "vocab_size": sys.maxunicode}
    num_fixed = len(_SPECIAL_PIECES) + len(options["user_defined_symbols"])
    return len(_parse(_run_trainer(texts, every)).pieces) - num_fixed


def _run_trainer(texts: list[str], options: dict[str, Any]) -> bytes:
    """Runs the SentencePiece trainer and returns the model. It raises RuntimeError."""
    model = io.BytesIO()
    run_interruptibly(
        lambda: sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, **_TRAINER_OPTIONS, **options
        )
    )
    return _with_finite_scores(model.getvalue())


def _with_finite_scores(model_proto: bytes) -> bytes:
    """Scores a character that the texts lack: that of characters is the log of their share."""
    model = _Model.FromString(model_proto)
    scores = [piece.score for piece in model.pieces]
    if all(map(math.isfinite, scores)):
        return model_proto
    lowest = min(filter(math.isfinite, scores))
    for piece in model.pieces:
        piece.score = max(piece.score, lowest)
    return bytes(model.SerializeToString())


def _run_word_trainer(texts: list[str], options: dict[str, Any]) -> bytes:
    """Trains a word model, with a rule in it that turns U+2581 into a space after decoding.

    A word without a piece is spelt in bytes, together with the mark of the space before it, and
    decoding would leave that mark as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        rule = Path(folder, "rule.tsv")
        rule.write_text(f"{ord(SPACE_MARK):X}\t{ord(' '):X}\n", encoding="ascii")
        model = _parse(_run_trainer(texts, {**options, "denormalization_rule_tsv": str(rule)}))
    model.denormalizer.remove_extra_whitespaces = True  # one more space, if the first word is spelt
    model.denormalizer.ClearField("rule_file")
    return bytes(model.SerializeToString())


def _check_encodable(texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"Text {index + 1}: character {error.start + 1} ({text[error.start]!r}) is half of "
                "a surrogate pair, which UTF-8 cannot spell. Decode the text from bytes anew."
            ) from error


def _check_special_ids(processor: sentencepiece.SentencePieceProcessor) -> None:
    received = {name: getattr(processor, name)() for name in _SPECIAL_IDS}
    if received != _SPECIAL_IDS:
        flags = " ".join(f"--{name}={number}" for name, number in _SPECIAL_IDS.items())
        raise ConfigError(
            f"The special ids of the SentencePiece model must be {_listed(_SPECIAL_IDS)}. "
            f"Received: {_listed(received)}. Train the model with `spm_train {flags}`, or leave "
            "`tokenizer.model` out to have one trained."
        )


def _listed(ids: dict[str, int]) -> str:
    return ", ".join(f"{name}={number}" for name, number in ids.items())


def _is_named(model: Any) -> bool:
    return bool(model.normalizer.name.startswith(_RULES_NAME))


def _text_rules(model: Any) -> TextRules:
    """Returns what a model's name for its rules says."""
    if not _is_named(model):
        return TextRules("none", escapes=False)
    name = model.normalizer.name.removeprefix(_RULES_NAME)
    if name not in get_args(Normalization):
        raise ConfigError(
            f"The tokenizer's normalization must be one of {', '.join(get_args(Normalization))}. "
            f"Received: {name!r}. Use the version of seq2seq_kit that wrote the model."
        )
    return TextRules(name, escapes=not model.normalizer.charsmap)


def _is_lossless(model: Any) -> bool:
    rules = model.normalizer
    changes_text = rules.charsmap or rules.add_dummy_prefix or rules.remove_extra_whitespaces
    with_newline = [piece.piece for piece in model.pieces if "\n" in piece.piece]
    return not changes_text and with_newline == ["\n"]


def _without_paths(model_proto: bytes, model: Any) -> bytes:
    """Takes out, of both, the paths that `spm_train` stores: they say who trained it, and where."""
    places = (
        (model.trainer, "input"),
        (model.trainer, "model_prefix"),
        (model.normalizer, "rule_file"),
        (model.denormalizer, "rule_file"),
    )
    present = [(part, name) for part, name in places if getattr(part, name)]
    for part, name in present:
        part.ClearField(name)
    return bytes(model.SerializeToString()) if present else model_proto


def _with_exact_scores(model_proto: bytes, model: Any) -> bytes:
    """Makes sums of a unigram model's scores exact. Any other model's bytes stay as they are."""
    if model.trainer.model_type != _UNIGRAM:
        return model_proto
    exact = _Model()
    exact.CopyFrom(model)
    for piece in exact.pieces:
        piece.score = round(piece.score * _SCORE_STEPS) / _SCORE_STEPS
        # SentencePiece scores these as length * best score - 0.1, which is no float32. As normal
        # pieces that cost nothing they win too. Only where text is not normalised: their type also
        # keeps them from that.
        if piece.type == _USER_DEFINED and not exact.normalizer.charsmap:
            piece.type, piece.score = _NORMAL, 0.0
    return model_proto if exact == model else bytes(exact.SerializeToString())


def _read(path: Path) -> bytes:
    """Returns the bytes of a model file. Raises OSError or ConfigError."""
    if reason := why_not_regular(path):
        raise ConfigError(f"the tokenizer model cannot be read ({reason}). Check the path.")
    if (size := path.stat().st_size) > bounds.MAX_MODEL_BYTES:
        raise ConfigError(_no_model(f"{size:,} bytes are too many"))
    return path.read_bytes()


def _parse(model_proto: bytes) -> Any:
    """Reads a SentencePiece model into a `_Model` message."""
    try:
        model = _Model.FromString(model_proto)
        if not 0 < len(model.pieces) <= bounds.MAX_VOCAB_SIZE:
            raise ConfigError(_no_model(f"it has {len(model.pieces):,} pieces"))
        if not all(_is_sound(piece) for piece in model.pieces):
            raise ConfigError(_no_model("a piece has no text, or a score that is no number"))
    except message.DecodeError as error:
        raise ConfigError(_no_model(str(error))) from error
    return model


def _is_sound(piece: Any) -> bool:
    # What is not UTF-8 comes as bytes.
    return isinstance(piece.piece, str) and piece.piece != "" and math.isfinite(piece.score)


def _load(model_proto: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model_proto)
    except (RuntimeError, UnicodeDecodeError) as error:  # Its messages may hold any bytes.
        raise ConfigError(_no_model(str(error))) from error


def _no_model(reason: str) -> str:
    return (
        f"Expected a SentencePiece model, but the data are none ({reason}). "
        "Name the `.model` file that SentencePiece or `save` wrote."
    )
