"""Which words of a translation come from which words of its source, read off the attention."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from seq2seq_kit.errors import InputError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.subject import TextModel, target_ids_of, text_model
from seq2seq_kit.model.networks import EncoderDecoder
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK
from seq2seq_kit.tokens.tokenizer import Tokenizer

# First words in the Unicode names of letters that are words of their own.
_WORD_LETTERS = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO")


@dataclass(frozen=True)
class Alignment:
    """The words of a source and a target, and the links between them.

    Words are separated by whitespace. Each Chinese or Japanese character and each full-width
    punctuation mark is a word, too.
    """

    source_words: tuple[str, ...]
    """The words of the source, as its tokenizer normalizes them."""
    target_words: tuple[str, ...]
    """The words of the target, likewise."""
    links: tuple[tuple[int, int], ...]
    """The places of a source word and of a target word, from 0: one link for each target word, in
    the order of the target."""

    def pharaoh(self) -> str:
        """Returns the links in the Pharaoh format, such as `0-0 2-1`: source before target."""
        return " ".join(f"{source}-{target}" for source, target in self.links)


class Aligner:
    """Aligns the words of translations with those of their sources.

    A target word is linked to the source word with the most attention over all its tokens. The
    end of the source, which belongs to no word, is left out. An alignment depends on nothing but
    its source and target.

    Args:
        model: A `Seq2Seq` or an `ExportedModel` with attention that translates.

    Raises:
        InputError: If it is another model.

    Example:

        aligner = insight.Aligner(translator)
        aligner("Das ist gut.").pharaoh()

    Reference: Luong et al., 2015, section 5.4, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, model: TextModel | ExportedModel) -> None:
        model = text_model(model)
        if not isinstance(model.model, EncoderDecoder) or model.config.task != "translation":
            raise InputError(
                f"Only a translation model with an encoder aligns words. Received a model for "
                f"{model.config.task} (model.architecture: {model.config.model.architecture})."
            )
        self.model = model
        if model.config.model.attention == "none":
            raise InputError(
                "Words are aligned by the attention, which this model does not have "
                "(model.attention: none)."
            )
        ids = tf.TensorSpec([1, None], tf.int32)
        attend = tf.function(
            model.model.attention_weights, input_signature=[ids, ids], autograph=False
        )
        # As a graph, even where other code has functions run eagerly.
        self._attention = attend.get_concrete_function()

    def __call__(
        self, source: str, target: str | Hypothesis | None = None, *, truncate: bool = False
    ) -> Alignment:
        """Returns the alignment of a source and a target.

        Args:
            source: The input.
            target: Its translation; None for the model's best output.
            truncate: Cut an over-long source instead of refusing it.

        Raises:
            InputError: If the source is over-long.
        """
        check_not_forked()
        model = self.model
        (source_ids,) = model.inputs.encode_rows([source], truncate=truncate)
        target_ids = target_ids_of(model, source, target)
        source_words, source_shares = words_of(model.source_tokenizer, source_ids)
        target_words, target_shares = words_of(model.tokenizer, target_ids)
        if not source_words or not target_words:
            return Alignment(source_words, target_words, ())
        weights = self._attention(
            tf.constant([[*source_ids, EOS_ID]]), tf.constant([[BOS_ID, *target_ids[:-1]]])
        )
        # Without the column of EOS.
        attention = weights.numpy()[0][:, :-1]
        links = link_words(attention, source_shares, target_shares)
        return Alignment(source_words, target_words, links)


def link_words(
    attention: np.ndarray, source_shares: np.ndarray, target_shares: np.ndarray
) -> tuple[tuple[int, int], ...]:
    """Returns a link for each target word, to the source word with the most attention.

    Args:
        attention: float `(target tokens, source tokens)`.
        source_shares: float `(source tokens, source words)`, from `words_of`.
        target_shares: float `(target tokens, target words)`, from `words_of`.

    Example:

    >>> attention = np.array([[0.1, 0.9], [0.6, 0.4], [0.7, 0.3]])
    >>> link_words(attention, np.eye(2), np.array([[1, 0], [0, 1], [0, 1]]))
    ((1, 0), (0, 1))
    """
    # (target words, source words)
    of_words = target_shares.T @ attention @ source_shares
    return tuple((int(source), target) for target, source in enumerate(of_words.argmax(axis=1)))


def words_of(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the words that ids spell, and how much of each token belongs to each word.

    Args:
        tokenizer: What the ids are of.
        ids: The tokens of a text; special ones belong to no word.

    Returns:
        The words, and float64 `(tokens, words)`: the share of a token's bytes, without spaces, that
        is in a word.
    """
    surfaces = tokenizer.surfaces
    # An unknown token is a character or several that the tokenizer cannot spell.
    spelled = ["\ufffd".encode() if token == UNK_ID else surfaces[token] for token in ids]
    owners = [place for place, part in enumerate(spelled) for _ in part]
    # Bytes that are no UTF-8 become a character each.
    text = b"".join(spelled).decode(errors="surrogateescape")
    words: list[str] = []
    pairs: list[tuple[int, int]] = []
    first, is_open = 0, False
    for character in text:
        last = first + len(character.encode(errors="surrogateescape"))
        if character == SPACE_MARK or character.isspace():
            is_open = False
        else:
            stands_alone = _is_word(character)
            if stands_alone or not is_open:
                words.append("")
            words[-1] += character
            pairs.extend((owner, len(words) - 1) for owner in owners[first:last])
            is_open = not stands_alone
        first = last
    shares = np.zeros((len(ids), len(words)))
    np.add.at(shares, tuple(np.array(pairs, int).reshape(-1, 2).T), 1.0)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
    return tuple(
        word.encode(errors="surrogateescape").decode(errors="replace") for word in words
    ), shares


def _is_word(character: str) -> bool:
    """Whether a character is a word by itself: a Han character, kana, full-width punctuation."""
    if character.isascii():
        return False
    if unicodedata.category(character).startswith("P"):
        return unicodedata.east_asian_width(character) in "WF"
    return unicodedata.name(character, "").replace("-", " ").split(" ")[0] in _WORD_LETTERS
