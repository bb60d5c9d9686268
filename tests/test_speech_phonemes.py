"""ARPAbet to espeak-ng's mnemonics and back."""

import pytest

from seq2seq_kit.speech.dictionary import load_dictionary
from seq2seq_kit.speech.phonemes import PHONES, from_espeak, to_espeak, without_stress


@pytest.mark.parametrize(
    ("phones", "mnemonics"),
    [
        ("HH AH0 L OW1", "h|@|l|'oU"),
        ("K AE1 T SH UW1", "k|'a|t|S|'u:"),  # no CH
        ("S T AA1 R", "s|t|'A@"),
        ("S T AA1 R Z", "s|t|'A@|z"),
        ("S T AA1 R IY0", "s|t|'A:|r|i"),  # the R begins a syllable
        ("B ER1 D", "b|'3:|d"),
        ("EH2 JH AH0 K EY1 SH AH0 N", ",E|dZ|@|k|'eI|S|@|n"),
    ],
)
def test_words_as_mnemonics(phones: str, mnemonics: str) -> None:
    assert to_espeak(phones.split()) == mnemonics


def test_each_phone_comes_back_from_its_mnemonic() -> None:
    for phone in PHONES:
        assert from_espeak([to_espeak([phone])]) == without_stress([phone])


def test_dictionary_words_come_back_from_their_mnemonics() -> None:
    merged = {"IY": "IH"}  # espeak-ng has one vowel before R for "near" and "hero"
    for forms in list(load_dictionary().values())[::97]:
        back = from_espeak(to_espeak(forms[0]).split("|"))
        for one, other in zip(back, without_stress(forms[0]), strict=True):
            assert one == other or one == merged.get(other)


def test_allophones_and_pauses_are_read_back_as_phonemes() -> None:
    assert from_espeak(["_:", "w", "'O:", "t#", "3", "r-", "_"]) == ("W", "AO", "T", "ER")
    assert from_espeak(["'Q!"]) == ("?Q!",)  # unknown ones are kept visible
