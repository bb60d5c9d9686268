"""Other grapheme-to-phoneme converters on the words of `benchmarks/speech.py`.

    python benchmarks/peers/g2p.py NAME --train train.tsv.gz --words words.txt --output words.tsv \
        --trained FOLDER

NAME is `sequitur-g2p`, `phonetisaurus` or `g2p-en`. Needs `requirements-speech.txt` in an
environment that need not have this package. Trains on the pairs, and keeps the model in FOLDER,
unless it is there already; g2p-en comes trained: on the whole dictionary, words of the development
and test files included. Writes each word, a tab, and its phones.
"""

import argparse
import gzip
import subprocess
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
    parser.add_argument("--trained", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.trained.mkdir(parents=True, exist_ok=True)
    with gzip.open(arguments.train, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    words = arguments.words.read_text(encoding="utf-8").split()
    converted = CONVERTERS[arguments.name](pairs, words, arguments.trained)
    lines = (f"{word}\t{' '.join(phones)}\n" for word, phones in converted)
    arguments.output.write_text("".join(lines), encoding="utf-8")


# By default it takes 20 iterations or more for each order, hours for this dictionary.
SEQUITUR_ITERATIONS = ("--min-iterations", "3", "--max-iterations", "4")
SEQUITUR_ORDER = 5

Converted = Iterable[tuple[str, Sequence[str]]]


def sequitur(pairs: Sequence[Sequence[str]], words: Sequence[str], trained: Path) -> Converted:
    """Joint n-grams estimated by expectation maximization, one order after the other."""
    with tempfile.TemporaryDirectory() as folder:
        lexicon, asked = Path(folder, "lexicon"), Path(folder, "words")
        lexicon.write_text("".join(f"{word} {phones}\n" for word, phones in pairs), "utf-8")
        asked.write_text("".join(f"{word}\n" for word in words), "utf-8")
        for order in range(1, SEQUITUR_ORDER + 1):
            model = trained / f"sequitur-{order}"
            if not model.exists():
                before = trained / f"sequitur-{order - 1}"
                start = ["--model", str(before), "--ramp-up"] if order > 1 else []
                options = ["--train", str(lexicon), "--devel", "5%", *SEQUITUR_ITERATIONS]
                _run_sequitur(*options, *start, "--write-model", str(model))
        lines = _run_sequitur("--model", str(model), "--apply", str(asked)).splitlines()
    return [(word, phones.split()) for word, _, phones in (line.partition("\t") for line in lines)]


def _run_sequitur(*options: str) -> str:
    """Returns what the program prints on standard output."""
    program = [sys.executable, str(Path(__file__).with_name("sequitur_g2p.py"))]
    command = [*program, "--encoding", "utf-8", *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def phonetisaurus(pairs: Sequence[Sequence[str]], words: Sequence[str], trained: Path) -> Converted:
    """Joint n-grams in a finite-state transducer, with the package's settings."""
    from phonetisaurus import predict, train

    lexicon: dict[str, list[list[str]]] = defaultdict(list)
    for word, phones in pairs:
        lexicon[word].append(phones.split())
    model = trained / "phonetisaurus.fst"
    if not model.exists():
        train(lexicon, model)
    return list(predict(words, model))


def g2p_en(_: Sequence[Sequence[str]], words: Sequence[str], __: Path) -> Converted:
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


CONVERTERS: dict[str, Callable[[Sequence[Sequence[str]], Sequence[str], Path], Converted]] = {
    "sequitur-g2p": sequitur,
    "phonetisaurus": phonetisaurus,
    "g2p-en": g2p_en,
}

if __name__ == "__main__":
    main()
