"""ARPAbet phones as espeak-ng's phoneme mnemonics, and back.

espeak-ng reads mnemonics between `[[` and `]]` and reports the mnemonics that it has spoken. They
are those of its American voice; https://github.com/espeak-ng/espeak-ng/blob/master/docs/phonemes.md
"""

import re
from collections.abc import Iterable, Sequence

from seq2seq_kit.speech.dictionary import Phones

_CONSONANTS = {
    "B": "b",
    "CH": "tS",
    "D": "d",
    "DH": "D",
    "F": "f",
    "G": "g",
    "HH": "h",
    "JH": "dZ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "N",
    "P": "p",
    "R": "r",
    "S": "s",
    "SH": "S",
    "T": "t",
    "TH": "T",
    "V": "v",
    "W": "w",
    "Y": "j",
    "Z": "z",
    "ZH": "Z",
}
_VOWELS = {
    "AA": "A:",
    "AE": "a",
    "AH": "V",
    "AO": "O:",
    "AW": "aU",
    "AY": "aI",
    "EH": "E",
    "ER": "3:",
    "EY": "eI",
    "IH": "I",
    "IY": "i:",
    "OW": "oU",
    "OY": "OI",
    "UH": "U",
    "UW": "u:",
}
_UNSTRESSED_VOWELS = {"AH": "@", "ER": "3", "IY": "i"}
"""Where they differ from the stressed ones."""

_VOWELS_BEFORE_R = {"AA": "A@", "AO": "O@", "EH": "e@", "IH": "i@3", "IY": "i@3", "UH": "U@"}
"""Each includes the R."""

_STRESSES = {"0": "", "1": "'", "2": ","}

PHONES = frozenset(_CONSONANTS) | {f"{vowel}{stress}" for vowel in _VOWELS for stress in "012"}
"""Every ARPAbet phone with its stress."""


def is_vowel(phone: str) -> bool:
    """Whether a phone is a vowel, which ends with its stress."""
    return phone[-1].isdigit()


def without_stress(phones: Iterable[str]) -> Phones:
    """Returns phones whose vowels have no stress marks."""
    return tuple(phone.rstrip("012") for phone in phones)


def to_espeak(phones: Sequence[str]) -> str:
    """Returns the mnemonics of a word.

    Args:
        phones: Of `PHONES`.

    Example:

    >>> to_espeak("HH AH0 L OW1".split())
    "h|@|l|'oU"
    """
    mnemonics = []
    rest = list(phones)
    while rest:
        phone = rest.pop(0)
        if not is_vowel(phone):
            mnemonics.append(_CONSONANTS[phone])
            continue
        vowel, stress = phone[:-1], phone[-1]
        if vowel in _VOWELS_BEFORE_R and _is_closed_by_r(rest):
            rest.pop(0)
            mnemonic = _VOWELS_BEFORE_R[vowel]
        else:
            weak = _UNSTRESSED_VOWELS if stress == "0" else {}
            mnemonic = weak.get(vowel, _VOWELS[vowel])
        mnemonics.append(f"{_STRESSES[stress]}{mnemonic}")
    # Without the bars, T SH would be read as CH.
    return "|".join(mnemonics)


def _is_closed_by_r(rest: Sequence[str]) -> bool:
    """Whether an R comes next and no vowel behind it: in `starry` the R begins a syllable."""
    return rest[:1] == ["R"] and not (len(rest) > 1 and is_vowel(rest[1]))


_ALLOPHONES = {
    "t#": "t",
    "?": "t",
    "t2": "t",
    "d#": "d",
    "l#": "l",
    "r-": "",
    ";": "",
    "a#": "@",
    "@2": "@",
    "@5": "@",
    "I#": "I",
    "I2": "I",
    "0": "A:",
    "0#": "A:",
    "A#": "A:",
    "E#": "E",
    "O": "O:",
    "O2": "O:",
    "o": "oU",
    "u": "u:",
    "e": "eI",
    "aa": "a",
    "x": "k",
}
"""Spoken forms of one phoneme. A linking R and the break between two vowels are no phonemes."""

_BACK = {
    **{mnemonic: (phone,) for phone, mnemonic in _CONSONANTS.items()},
    **{mnemonic: (phone,) for phone, mnemonic in _VOWELS.items()},
    **{mnemonic: (phone, "R") for phone, mnemonic in _VOWELS_BEFORE_R.items()},
    "i@3": ("IH", "R"),
    "@": ("AH",),
    "3": ("ER",),
    "i": ("IY",),
    "o@": ("AO", "R"),
    "i@": ("IY", "AH"),
    "aI@": ("AY", "AH"),
    "aI3": ("AY", "ER"),
    "@L": ("AH", "L"),
    "n-": ("AH", "N"),
    "m-": ("AH", "M"),
    "@-": ("AH",),
}


def from_espeak(mnemonics: Sequence[str]) -> Phones:
    """Returns the ARPAbet phones, without stress, of mnemonics that espeak-ng reports.

    Pauses and what ARPAbet does not distinguish are left out: a flapped T is a T.

    Args:
        mnemonics: One a phoneme, such as `,In`.

    Example:

    >>> from_espeak(["w", "'O:", "t#", "3", "_:"])
    ('W', 'AO', 'T', 'ER')
    """
    phones: list[str] = []
    for mnemonic in mnemonics:
        plain = re.sub(r"^[',%=|_:]+|\|", "", mnemonic)
        plain = _ALLOPHONES.get(plain, plain)
        if plain:
            phones += _BACK.get(plain, (f"?{plain}",))
    return tuple(phones)
