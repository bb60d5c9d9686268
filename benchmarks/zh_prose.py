"""How well a model continues Chinese prose: perplexities, repetition, copied spans, and samples.

    python benchmarks/zh_prose.py MODEL --texts TEXTS [--max-length 100] [--temperature 0.8 ...]

MODEL is a run or a packaged model, TEXTS the folder that `zh_prose_texts.py` wrote. Prints

- the perplexity a character of the held-out pieces, older and present-day ones apart. Each
  paragraph is scored by itself, and its end counts as a character;
- over samples after 200 openings (first sentences of held-out paragraphs, those that begin a piece
  first): the share of 4-grams of characters that occurred in the same output before, the share of
  pairs of characters that are different, and the longest span copied from a training text; the
  first two of the held-out text as well;
- the samples after the first 20 openings, all of them.
"""

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sampling_defaults import distinct, repeated
from zh_prose_texts import split_pieces

from seq2seq_kit.inference.scorer import perplexity
from seq2seq_kit.seq2seq import Seq2Seq

DEV = ("dev_older.txt", "dev_present_day.txt")
TRAIN = ("stories.txt", "essays.txt", "polemics.txt", "present_day.txt")
NUM_OPENINGS = 200
NUM_SHOWN = 20
# A shorter sentence says little about its subject.
OPENING = re.compile("[^。！？]{7,39}[。！？]+")
# Any odd number with random digits.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
SAMPLING = ("temperature", "top_p", "min_p", "repetition_penalty", "seed")


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="A run folder, or the name of a packaged model.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=100, help="Tokens of a sample.")
    for name in SAMPLING:
        kind = int if name == "seed" else float
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="[that of the model]")
    options = parser.parse_args()
    model = Seq2Seq.load(options.model)
    for name in DEV:
        texts = read_paragraphs(options.texts / name)
        scores = perplexity(model.score([""] * len(texts), texts), texts)
        print(f"{name}: perplexity {scores.per_character:.2f} a character", flush=True)
    openings = read_openings(options.texts)
    search = {name: getattr(options, name) for name in SAMPLING}
    samples = model.generate(
        [opening for opening, _ in openings], max_length=options.max_length, **search
    )
    length = sum(map(len, samples)) // len(samples)
    show("held-out", [rest[:length] for _, rest in openings])
    show("samples", samples)
    training = "".join(line for name in TRAIN for line in read_paragraphs(options.texts / name))
    span = longest_copied_span(samples, training)
    print(f"The longest span copied from a training text: {len(span)} characters, {span!r}")
    for (opening, _), sample in list(zip(openings, samples, strict=True))[:NUM_SHOWN]:
        print(f"\n{opening} | {sample.strip()}")


def read_paragraphs(path: Path) -> list[str]:
    """Returns the paragraphs of a text, without the empty lines between pieces."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_openings(texts: Path) -> list[tuple[str, str]]:
    """Returns first sentences of paragraphs with what follows them there."""
    pieces = [
        piece
        for name in DEV
        for piece in split_pieces((texts / name).read_text(encoding="utf-8").split("\n"))
    ]
    matches = []
    for nth in itertools.zip_longest(*pieces):
        # Sentences of dialogue say little without those before them.
        nth = (paragraph for paragraph in nth if paragraph and "“" not in paragraph)
        matches += [match for paragraph in nth if (match := OPENING.match(paragraph))]
    return [(match[0], match.string[match.end() :]) for match in matches[:NUM_OPENINGS]]


def longest_copied_span(samples: Sequence[str], training: str) -> str:
    """Returns the longest span of a sample that is in the training text.

    If a span of a length is there, so is one of each shorter length: a search by halves, in which
    spans are compared by polynomial hashes.
    """
    joined = "\0".join(sample.replace("\n", "") for sample in samples)
    texts = [prefix_hashes(text) for text in (joined, training)]
    found, too_long = 0, 1 + max(map(len, samples))
    place = 0
    while too_long - found > 1:
        length = (found + too_long) // 2
        spans, known = (span_hashes(text, length) for text in texts)
        copied = np.flatnonzero(np.isin(spans, known))
        if len(copied):
            found, place = length, int(copied[0])
        else:
            too_long = length
    return joined[place : place + found]


def prefix_hashes(text: str) -> np.ndarray:
    """Returns the hash of each beginning of a text, uint64 `(characters + 1,)`."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    # Numbers wrap at 2**64: the factors are powers of an odd number.
    powers = np.cumprod(np.full(len(codes), _FACTOR), dtype=np.uint64)
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers, dtype=np.uint64)])


def span_hashes(prefixes: np.ndarray, length: int) -> np.ndarray:
    """Returns the hash of each span of a length, independent of where it begins, uint64."""
    num_spans = max(0, len(prefixes) - length)
    differences = prefixes[length:] - prefixes[:num_spans]
    inverse = np.uint64(pow(int(_FACTOR), -1, 2**64))
    shifts = np.cumprod(np.full(num_spans, inverse), dtype=np.uint64)
    return differences * shifts


def show(name: str, texts: Sequence[str]) -> None:
    """Prints how much texts repeat themselves and each other."""
    length = sum(map(len, texts)) / len(texts)
    print(
        f"{name}: {len(texts)} texts of {length:.0f} characters, {repeated(texts, 4):.2%} repeated"
        f" 4-grams, {distinct(texts, 2):.1%} distinct pairs",
        flush=True,
    )


if __name__ == "__main__":
    main()
