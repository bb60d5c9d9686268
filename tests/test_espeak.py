"""espeak-ng through its library: what it says is what it was given. Skipped where it is missing."""

import ctypes.util
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seq2seq_kit.errors import InputError
from seq2seq_kit.speech import espeak as module
from seq2seq_kit.speech.dictionary import load_dictionary
from seq2seq_kit.speech.espeak import Espeak, load_espeak
from seq2seq_kit.speech.phonemes import from_espeak, to_espeak, without_stress


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    try:
        return load_espeak()
    except InputError as error:
        pytest.skip(str(error))


def mnemonics(espeak: Espeak, text: str) -> list[str]:
    sound = espeak.speak(text, voice=None, speed=175, pitch=50)
    return [one for one in sound.mnemonics if not one.startswith("_")]


def test_mnemonics_are_spoken_as_they_are(espeak: Espeak) -> None:
    assert mnemonics(espeak, "[[h|@|l|'oU w|'3:|l|d]]") == [
        "h",
        "@",
        "l",
        "'oU",
        "w",
        "'3:",
        "l",
        "d",
    ]


def as_spoken(phones: Sequence[str]) -> str:
    """Phones without what Americans do not distinguish, nor espeak-ng.

    One vowel before R in "near" and "hero"; a linking R after ER; N before K and G is NG.
    """
    text = re.sub(r"\bIY R\b", "IH R", " ".join(without_stress(phones)))
    return re.sub(r"\bN(?= [KG]\b)", "NG", re.sub(r"\bER R(?= [AEIOU])", "ER", text))


def test_every_200th_word_of_the_dictionary_is_spoken_as_it_has_it(espeak: Espeak) -> None:
    for word, (phones, *_) in list(load_dictionary().items())[::200]:
        spoken = from_espeak(mnemonics(espeak, f"[[{to_espeak(phones)}]]"))
        assert as_spoken(spoken) == as_spoken(phones), word


def test_speed_pitch_and_voice_change_the_sound(espeak: Espeak) -> None:
    def speak(voice: str | None, speed: int, pitch: int) -> np.ndarray:
        return espeak.speak("[[m|'A:|m|A:]].", voice=voice, speed=speed, pitch=pitch).samples

    def frequency(voice: str | None, pitch: int) -> float:
        """The fundamental in Hz, the median of five readings, which differ a little."""
        lags = np.arange(espeak.sample_rate // 250, espeak.sample_rate // 60)
        found = []
        for _ in range(5):
            vowel = speak(voice, 175, pitch)[2048:4096].astype(float)
            alike = np.array([np.corrcoef(vowel[:-lag], vowel[lag:])[0, 1] for lag in lags])
            # The signal also resembles itself after two periods: the first high peak is one.
            first = int(np.argmax(alike > 0.9 * alike.max()))
            found.append(espeak.sample_rate / lags[first + np.argmax(alike[first : first + 20])])
        return float(np.median(found))

    plain = speak(None, 175, 50)
    assert plain.dtype == np.int16
    assert np.abs(plain).max() > 1000
    # espeak-ng varies the pitch a little: two readings differ by some samples.
    assert len(speak(None, 175, 50)) == pytest.approx(len(plain), rel=0.05)
    assert len(speak(None, 350, 50)) < 0.75 * len(plain)
    usual = frequency(None, 50)
    assert 60 < usual < 150
    assert frequency(None, 99) > 1.3 * usual
    assert frequency("f3", 50) > 1.3 * usual


def test_two_threads_get_what_one_gets(espeak: Espeak) -> None:
    words = ["[[k|'a|t]]", "[[d|'O:|g]]"] * 8
    alone = [mnemonics(espeak, word) for word in words]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda word: mnemonics(espeak, word), words)) == alone


def test_an_unknown_voice_gets_a_suggestion(espeak: Espeak) -> None:
    espeak.check_voice("f3")
    with pytest.raises(InputError, match="Did you mean `whisper`"):
        espeak.check_voice("wisper")


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    with pytest.raises(InputError, match=r"pip install 'seq2seq_kit\[speech\]'.*apt install"):
        module._open_library()
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libno-such.so")
    with pytest.raises(InputError, match="cannot be loaded"):
        module._open_library()
