"""How right `s2s speak` is: words by the model, rare words as spoken, sentences as understood.

    python benchmarks/speech.py words --data DIR
    python benchmarks/speech.py words --data DIR --peers PYTHON --trained FOLDER
    python benchmarks/speech.py words --data DIR --only en-g2p espeak-ng --split test
    python benchmarks/speech.py rare --data DIR
    python benchmarks/speech.py sentences --peers PYTHON

PYTHON is the interpreter of an environment with `benchmarks/peers/requirements-speech.txt`.

`words` prints the word error rate of the packaged `en-g2p` (or `--model RUN`) on the words of DIR's
`dev.tsv` (`--split test`: `test.tsv`), and that of espeak-ng's own rules; with `--peers`, also that
of the converters of `benchmarks/peers/g2p.py`, whose trained models are kept in FOLDER. `--only`
names the converters to measure. A word is right if it is pronounced as any of its lines says.

`rare` has espeak-ng speak 500 words of that file, names most of them, and compares the phonemes
that it reports with the dictionary: driven with the dictionary's phones, with those of the model,
and with the plain word.

`sentences` has Whisper tiny.en write down 100 English sentences of the bundled test file, as
`s2s speak` and as espeak-ng itself reads them, with the same voice and speed, and compares how many
of the words it gets wrong. Each is read `--readings` times, since no two readings are quite equal.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq_kit import Seq2Seq, Speaker, samples
from seq2seq_kit.speech.dictionary import Phones
from seq2seq_kit.speech.espeak import Espeak, Sound, load_espeak
from seq2seq_kit.speech.phonemes import PHONES, from_espeak, to_espeak, without_stress
from seq2seq_kit.speech.verbalize import verbalize
from seq2seq_kit.speech.wav import write_wav
from seq2seq_kit.text.lines import read_lines

PEERS = ("g2p-en", "phonetisaurus", "sequitur-g2p")
PEER_PROGRAMS = Path(__file__).parent / "peers"
SPEED, PITCH = 175, 50

Pronunciations = Mapping[str, Sequence[Phones]]


def main() -> None:
    """Runs one of the three measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measurement", choices=("words", "rare", "sentences"))
    parser.add_argument("--data", type=Path, help="folder of the CMUdict split")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--model", default="en-g2p")
    parser.add_argument("--peers", metavar="PYTHON", help="Python of an environment with peers")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the converters to measure")
    parser.add_argument("--trained", type=Path, help="folder of the peers' trained models")
    parser.add_argument("--readings", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.measurement == "sentences":
        if arguments.peers is None:
            parser.error("--peers is missing")
        measure_sentences(arguments.peers, arguments.readings)
        return
    if arguments.data is None:
        parser.error("--data is missing")
    if arguments.peers and arguments.trained is None:
        parser.error("--trained is missing")
    right: dict[str, list[Phones]] = {}
    for line in read_lines(arguments.data / f"{arguments.split}.tsv"):
        word, phones = line.split("\t")
        right.setdefault(word, []).append(tuple(phones.split()))
    if arguments.measurement == "words":
        measure_words(right, arguments)
    else:
        measure_rare(right, arguments.model)


def measure_words(right: Pronunciations, arguments: argparse.Namespace) -> None:
    """Prints the word error rates, with stress and without."""
    words = list(right)
    print(f"{len(words)} words of {arguments.split}.tsv; wrong, %")
    print(f"{'':20} with stress, without, as spoken, with AH and IH as one")
    names = arguments.only or [arguments.model, "espeak-ng", *(PEERS if arguments.peers else ())]
    for name in names:
        try:
            print_errors(name, right, ask(name, words, arguments))
        except subprocess.CalledProcessError as error:
            print(f"{name:20} failed: {error}")


def ask(name: str, words: Sequence[str], arguments: argparse.Namespace) -> dict[str, Phones]:
    """Returns the phones that a converter predicts."""
    if name in PEERS:
        return ask_peer(name, words, arguments)
    if name == "espeak-ng":
        espeak = load_espeak()
        return {word: with_stress(speak(espeak, word).mnemonics) for word in words}
    return ask_model(name, words)


def ask_model(model: str, words: Sequence[str]) -> dict[str, Phones]:
    """Returns the phones that a model predicts."""
    outputs = Seq2Seq.load(model).generate(words)
    return {word: tuple(text.split()) for word, text in zip(words, outputs, strict=True)}


def ask_peer(name: str, words: Iterable[str], arguments: argparse.Namespace) -> dict[str, Phones]:
    """Returns the phones that another converter predicts; none for a word that it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "words.txt"), Path(folder, "words.tsv")
        source.write_text("\n".join(words), encoding="utf-8")
        options = ["--words", str(source), "--output", str(target)]
        options += ["--train", str(arguments.data / "train.tsv.gz")]
        options += ["--trained", str(arguments.trained)]
        command = [arguments.peers, str(PEER_PROGRAMS / "g2p.py"), name, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows = (line.split("\t") for line in target.read_text(encoding="utf-8").splitlines())
        return {word: tuple(phones.split()) for word, phones in rows}


def print_errors(name: str, right: Pronunciations, guessed: Mapping[str, Phones]) -> None:
    """Prints a converter's word error rate, compared ever more loosely."""
    keys = (tuple, without_stress, as_spoken, with_one_reduced_vowel)
    rates = [error_rate(right, guessed, key=key) for key in keys]
    print(f"{name:20}", *(f"{rate:8.1f}" for rate in rates), flush=True)


def error_rate(
    right: Pronunciations, guessed: Mapping[str, Phones], *, key: Callable[[Phones], object]
) -> float:
    """Returns the percentage of words whose guess is none of their pronunciations.

    Args:
        right: The pronunciations of each word.
        guessed: The guess for each word.
        key: What is compared: a function of phones.
    """
    wrong = [
        word
        for word in right
        if key(guessed.get(word, ())) not in [key(one) for one in right[word]]
    ]
    return 100 * len(wrong) / len(right)


def with_stress(mnemonics: Iterable[str]) -> Phones:
    """Returns the phones that espeak-ng reports, with the stress that it reports."""
    phones: list[str] = []
    for mnemonic in mnemonics:
        marks = re.match("[^a-zA-Z0-9@]*", mnemonic)
        stress = "1" if marks and "'" in marks[0] else "2" if marks and "," in marks[0] else "0"
        for phone in from_espeak([mnemonic]):
            if f"{phone}0" in PHONES:
                phones.append(f"{phone}{stress}")
                stress = "0"  # of two vowels in one mnemonic, the first is stressed
            else:
                phones.append(phone)
    return tuple(phones)


def as_spoken(phones: Phones) -> str:
    """Returns phones without what espeak-ng's American voice does not distinguish.

    It has one vowel before R in "near" and "hero", links ER to a vowel by an R, and says N before K
    and G as NG.
    """
    text = re.sub(r"\bIY R\b", "IH R", " ".join(without_stress(phones)))
    text = re.sub(r"\bER R(?= [AEIOU])", "ER", text)
    return re.sub(r"\bN(?= [KG]\b)", "NG", text)


def with_one_reduced_vowel(phones: Phones) -> str:
    """Returns phones as spoken, with AH and IH as one: "rabbit" has either, unstressed."""
    return as_spoken(phones).replace("IH", "AH")


def measure_rare(right: Pronunciations, model: str) -> None:
    """Prints the share of 500 words that espeak-ng speaks as the dictionary has them."""
    words = np.random.default_rng(1).choice(sorted(right), 500, replace=False).tolist()
    guessed = ask_model(model, words)
    espeak = load_espeak()
    inputs = {
        "the dictionary's phones": {word: f"[[{to_espeak(right[word][0])}]]" for word in words},
        f"the phones of {model}": {word: f"[[{to_espeak(guessed[word])}]]" for word in words},
        "the plain word": {word: word for word in words},
    }
    print("500 words, spoken as the dictionary has them, %:")
    asked = {word: right[word] for word in words}
    for name, texts in inputs.items():
        spoken = {word: from_espeak(speak(espeak, texts[word]).mnemonics) for word in words}
        print(f"{name:32} {100 - error_rate(asked, spoken, key=as_spoken):6.1f}")


def speak(espeak: Espeak, text: str) -> Sound:
    """Returns what espeak-ng makes of a text; mnemonics are in double brackets."""
    return espeak.speak(text, voice=None, speed=SPEED, pitch=PITCH)


class Reading(NamedTuple):
    """A sentence as a system reads it."""

    text: str
    """The sentence."""
    system: str
    """`s2s speak` or `espeak-ng`."""
    samples: np.ndarray
    """int16 `(samples,)`."""


def measure_sentences(python: str, num_readings: int) -> None:
    """Prints how many words a recognizer gets wrong, and whether the systems differ."""
    lines = read_lines(samples.FOLDER / "data" / "tatoeba_en_de.test.tsv")
    texts = sorted({line.split("\t")[0] for line in lines})
    texts = [text for text in texts if 5 <= len(text.split()) <= 10 and not re.search(r"\d", text)]
    texts = np.random.default_rng(1).choice(texts, 100, replace=False).tolist()
    speaker, espeak = Speaker(), load_espeak()
    readings = [
        Reading(text, system, sound)
        for _ in range(num_readings)
        for text in texts
        for system, sound in (
            ("s2s speak", speaker.speak(text).samples),
            ("espeak-ng", speak(espeak, text).samples),
        )
    ]
    errors = {system: dict.fromkeys(texts, 0) for system in ("s2s speak", "espeak-ng")}
    for reading, heard in zip(readings, recognize(python, readings, espeak), strict=True):
        errors[reading.system][reading.text] += distance(words_of(reading.text), words_of(heard))
    total = num_readings * sum(len(words_of(text)) for text in texts)
    print(f"{total} words of 100 sentences in {num_readings} readings; wrong, %")
    for system, counts in errors.items():
        whole = sum(count == 0 for count in counts.values())
        rate = 100 * sum(counts.values()) / total
        print(f"{system:10} {rate:5.1f}  sentences understood in each reading: {whole}")
    differences = np.array(
        [errors["s2s speak"][text] - errors["espeak-ng"][text] for text in texts]
    )
    print(
        f"s2s speak is better in {np.sum(differences < 0)} sentences, worse in "
        f"{np.sum(differences > 0)}; p = {sign_flip_test(differences):.4f}"
    )


def sign_flip_test(differences: np.ndarray) -> float:
    """Returns the two-sided p of a paired permutation test, by 100,000 random permutations.

    If the two systems were alike, each pair's difference would have either sign as often.

    Args:
        differences: `(pairs,)`.
    """
    signs = np.random.default_rng(1).choice((-1, 1), (100_000, len(differences)))
    extreme = np.abs(signs @ differences) >= abs(differences.sum())
    return float((1 + extreme.sum()) / (1 + len(signs)))


def recognize(python: str, readings: Sequence[Reading], espeak: Espeak) -> list[str]:
    """Returns what Whisper writes down of each reading."""
    with tempfile.TemporaryDirectory() as folder:
        for number, reading in enumerate(readings):
            with Path(folder, f"{number:05}.wav").open("wb") as file:
                write_wav(file, [reading.samples], espeak.sample_rate)
        heard = Path(folder, "heard.tsv")
        command = [python, str(PEER_PROGRAMS / "recognizer.py"), folder, "--output", str(heard)]
        subprocess.run(command, check=True)
        return [line.split("\t")[1] for line in read_lines(heard)]


def words_of(text: str) -> list[str]:
    """Returns the words of a text in lower case, numbers written out."""
    return [word.lower() for clause in verbalize(text) for word in clause.words]


def distance(right: Sequence[str], heard: Sequence[str]) -> int:
    """Returns the fewest insertions, deletions and substitutions that make one of the other."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(right, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


if __name__ == "__main__":
    main()
