"""Other grapheme-to-phoneme converters on the words of `benchmarks/speech.py`.

    python benchmarks/peers/g2p.py NAME --train train.tsv.gz --words words.txt --output words.tsv

NAME is `phonetisaurus` or `g2p-en`. Needs the package of that name (`pip install
phonetisaurus==0.3.0 g2p-en==2.1.0`) in an environment that need not have this package. Trains on
the pairs, except for g2p-en, which comes trained: on the whole dictionary, words of the development
and test files included. Writes each word, a tab, and its phones.
"""

import argparse
import gzip
import sys
import tempfile
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def main() -> None:
    """Trains a converter, converts the words, and writes what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=CONVERTERS)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--words", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with gzip.open(arguments.train, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    words = arguments.words.read_text(encoding="utf-8").split()
    converted = CONVERTERS[arguments.name](pairs, words)
    lines = (f"{word}\t{' '.join(phones)}\n" for word, phones in converted)
    arguments.output.write_text("".join(lines), encoding="utf-8")


Converted = Iterable[tuple[str, Sequence[str]]]


def phonetisaurus(pairs: Sequence[Sequence[str]], words: Sequence[str]) -> Converted:
    """Joint n-grams in a finite-state transducer, with the package's settings."""
    from phonetisaurus import predict, train

    lexicon: dict[str, list[list[str]]] = defaultdict(list)
    for word, phones in pairs:
        lexicon[word].append(phones.split())
    with tempfile.TemporaryDirectory() as folder:
        train(lexicon, Path(folder, "g2p.fst"))
        return list(predict(words, Path(folder, "g2p.fst")))


def g2p_en(_: Sequence[Sequence[str]], words: Sequence[str]) -> Converted:
    """A GRU of 128 units; only its network is asked, not its dictionary, which NLTK downloads."""
    nltk = types.ModuleType("nltk")
    corpus, tokenize = types.ModuleType("nltk.corpus"), types.ModuleType("nltk.tokenize")
    vars(nltk).update(pos_tag=None, data=types.SimpleNamespace(find=lambda _: None))
    vars(corpus).update(cmudict=types.SimpleNamespace(dict=dict))
    vars(tokenize).update(TweetTokenizer=lambda: types.SimpleNamespace(tokenize=str.split))
    sys.modules |= {"nltk": nltk, "nltk.corpus": corpus, "nltk.tokenize": tokenize}
    from g2p_en import G2p

    network = G2p()
    return [(word, network.predict(word)) for word in words]


CONVERTERS: dict[str, Callable[[Sequence[Sequence[str]], Sequence[str]], Converted]] = {
    "phonetisaurus": phonetisaurus,
    "g2p-en": g2p_en,
}

if __name__ == "__main__":
    main()
