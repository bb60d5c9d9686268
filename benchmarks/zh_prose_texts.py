"""Builds the texts that the packaged model `zh-prose` is trained on.

    python benchmarks/zh_prose_texts.py --data DIR --output TEXTS

DIR is the folder `zh_modern_pd`. Writes to TEXTS, one paragraph a line and an empty line between
pieces, a file for each register, so that a config can weigh them:

- `stories.txt`, `essays.txt`, `polemics.txt`: vernacular prose of 1918-1945. Left out are the
  pieces from a collection with editors' notes. Polemics are Lu Xun's essays, a fifth of all.
- `present_day.txt`: present-day stories for children, and present-day sentences joined into
  passages. Tatoeba's sentences are independent of each other, and a model that learns them in
  random order learns that a sentence has nothing to do with the one before it. Here each sentence
  is followed by one that is about the same things. Each occurs `--rounds` times, in other
  passages. A tenth of them are about Tom or Mary: each passage gives these two Chinese names.
- `dev_older.txt`, `dev_present_day.txt`: the two parts of the held-out pieces.

The articles about open source software and the spoken fragments are not used: their register is
another one.
"""

import argparse
import csv
import gzip
import itertools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SENTENCE_ENDS = "。！？…”"
# Present-day pieces that close the held-out file.
DEV_PRESENT_DAY = 3
# Sentences with a larger share of pairs of characters in common are variants of each other.
MAX_OVERLAP = 0.25
FEWEST_SENTENCES, MOST_SENTENCES = 3, 8
CANDIDATES = 60
# Sentences with a smaller cosine are about different subjects.
MIN_SIMILARITY = 0.35
# The same person does further things.
SAME_BEGINNING = 0.08
DIMENSIONS = 100
MIN_COUNT = 12
NAMES = {
    "汤姆": ("小明", "小王", "小李", "老张", "阿强", "小刚", "大伟", "老陈"),
    "玛丽": ("小红", "小芳", "小丽", "阿梅", "小雪", "小兰", "秀英", "小云"),
}


class Piece(NamedTuple):
    """A text and where it comes from."""

    paragraphs: list[str]
    author: str
    register: str
    source: str


def main() -> None:
    """Writes the texts and prints their sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="The folder zh_modern_pd.")
    parser.add_argument("--output", type=Path, required=True, help="The folder to write.")
    parser.add_argument("--rounds", type=int, default=4, help="Occurrences of each sentence.")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    registers: dict[str, list[list[str]]] = defaultdict(list)
    for piece in read_pieces(options.data):
        if (name := register_file(piece)) is not None:
            registers[name].append(piece.paragraphs)
    registers["present_day.txt"] = present_day(
        options.data, registers["stories.txt"] + registers["essays.txt"], options.rounds
    )
    dev = split_pieces(read_lines(options.data / "dev.txt.gz"))
    registers["dev_older.txt"] = dev[:-DEV_PRESENT_DAY]
    registers["dev_present_day.txt"] = dev[-DEV_PRESENT_DAY:]
    for name, pieces in registers.items():
        text = "\n\n".join("\n".join(piece) for piece in pieces) + "\n"
        (options.output / name).write_text(text, encoding="utf-8", newline="\n")
        print(f"{name}: {len(pieces):,} pieces, {len(text):,} characters")


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a gzipped text."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read().rstrip("\n").split("\n")


def split_pieces(lines: Iterable[str]) -> list[list[str]]:
    """Returns the pieces that empty lines separate, as paragraphs."""
    pieces: list[list[str]] = [[]]
    for line in lines:
        if line:
            pieces[-1].append(line)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def read_pieces(data: Path) -> Iterator[Piece]:
    """Yields the older pieces with their provenance."""
    with (data / "PROVENANCE.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["file"] == "train"]
    pieces = split_pieces(read_lines(data / "train.txt.gz"))
    for paragraphs, row in zip(pieces, rows, strict=True):
        yield Piece(paragraphs, row["author"], row["register"], row["source"])


def register_file(piece: Piece) -> str | None:
    """Returns the name of the file that a piece belongs to; None leaves it out."""
    if "郁达夫大全集" in piece.source:
        return None
    if piece.register == "story":
        return "stories.txt"
    return "polemics.txt" if piece.author == "鲁迅" else "essays.txt"


# ---- Present-day Chinese


def present_day(data: Path, older: Iterable[list[str]], rounds: int) -> list[list[str]]:
    """Returns the stories, each `rounds` times, between passages of sentences.

    Args:
        data: The folder zh_modern_pd.
        older: Older pieces, from which it is learned which words go together.
        rounds: Occurrences of each sentence.
    """
    prose = split_pieces(read_lines(data / "modern_prose.txt.gz"))
    with (data / "PROVENANCE.tsv").open(encoding="utf-8", newline="") as file:
        rows = [
            row for row in csv.DictReader(file, delimiter="\t") if row["file"] == "modern_prose"
        ]
    stories = [
        piece for piece, row in zip(prose, rows, strict=True) if row["register"] == "modern_story"
    ]
    sentences = read_lines(data / "modern_sentences.txt.gz")
    sentences = [one for one in dict.fromkeys(sentences) if one[-1] in SENTENCE_ENDS]
    prose = (text for piece in (*older, *stories) for line in piece for text in stretches(line))
    vectors = sentence_vectors(sentences, prose)
    pieces = []
    for seed in range(rounds):
        order = random.Random(seed)  # noqa: S311 - no secret
        passages = [
            [rename("".join(passage), order)]
            for passage in make_passages(sentences, vectors, order)
        ]
        pieces += order.sample(passages + stories, len(passages) + len(stories))
    return pieces


def rename(passage: str, order: random.Random) -> str:
    """Gives the two people of the English sentences Chinese names."""
    for name, others in NAMES.items():
        passage = passage.replace(name, order.choice(others))
    return passage


def stretches(paragraph: str) -> list[str]:
    """Returns each two successive sentences of a paragraph."""
    sentences = re.findall("[^。！？]+[。！？]*", paragraph)
    return ["".join(sentences[start : start + 2]) for start in range(0, len(sentences), 2)]


def make_passages(
    sentences: Sequence[str], vectors: np.ndarray, order: random.Random
) -> list[list[str]]:
    """Joins sentences into passages about one subject; each sentence is in one of them.

    A passage begins with any sentence. Its next one is, of the sentences that are left, the one
    whose words are closest to those of the passage, but no variant of one that is in it.

    Args:
        sentences: The sentences.
        vectors: float32 `(sentences, dimensions)`, of length 1.
        order: The random numbers.
    """
    grams = [frozenset(bigrams(one)) for one in sentences]
    is_left = np.ones(len(sentences), bool)
    begins = np.array([ord(one[0]) for one in sentences])
    passages = []
    for first in order.sample(range(len(sentences)), len(sentences)):
        if not is_left[first]:
            continue
        passage, direction = [first], vectors[first].copy()
        is_left[first] = False
        for _ in range(order.randint(FEWEST_SENTENCES, MOST_SENTENCES) - 1):
            similarity = vectors @ direction / max(float(np.linalg.norm(direction)), 1e-6)
            similarity += SAME_BEGINNING * (begins == begins[passage[-1]])
            similarity[~is_left] = -np.inf
            best = np.argpartition(-similarity, CANDIDATES)[:CANDIDATES]
            best = best[np.argsort(-similarity[best], kind="stable")]
            following = next(
                (i for i in best if is_left[i] and is_new(grams[i], grams, passage)), None
            )
            if following is None or similarity[following] < MIN_SIMILARITY:
                break
            passage.append(int(following))
            is_left[following] = False
            # The last sentence counts most.
            direction = 0.5 * direction + vectors[following]
        passages.append([sentences[index] for index in passage])
    return join_short(passages, order)


def bigrams(sentence: str) -> Iterator[str]:
    """Yields the pairs of neighbouring characters, without punctuation."""
    for first, second in itertools.pairwise(sentence):
        if first.isalpha() and second.isalpha():
            yield first + second


def is_new(
    gram_set: frozenset[str], grams: Sequence[frozenset[str]], passage: Sequence[int]
) -> bool:
    """Whether a sentence shares few of its pairs of characters with each one of a passage."""
    return all(
        len(gram_set & grams[index]) <= MAX_OVERLAP * max(1, min(len(gram_set), len(grams[index])))
        for index in passage
    )


def sentence_vectors(sentences: Sequence[str], prose: Iterable[str]) -> np.ndarray:
    """Returns vectors that are close for sentences about the same subject.

    A pair of characters that is neither rare nor ubiquitous represents a word. Its vector is made
    of the pairs that occur near it (positive pointwise mutual information, reduced by a singular
    value decomposition: Levy and Goldberg, 2014); that of a sentence is the weighted sum of those
    of its pairs.

    Args:
        sentences: The sentences.
        prose: More texts to learn from: stretches of one or two sentences.

    Returns:
        float32 `(sentences, DIMENSIONS)`, of length 1.
    """
    stretches = [frozenset(bigrams(one)) for one in (*sentences, *prose)]
    counts = Counter(gram for one in stretches for gram in one)
    known = sorted(g for g, n in counts.items() if MIN_COUNT <= n <= len(stretches) // 150)
    index = {gram: position for position, gram in enumerate(known)}
    together = np.zeros((len(known), len(known)), np.float32)
    for one in stretches:
        ids = np.fromiter((index[gram] for gram in one if gram in index), np.int64)
        together[ids[:, None], ids[None, :]] += 1.0
    single = np.diag(together).copy()
    np.fill_diagonal(together, 0.0)
    expected = np.outer(single, single) / len(stretches)
    information = np.log(np.maximum(together, 1e-9) / expected)
    information *= together > 1.0
    np.maximum(information, 0.0, out=information)
    # Randomized range finder (Halko et al., 2011).
    basis = np.random.default_rng(1).standard_normal((len(known), DIMENSIONS), np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(information @ basis)
    values, turn = np.linalg.eigh(basis.T @ information @ basis)
    grams = (basis @ turn) * np.sqrt(np.abs(values))
    weights = np.log(len(stretches) / single) ** 2
    vectors = np.zeros((len(sentences), DIMENSIONS), np.float32)
    for row, one in enumerate(stretches[: len(sentences)]):
        for gram in one:
            if (position := index.get(gram)) is not None:
                vectors[row] += weights[position] * grams[position]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def join_short(passages: list[list[str]], order: random.Random) -> list[list[str]]:
    """Joins passages of too few sentences that begin with the same character."""
    joined = [passage for passage in passages if len(passage) >= FEWEST_SENTENCES]
    short = defaultdict(list)
    for passage in passages:
        if len(passage) < FEWEST_SENTENCES:
            short[passage[0][0]].append(passage)
    rest: list[str] = []
    for group in short.values():
        current: list[str] = []
        for passage in group:
            current += passage
            if len(current) >= order.randint(FEWEST_SENTENCES, MOST_SENTENCES):
                joined.append(current)
                current = []
        rest += current
    joined += [rest[start : start + 4] for start in range(0, len(rest), 4)]
    return order.sample(joined, len(joined))


if __name__ == "__main__":
    main()
