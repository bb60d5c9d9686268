"""`Speaker`: text to speech, from the text's normalization to its samples."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seq2seq_kit import bounds
from seq2seq_kit.atomic import write_file
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import make_parents, user_path
from seq2seq_kit.options import refuse_unknown_options
from seq2seq_kit.speech.dictionary import Phones
from seq2seq_kit.speech.espeak import Sound, load_espeak
from seq2seq_kit.speech.phonemes import from_espeak, to_espeak
from seq2seq_kit.speech.pronouncer import Pronouncer, Pronunciation
from seq2seq_kit.speech.verbalize import Clause, verbalize
from seq2seq_kit.speech.wav import write_wav

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

# espeak-ng's buffer holds 800 characters: it would cut a longer clause within a word, and crash at
# a longer word.
_MAX_CHARACTERS = 400
_MAX_PHONES = 60  # of at most six characters each

_PAUSE_SECONDS = 0.4


class Speech(NamedTuple):
    """A spoken text."""

    samples: np.ndarray
    """int16 `(samples,)`, one channel."""
    sample_rate: int
    """Samples a second."""
    mnemonics: tuple[str, ...]
    """The phonemes that espeak-ng reports it has spoken, in its own notation."""

    @property
    def phones(self) -> Phones:
        """The same as ARPAbet phones, without stress."""
        return from_espeak(self.mnemonics)

    @property
    def seconds(self) -> float:
        """How long it takes to listen to it."""
        return len(self.samples) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Writes a WAV file, which appears when it is complete.

        Raises:
            InputError: If its folder cannot be made.
            RunError: If it cannot be written.
        """
        path = user_path(path)
        make_parents(path)
        with write_file(path, "The sound") as file:
            write_wav(file, [self.samples], self.sample_rate)


class Speaker:
    """Speaks English, in an American accent.

    Numbers, dates, amounts, abbreviations and symbols are read out as words; words are pronounced
    as in the CMU Pronouncing Dictionary, others as a model predicts, and espeak-ng makes the sound.

    Args:
        voice: A variant of espeak-ng's American voice, such as `f3` or `m1`. None is the voice
            itself.
        speed: Words a minute, 80 to 450.
        pitch: 0 to 99.
        model: Pronounces words that are not in the dictionary: the name of a packaged model, a run
            folder or a `Seq2Seq`, trained on pairs of a word in lower case and its ARPAbet phones
            with stress. It is loaded when it is needed.

    Raises:
        InputError: If an argument is out of range, or espeak-ng is not installed.

    Example:

        speaker = Speaker(voice="f3")
        speaker.speak("Dr. Smith owes me $5.").save("debt.wav")
    """

    @refuse_unknown_options()
    def __init__(
        self,
        *,
        voice: str | None = None,
        speed: int = 175,
        pitch: int = 50,
        model: "str | Path | Seq2Seq" = "en-g2p",
    ) -> None:
        _check("speed", speed, bounds.MIN_SPEAKING_SPEED, bounds.MAX_SPEAKING_SPEED)
        _check("pitch", pitch, 0, bounds.MAX_PITCH)
        self._espeak = load_espeak()
        if voice is not None:
            self._espeak.check_voice(voice)
        self._voice, self._speed, self._pitch = voice, speed, pitch
        self._pronouncer = Pronouncer(model)

    @property
    def sample_rate(self) -> int:
        """Samples a second of all speech."""
        return self._espeak.sample_rate

    def pronounce(self, text: str) -> list[Pronunciation]:
        """Returns each word of a text as it is read out, with its phones and their origin.

        Raises:
            InputError: As `speak`.
        """
        return list(itertools.chain(*self._pronouncer.pronounce(verbalize(text))))

    def speak(self, text: str) -> Speech:
        """Returns a text as sound. One without words is a short silence.

        Two readings of a text differ by some samples, since espeak-ng varies the pitch a little.

        Raises:
            InputError: If the text has letters that are not Latin, or the model is missing.
        """
        sounds = list(self._sounds(text))
        return Speech(
            np.concatenate([sound.samples for sound in sounds]),
            self.sample_rate,
            tuple(itertools.chain.from_iterable(sound.mnemonics for sound in sounds)),
        )

    def stream(self, text: str) -> Iterator[np.ndarray]:
        """Yields the samples of `speak` sentence by sentence, int16 `(samples,)` each."""
        for sound in self._sounds(text):
            yield sound.samples

    def _sounds(self, text: str) -> Iterator[Sound]:
        clauses = verbalize(text)
        spoken = self._pronouncer.pronounce(clauses)
        if not clauses:
            yield Sound(np.zeros(int(_PAUSE_SECONDS * self.sample_rate), np.int16), ())
        for phonemes in _utterances(clauses, spoken):
            yield self._espeak.speak(
                phonemes, voice=self._voice, speed=self._speed, pitch=self._pitch
            )


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"`{name}` must be from {low} to {high}. Received: {name}={value}.")


def _utterances(
    clauses: Sequence[Clause], spoken: Sequence[Sequence[Pronunciation]]
) -> Iterator[str]:
    """Yields the input of espeak-ng for each sentence, or a part of a long one."""
    utterance = ""
    for clause, words in zip(clauses, spoken, strict=True):
        mnemonics = ""
        for phones in itertools.chain.from_iterable(_parts(word.phones) for word in words):
            more = to_espeak(phones)
            if mnemonics and len(utterance) + len(mnemonics) + len(more) > _MAX_CHARACTERS:
                yield f"{utterance}[[{mnemonics}]]"
                utterance = mnemonics = ""
            mnemonics += f" {more}" if mnemonics else more
        utterance += f"[[{mnemonics}]]{clause.pause} "
        if clause.ends_sentence:
            yield utterance.strip()
            utterance = ""


def _parts(phones: Phones) -> Iterator[Phones]:
    """Yields the phones of a word, one that is very long in parts."""
    for start in range(0, len(phones), _MAX_PHONES):
        yield phones[start : start + _MAX_PHONES]
