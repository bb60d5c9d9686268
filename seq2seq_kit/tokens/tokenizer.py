r"""Text to token ids and back with SentencePiece, equal in Python and in TensorFlow's graph op.

Knows nothing of TensorFlow, corpora or padding. `decode(encode(text))` is `text`, with these
exceptions:

- Normalization, if there is any, changes what `text/normalization.py` lists.
- Not lossless: runs of spaces (only U+0020) become one, and spaces at the ends are dropped.
- Without byte fallback: a character without a piece is decoded as " \u2047 ", the unknown token.
- A model of a version before `normalization`: U+2581, SentencePiece's mark for a space, is decoded
  as a space.
- A model from elsewhere with its own normalization rules (a charsmap): whatever they change.
"""

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self, get_args

import sentencepiece

from seq2seq_kit import bounds
from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.config.section import Normalization
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.text.normalization import TextRules, check_encodable, normalize
from seq2seq_kit.tokens.proto import (
    BYTE,
    NORMAL,
    not_a_model,
    parse_model,
    surface,
    with_exact_scores,
    without_paths,
)
from seq2seq_kit.tokens.train import SPECIAL_IDS, TokenizerType, train_model

_logger = logging.getLogger(__name__)

# A model's normalizer is named this, followed by its normalization: SentencePiece reads no names.
_RULES_NAME = "seq2seq_kit/"

_SPACE = "\u2581".encode()

# SentencePiece has one seed for the whole process.
_SEED_LOCK = threading.Lock()


class Tokenizer:
    """A SentencePiece vocabulary: texts to ids, and ids to texts.

    The special ids are the same in every model. `encode` adds none of them, and a text that spells
    `<s>` does not become one.

    The scores of a unigram model are rounded to multiples of 1/1024. The release of SentencePiece
    inside tensorflow-text adds them in another order than the one in Python, and float32 rounding
    would break ties differently: rounded scores add exactly, so that both find the same pieces.
    That holds up to a sum of 2**14, some 1,000 tokens or more; in longer texts, rounding may decide
    between two equally good segmentations.

    Args:
        model_proto: The bytes of a SentencePiece `.model` file.
        normalization: The Unicode form of its texts, if the file does not hold one. None leaves
            texts unchanged, and a U+2581 in a text is decoded as a space, as by the models of
            earlier versions.

    Raises:
        ConfigError: If `model_proto` is not a SentencePiece model, or has other special ids or a
            normalization that this version does not know.

    Example:

    >>> tokenizer = Tokenizer.train(["a rose is a rose"], type="char", vocab_size=267)
    >>> tokenizer.tokenize("a rose")
    ['▁', 'a', '▁', 'r', 'o', 's', 'e']
    >>> tokenizer.decode(tokenizer.encode(["is a rose", "春"]))
    ['is a rose', '春']
    """

    def __init__(self, model_proto: bytes, normalization: Normalization | None = None) -> None:
        model = parse_model(model_proto)
        if normalization is not None and not _is_named(model):
            model.normalizer.name = _RULES_NAME + normalization
            model_proto = bytes(model.SerializeToString())
        self._rules = _text_rules(model)
        self._model_proto = with_exact_scores(without_paths(model_proto, model), model)
        self._processor = _load(self._model_proto)
        _check_special_ids(self._processor)
        self._pieces = [piece.piece for piece in model.pieces]
        self._surfaces = tuple(map(surface, model.pieces))
        self._lossless = _is_lossless(model)
        self._type = get_args(TokenizerType)[model.trainer.model_type - 1]
        self._fixed_ids = frozenset(
            index for index, piece in enumerate(model.pieces) if piece.type not in (NORMAL, BYTE)
        )
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

        Of more than 20 million characters, a random sample of 10 to 20 million is used. On text
        without spaces, such as Chinese, `bpe` trains in seconds and `unigram` in minutes: 3 and 130
        seconds for 2.7 million characters.

        Args:
            texts: Training texts, such as the lines of a corpus; read once, not kept.
            type: The SentencePiece algorithm. `word` splits only at spaces.
            vocab_size: Pieces, including the four special ones. If the texts give fewer, these are
                used, and a warning says how many they are.
            character_coverage: Share of the characters that get pieces, above 0 and up to 1.
            byte_fallback: Whether to spell characters without a piece in UTF-8 bytes (256 more
                pieces) instead of as one unknown token. None: if `vocab_size` has room for the
                bytes beside a piece for each character.
            user_defined_symbols: Texts that are always one token, such as tags. With `word`, only
                where they are whole words.
            lossless: Whether to keep runs of spaces, and spaces at the ends, and to make each
                newline a separate token that is part of no other piece: encoding line by line, each
                with its newline, is then the same as encoding everything at once. (For unigram, up
                to some 1,000 tokens at once; see the class.)
            normalization: The Unicode form of the training texts and of all texts encoded later.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: If `vocab_size` is more than `bounds.MAX_VOCAB_SIZE`, or too small for the
                characters and bytes (the message gives the smallest size that works), a symbol
                cannot be used, or `lossless` is combined with `word`.
            DataError: If `texts` hold no text, or half of a surrogate pair.
            RunError: If SentencePiece fails.
        """
        model_proto = train_model(
            texts,
            model_type=type,
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            byte_fallback=byte_fallback,
            user_defined_symbols=user_defined_symbols,
            lossless=lossless,
            rules=TextRules(normalization, escapes=True),
        )
        tokenizer = cls(model_proto, normalization)
        tokenizer.warn_if_smaller(vocab_size)
        return tokenizer

    @classmethod
    def load(cls, path: Path, normalization: Normalization | None = None) -> Self:
        """Loads a `.model` file that `save` wrote, or another one with the same special ids.

        Args:
            path: The file.
            normalization: As in the class.

        Returns:
            The tokenizer.

        Raises:
            ConfigError: If the file cannot be read or is no such model.
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
                "vocab_size=%d was requested, but the training texts give at most %d pieces: the "
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
        """Converts texts to ids, without BOS and EOS.

        Args:
            texts: The texts. An empty one has no ids.

        Returns:
            The ids of each text.

        Raises:
            TypeError: If `texts` is one string, which would be read as a list of characters.
            DataError: If a text holds half of a surrogate pair, which UTF-8 cannot spell.
        """
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be a list of strings. Received one string: {texts!r}.")
        try:
            ids: list[list[int]] = self._processor.encode(list(map(self._rules.prepare, texts)))
        except (RuntimeError, TypeError):
            check_encodable(texts)
            raise
        return ids

    def resample(self, ids: Sequence[int], *, alpha: float, seed: int) -> list[int]:
        """Samples a segmentation of a text by the probabilities of SentencePiece's own sampler.

        With a unigram vocabulary, a segmentation is drawn with a probability proportional to its
        own to the power of `alpha` (Kudo, 2018, section 3.2, https://arxiv.org/abs/1804.10959).
        With BPE, each merge is left out with the probability `alpha` (Provilkov et al., 2020,
        https://arxiv.org/abs/1910.13267).

        Unknown and user-defined tokens stay, and the texts between them are sampled. A text between
        them that would not be restored, such as one that ends within a character, keeps its ids.
        The seed of `sentencepiece` in this process is changed.

        Args:
            ids: The ids of one text, or of a part of it, as `encode` gives them.
            alpha: For unigram, the smaller the more random; for BPE, from 0 to 1.
            seed: From 0 to 2**32 - 1. The same arguments give the same result.

        Returns:
            Ids of the same text.
        """
        sampled: list[int] = []
        with _SEED_LOCK:
            # -1 means "not seeded" to SentencePiece.
            sentencepiece.set_random_generator_seed(min(seed, 2**32 - 2))
            for is_fixed, group in groupby(ids, self._fixed_ids.__contains__):
                part = list(group)
                sampled += part if is_fixed else self._resample_part(part, alpha)
        return sampled

    def _resample_part(self, ids: list[int], alpha: float) -> list[int]:
        sampled: list[int] = self._processor.encode(
            self._processor.decode(ids), enable_sampling=True, alpha=alpha, nbest_size=-1
        )
        if self._joins_spaces and self._surfaces[ids[-1]] == _SPACE:
            sampled.append(ids[-1])  # A space before a fixed token: encoding drops it.
        texts = (b"".join(map(self._surfaces.__getitem__, part)) for part in (ids, sampled))
        return sampled if len(set(texts)) == 1 else ids

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Converts ids to texts: the inverse of `encode` but for the exceptions in the module.

        Padding, BOS and EOS add no text, and decoding does not stop at them: the caller cuts at
        EOS. Bytes that are not valid UTF-8 become U+FFFD. With the normalization `nfd`, texts are
        composed again, to NFC.

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
        """Returns `decode(encode(text))` for a text whose characters all have tokens.

        Texts that this makes equal are the same to the model: compare texts in this form.

        Args:
            text: One text.
        """
        text = normalize(text, self._rules.normalization)
        if self._rules.normalization == "nfd":
            text = normalize(text, "nfc")
        return " ".join(filter(None, text.split(" "))) if self._joins_spaces else text

    def tokenize(self, text: str) -> list[str]:
        """Returns the pieces of a text, with U+2581 for a space, to show to people.

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
        """What each id adds to the text that SentencePiece encodes: UTF-8, U+2581 for a space.

        A byte-fallback id adds its byte; padding, BOS, EOS and the unknown token add nothing.
        Joined over the ids of a text without unknown tokens, these are that text.
        """
        return self._surfaces

    @property
    def model_proto(self) -> bytes:
        """The model as bytes, also for `tensorflow_text.SentencepieceTokenizer`."""
        return self._model_proto

    @property
    def text_rules(self) -> TextRules:
        """How texts are changed before encoding and after decoding; a graph must do the same."""
        return self._rules

    @property
    def type(self) -> TokenizerType:
        """The SentencePiece algorithm."""
        return self._type

    @property
    def lossless(self) -> bool:
        """Whether decoding restores all spaces and newlines, and each newline is one token."""
        return self._lossless

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model, in hex. If equal, every text has the same ids."""
        return hashlib.sha256(self._model_proto).hexdigest()


def _check_special_ids(processor: sentencepiece.SentencePieceProcessor) -> None:
    received = {name: getattr(processor, name)() for name in SPECIAL_IDS}
    if received != SPECIAL_IDS:
        flags = " ".join(f"--{name}={number}" for name, number in SPECIAL_IDS.items())
        raise ConfigError(
            f"The special ids of the SentencePiece model must be {_listed(SPECIAL_IDS)}. "
            f"Received: {_listed(received)}. Train the model with `spm_train {flags}`, or leave "
            "`tokenizer.model` out to have one trained."
        )


def _listed(ids: dict[str, int]) -> str:
    return ", ".join(f"{name}={number}" for name, number in ids.items())


def _is_named(model: Any) -> bool:
    return bool(model.normalizer.name.startswith(_RULES_NAME))


def _text_rules(model: Any) -> TextRules:
    """Returns the rules that a model's normalizer has, by its name."""
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


def _read(path: Path) -> bytes:
    """Returns the bytes of a model file. Raises OSError or ConfigError."""
    if reason := why_not_regular(path):
        raise ConfigError(f"the tokenizer model cannot be read ({reason}). Check the path.")
    if (size := path.stat().st_size) > bounds.MAX_MODEL_BYTES:
        raise ConfigError(not_a_model(f"{size:,} bytes are too many"))
    return path.read_bytes()


def _load(model_proto: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model_proto)
    except (RuntimeError, UnicodeDecodeError) as error:  # Its messages may hold any bytes.
        raise ConfigError(not_a_model(str(error))) from error
