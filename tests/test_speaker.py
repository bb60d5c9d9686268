"""`Speaker`: from text to samples. Skipped where espeak-ng is missing."""

import wave
from pathlib import Path

import pytest

from seq2seq_kit import Speaker
from seq2seq_kit.errors import InputError
from seq2seq_kit.speech.dictionary import load_dictionary
from seq2seq_kit.speech.phonemes import without_stress
from seq2seq_kit.speech.speaker import _MAX_CHARACTERS, _utterances
from seq2seq_kit.speech.verbalize import verbalize


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    try:
        return Speaker()
    except InputError as error:
        pytest.skip(str(error))


def test_espeak_speaks_the_words_of_the_dictionary(speaker: Speaker) -> None:
    dictionary = load_dictionary()
    expected = [dictionary[word][0] for word in ("doctor", "watson", "paid", "two", "dollars")]
    assert speaker.speak("Dr. Watson paid $2.").phones == tuple(
        phone for phones in expected for phone in without_stress(phones)
    )


def test_words_have_their_origins(speaker: Speaker) -> None:
    words = speaker.pronounce("Hello, XKCD!")
    assert [(word.word, word.origin) for word in words] == [
        ("Hello", "dictionary"),
        ("XKCD", "letters"),
    ]


def test_the_packaged_model_pronounces_unknown_words(speaker: Speaker) -> None:
    (word,) = speaker.pronounce("Plimbertons")
    assert word.origin == "model"
    assert without_stress(word.phones)[:3] == ("P", "L", "IH")


def test_punctuation_gives_pauses_and_sentences_are_streamed(speaker: Speaker) -> None:
    assert len(speaker.speak("cats, dogs").samples) > 1.1 * len(speaker.speak("cats dogs").samples)
    pieces = list(speaker.stream("One. Two, three. Four."))
    assert len(pieces) == 3
    whole = speaker.speak("One. Two, three. Four.")
    assert sum(map(len, pieces)) == pytest.approx(len(whole.samples), rel=0.05)


@pytest.mark.parametrize("text", ["", "...", "\n"])
def test_a_text_without_words_is_a_short_silence(text: str, speaker: Speaker) -> None:
    speech = speaker.speak(text)
    assert 0.2 < speech.seconds < 1
    assert not speech.samples.any()


def test_long_clauses_are_divided_between_words(speaker: Speaker) -> None:
    clauses = verbalize("strengths " * 300)
    parts = list(_utterances(clauses, speaker._pronouncer.pronounce(clauses)))
    assert max(map(len, parts)) <= _MAX_CHARACTERS + 100
    assert speaker.speak("strengths " * 300).phones == 300 * without_stress(
        load_dictionary()["strengths"][0]
    )


def test_an_endless_word_is_spoken_in_parts(speaker: Speaker) -> None:
    assert speaker.speak("a" * 500).phones == 500 * ("EY",)


def test_save_writes_what_was_spoken(speaker: Speaker, tmp_path: Path) -> None:
    speech = speaker.speak("Hello.")
    speech.save(tmp_path / "new" / "hello.wav")
    with wave.open(str(tmp_path / "new" / "hello.wav")) as file:
        assert file.getframerate() == speech.sample_rate
        assert file.readframes(file.getnframes()) == speech.samples.astype("<i2").tobytes()


def test_letters_that_are_not_latin_are_refused(speaker: Speaker) -> None:
    with pytest.raises(InputError, match="Latin letters"):
        speaker.speak("春天")


@pytest.mark.parametrize("option", [{"speed": 79}, {"speed": 451}, {"pitch": -1}, {"pitch": 100}])
def test_numbers_out_of_range_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be from"):
        Speaker(**option)  # type: ignore[arg-type]
