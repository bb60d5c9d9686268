"""How right `s2s speak` is: words by the model, rare words as spoken, sentences as understood.

    python benchmarks/speech.py words --data DIR
    python benchmarks/speech.py words --data DIR --peers PYTHON
    python benchmarks/speech.py rare --data DIR
    python benchmarks/speech.py sentences

`words` prints the word error rate of the packaged `en-g2p` (or `--model RUN`) on the words of DIR's
`dev.tsv` (`--split test`: `test.tsv`), and that of espeak-ng's own rules; with `--peers`, also that
of the converters of `benchmarks/peers/g2p.py` which the environment of the interpreter PYTHON has.
A word is right if it is pronounced as any of its lines says.

`rare` has espeak-ng speak 500 words of that file, names most of them, and compares the phonemes
that it reports with the dictionary: driven with the dictionary's phones, with those of the model,
and with the plain word.

`sentences` has pocketsphinx (`pip install pocketsphinx==5.1.1`) write down 100 English sentences of
the bundled test file, as `s2s speak` and as espeak-ng itself reads them, and prints how many of the
words it gets wrong. Each is read `--readings` times, since no two readings are quite equal.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seq2seq_kit import Seq2Seq, Speaker, samples
from seq2seq_kit.speech.dictionary import Phones
from seq2seq_kit.speech.espeak import Espeak, Sound, load_espeak
from seq2seq_kit.speech.phonemes import from_espeak, to_espeak, without_stress
from seq2seq_kit.text.lines import read_lines

PEERS = Path(__file__).parent / "peers" / "g2p.py"
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
    parser.add_argument("--peers", help="Python of an environment with peers")
    parser.add_argument("--readings", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.measurement == "sentences":
        measure_sentences(arguments.readings)
        return
    if arguments.data is None:
        parser.error("--data is missing")
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
    guessed = ask_model(arguments.model, words)
    print(f"{len(words)} words of {arguments.split}.tsv; wrong, %")
    print(f"{'':20} with stress, without, as spoken, with AH and IH as one")
    print_errors(arguments.model, right, guessed)
    for name in ("phonetisaurus", "g2p-en") if arguments.peers else ():
        try:
            guessed = ask_peer(arguments.peers, name, arguments.data / "train.tsv.gz", words)
        except subprocess.CalledProcessError as error:
            print(f"{name:20} failed: {error}")
        else:
            print_errors(name, right, guessed)
    espeak = load_espeak()
    spoken = {word: from_espeak(speak(espeak, word).mnemonics) for word in words}
    print_errors("espeak-ng", right, spoken)


def ask_model(model: str, words: Sequence[str]) -> dict[str, Phones]:
    """Returns the phones that a model predicts."""
    outputs = Seq2Seq.load(model).generate(words)
    return {word: tuple(text.split()) for word, text in zip(words, outputs, strict=True)}


def ask_peer(python: str, name: str, train: Path, words: Iterable[str]) -> dict[str, Phones]:
    """Returns the phones that another converter predicts; none for a word that it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "words.txt"), Path(folder, "words.tsv")
        source.write_text("\n".join(words), encoding="utf-8")
        options = ["--train", str(train), "--words", str(source), "--output", str(target)]
        subprocess.run([python, str(PEERS), name, *options], check=True)
        rows = (line.split("\t") for line in target.read_text(encoding="utf-8").splitlines())
        return {word: tuple(phones.split()) for word, phones in rows}


def print_errors(name: str, right: Pronunciations, guessed: Mapping[str, Phones]) -> None:
    """Prints a converter's word error rate, compared ever more loosely.

    What espeak-ng reports is compared without stress, so its first figure means nothing.
    """
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


def measure_sentences(readings: int) -> None:
    """Prints how many words a recognizer gets wrong."""
    from pocketsphinx import Decoder

    lines = read_lines(samples.FOLDER / "data" / "tatoeba_en_de.test.tsv")
    texts = sorted({line.split("\t")[0] for line in lines})
    texts = [text for text in texts if 5 <= len(text.split()) <= 10 and not re.search(r"\d", text)]
    texts = np.random.default_rng(1).choice(texts, 100, replace=False).tolist()
    decoder = Decoder(samprate=16000, loglevel="FATAL")
    speaker, espeak = Speaker(), load_espeak()
    errors: dict[str, list[int]] = {"s2s speak": [], "espeak-ng": []}
    total = sum(len(words_of(text)) for text in texts)
    for _ in range(readings):
        heard = {"s2s speak": 0, "espeak-ng": 0}
        for text in texts:
            for name, sound in (
                ("s2s speak", speaker.speak(text).samples),
                ("espeak-ng", speak(espeak, text).samples),
            ):
                heard[name] += distance(words_of(text), recognize(decoder, sound, espeak))
        for name, count in heard.items():
            errors[name].append(count)
    print(f"{total} words of 100 sentences; wrong, %, in each reading, and their mean")
    for name, counts in errors.items():
        rates = [100 * count / total for count in counts]
        print(f"{name:10}", *(f"{rate:5.1f}" for rate in rates), f"  mean {np.mean(rates):5.1f}")


def words_of(text: str) -> list[str]:
    """Returns the words of a text in lower case."""
    return re.findall(r"[a-z']+", text.lower())


def recognize(decoder: object, sound: np.ndarray, espeak: Espeak) -> list[str]:
    """Returns the words that pocketsphinx hears."""
    length = len(sound) * 16000 // espeak.sample_rate
    spectrum = np.fft.rfft(sound.astype(float))[: length // 2 + 1]
    resampled = np.fft.irfft(spectrum, length) * (length / len(sound))
    pcm = np.clip(resampled, -32768, 32767).astype(np.int16).tobytes()
    decoder.start_utt()  # type: ignore[attr-defined]
    decoder.process_raw(pcm, full_utt=True)  # type: ignore[attr-defined]
    decoder.end_utt()  # type: ignore[attr-defined]
    best = decoder.hyp()  # type: ignore[attr-defined]
    return words_of(best.hypstr) if best else []


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
