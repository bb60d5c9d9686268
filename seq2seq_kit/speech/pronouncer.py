"""Words to phones: a dictionary for those it has, a trained model for the others.

Knows nothing of sound.
"""

import functools
import itertools
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from seq2seq_kit.speech.dictionary import Phones, load_dictionary
from seq2seq_kit.speech.phonemes import PHONES, is_vowel
from seq2seq_kit.speech.verbalize import Clause

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

logger = logging.getLogger(__name__)

# Longer ones are names of chemicals or keys that were hit at random.
_MAX_WORD = 45

_WEAK_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the and but or nor as than that at by for from in into of on to with is are was were "
        "be been am has have had do does can could shall should will would must i you he she it we "
        "they me him her us them my your his its our their there some",
    )
)
"""Function words, which are not stressed in a sentence, except at the end of a clause."""

_WEAK_FORMS = {
    "a": "AH0",
    "an": "AH0 N",
    "and": "AH0 N D",
    "the": "DH AH0",
    "to": "T AH0",
    "of": "AH0 V",
    "was": "W AH0 Z",
}
_BEFORE_VOWELS = {"the": "DH IY0", "to": "T UW0"}

_VOICELESS = frozenset(("P", "T", "K", "F", "TH"))
_SIBILANTS = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))


class Pronunciation(NamedTuple):
    """A word and how it is pronounced."""

    word: str
    """As in the text."""
    phones: Phones
    """ARPAbet, with stress."""
    origin: Literal["dictionary", "model", "letters"]
    """Where the phones come from; `letters` for a word that is spelled."""


class Pronouncer:
    """Pronounces English words.

    Args:
        model: A model from words to ARPAbet phones with stress, or the name or run folder of one.
            It is loaded when a word is not in the dictionary.
    """

    def __init__(self, model: "str | Path | Seq2Seq") -> None:
        self._given = model
        self._guessed: dict[str, Phones | None] = {}

    @functools.cached_property
    def _model(self) -> "Seq2Seq":
        if not isinstance(self._given, str | Path):
            return self._given
        from seq2seq_kit import Seq2Seq

        logger.info("Loading %s for words that are not in the dictionary.", self._given)
        return Seq2Seq.load(self._given)

    def pronounce(self, clauses: Sequence[Clause]) -> list[list[Pronunciation]]:
        """Returns the pronunciation of each word of each clause, as in connected speech.

        Function words have their weak forms. A word that neither the dictionary nor the model can
        pronounce, and unknown initials such as `XKCD`, are spelled.

        Raises:
            InputError: If a word is unknown and the model cannot be loaded.
        """
        words = dict.fromkeys(word for clause in clauses for word in clause.words)
        self._guess(word for word in words if self._known(word) is None and not _is_initials(word))
        return [_connect(list(map(self._pronounce, clause.words))) for clause in clauses]

    def _pronounce(self, word: str) -> Pronunciation:
        if known := self._known(word):
            return Pronunciation(word, known, "dictionary")
        if (guess := self._guessed.get(word.lower())) and not _is_initials(word):
            return Pronunciation(word, guess, "model")
        dictionary = load_dictionary()
        letters = ["ay" if one == "a" else one for one in word.lower() if one.isalpha()]
        phones = itertools.chain.from_iterable(dictionary[letter][0] for letter in letters)
        return Pronunciation(word, tuple(phones), "letters")

    def _known(self, word: str) -> Phones | None:
        """Returns the phones of a word in the dictionary, also as the stem before an `'s`."""
        dictionary = load_dictionary()
        lower = word.lower()
        if lower in dictionary:
            return dictionary[lower][0]
        stem = re.fullmatch(r"(.+)'s", lower)
        if stem and stem[1] in dictionary:
            return _with_s(dictionary[stem[1]][0])
        return None

    def _guess(self, words: Iterable[str]) -> None:
        """Asks the model about the words that it was not asked about before."""
        new = sorted({word.lower() for word in words} - self._guessed.keys())
        self._guessed |= dict.fromkeys(new)
        if new := [word for word in new if len(word) <= _MAX_WORD]:
            model = self._model
            too_long = {place for place, _ in model.inputs.overlong(new)}
            new = [word for place, word in enumerate(new) if place not in too_long]
            for word, (best, *_) in zip(new, model.hypotheses(new), strict=True):
                phones = tuple(best.text.split())
                if not best.is_cut and any(map(is_vowel, phones)) and PHONES.issuperset(phones):
                    self._guessed[word] = phones


def _is_initials(word: str) -> bool:
    """Whether an unknown word is spelled: capitals, or no vowel letter, and short."""
    short_capitals = word.isupper() and len(word) <= 4
    return short_capitals or (len(word) > 1 and not re.search("[aeiouy]", word.lower()))


def _with_s(phones: Phones) -> Phones:
    """Returns the phones of a word with an `'s`."""
    if phones[-1] in _SIBILANTS:
        return (*phones, "IH0", "Z")
    return (*phones, "S" if phones[-1] in _VOICELESS else "Z")


def _connect(words: list[Pronunciation]) -> list[Pronunciation]:
    """Returns the words of a clause with the function words in their weak forms."""
    connected = []
    for word, following in zip(words, [*words[1:], None], strict=True):
        name = word.word.lower()
        if following is None or name not in _WEAK_WORDS or word.origin != "dictionary":
            connected.append(word)
            continue
        forms = _WEAK_FORMS
        if is_vowel(following.phones[0]):
            forms = forms | _BEFORE_VOWELS
        phones = tuple(forms[name].split()) if name in forms else word.phones
        weak = tuple(re.sub("[12]$", "0", phone) for phone in phones)
        connected.append(word._replace(phones=weak))
    return connected
