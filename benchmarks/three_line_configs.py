"""How well a config of three lines trains in ten minutes, on eight sets of small data.

    python benchmarks/three_line_configs.py --data DIR
    python benchmarks/three_line_configs.py --data DIR --reference

Trains a config that names nothing but its data, with the defaults that suit them, for `--minutes`
on each of the eight sets, and scores it on the set's development file: BLEU, word accuracy, or
perplexity a character. With `--reference` it trains instead, in the same time, the best config
known for each set (`REFERENCES`). Each score is a line of JSON in `--results`, and what is there
is not trained again: the command may be interrupted, and `--sets` names some of the sets. The
table at the end compares both: the ratio is ours / reference, for perplexity reference / ours, and
is wanted to be 0.9 or more. Needs an idle machine: a limit in minutes means nothing beside others.

DIR holds tatoeba_cmn, tatoeba_deu, inflection_conll2017, cmudict, histnorm and zh_modern_pd, each
with its training and development files.
"""

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.config import CorpusConfig  # noqa: E402
from seq2seq_kit.inference.evaluation import compare_texts  # noqa: E402
from seq2seq_kit.inference.scorer import perplexity  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402
from seq2seq_kit.text.corpus import read_corpus  # noqa: E402

WANTED = 0.9


class Set(NamedTuple):
    """A set of data and how its development file is scored."""

    train: str
    """Training file, below the data folder; "10,000 of FILE" is a random part of it."""
    dev: str
    """Development file."""
    metric: str
    """bleu, accuracy (percent of the inputs) or perplexity (a character)."""
    columns: Mapping[str, Any] = MappingProxyType({})
    """`source_columns` and `target_columns`, where they are not 1 and 2."""
    bleu_tokenize: str = "13a"
    """sacrebleu's tokenizer; fixed here, so that it does not depend on what is compared."""
    every: int = 1
    """Every how many lines of a large development file are used."""
    counts_lines: bool = False
    """Whether each line counts in the accuracy. Otherwise each input does, however many lines have
    it, and any of their outputs is right."""


_REVERSED = {"source_columns": 2, "target_columns": 1}
_CMN = ("tatoeba_cmn/train.tsv.gz", "tatoeba_cmn/dev.tsv", "bleu")
_DEU = ("tatoeba_deu/train.tsv.gz", "tatoeba_deu/dev.tsv", "bleu")
SETS = {
    "en-zh": Set(*_CMN, bleu_tokenize="zh"),
    "zh-en": Set(*_CMN, columns=_REVERSED),
    "de-en 10,000": Set(f"10,000 of {_DEU[0]}", *_DEU[1:], columns=_REVERSED),
    "de-en": Set(*_DEU, columns=_REVERSED),
    "inflection": Set(
        "inflection_conll2017/german.train_high.tsv.gz",
        "inflection_conll2017/german.dev.tsv",
        "accuracy",
        columns={"source_columns": [1, 3], "target_columns": 2},
    ),
    "pronunciation": Set("cmudict/train.tsv.gz", "cmudict/dev.tsv", "accuracy"),
    "normalization": Set(
        "histnorm/german-ridges.train.tsv.gz",
        "histnorm/german-ridges.dev.tsv",
        "accuracy",
        every=6,
        counts_lines=True,
    ),
    "Chinese text": Set("zh_modern_pd/train.txt.gz", "zh_modern_pd/dev.txt.gz", "perplexity"),
}

_CHARACTERS: dict[str, Any] = {"type": "char", "vocab_size": 400}
_HAN: dict[str, Any] = {"type": "char", "vocab_size": 3050}
_PAIRS: dict[str, Any] = {
    "model": {"units": 256, "embedding_dim": 256, "dropout": 0.3},
    "training": {"learning_rate": 0.003},
}
REFERENCES: dict[str, dict[str, Any]] = {
    "en-zh": {
        "tokenizer": {
            "source": {"vocab_size": 4000},
            "target": {"type": "char", "vocab_size": 2800},
        },
        **_PAIRS,
    },
    "zh-en": {
        "tokenizer": {
            "source": {"type": "char", "vocab_size": 2800},
            "target": {"vocab_size": 4000},
        },
        **_PAIRS,
    },
    "de-en 10,000": {"tokenizer": {"vocab_size": 2000}, **_PAIRS},
    "de-en": {
        # As seq2seq_kit/samples/translation.yaml, which was tuned on this set.
        "tokenizer": {"vocab_size": 4000},
        "model": {"units": 256, "embedding_dim": 256, "dropout": 0.2},
        "training": {"learning_rate": 0.004, "validate_every": 800},
    },
    "inflection": {"tokenizer": _CHARACTERS, **_PAIRS},
    "pronunciation": {
        "tokenizer": {"source": _CHARACTERS, "target": {"type": "word", "vocab_size": 400}},
        "model": {"units": 256, "embedding_dim": 256, "dropout": 0.2},
        "training": {"learning_rate": 0.003, "validate_every": 500},
    },
    "normalization": {"tokenizer": {"type": "char", "vocab_size": 450}, **_PAIRS},
    "Chinese text": {
        "tokenizer": {"type": "char", "vocab_size": 6000},
        "model": {"units": 512, "embedding_dim": 256, "dropout": 0.1},
        "training": {
            "learning_rate": 0.002,
            "label_smoothing": 0.0,
            "batch_size": 32,
            "validate_every": 500,
        },
    },
}


def main() -> None:
    """Trains and scores what is not in the results yet, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    parser.add_argument("--reference", action="store_true", help="Train the best known configs.")
    parser.add_argument("--work", type=Path, default=Path("runs/three_line_configs"))
    parser.add_argument("--results", type=Path, help="[WORK/results.jsonl]")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.results or options.work / "results.jsonl"
    for name in options.sets:
        key = {"set": name, "reference": options.reference, "minutes": options.minutes}
        if not any(key.items() <= line.items() for line in read_results(results)):
            score = train_and_score(name, options)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(key | score) + "\n")
    print_table(read_results(results), options.minutes)


def train_and_score(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one config with `s2s fit`, as a user does; returns its score and how it trained."""
    which = SETS[name]
    folder = options.work / name.replace(" ", "_").replace(",", "")
    folder.mkdir(exist_ok=True)
    kind = "text" if which.metric == "perplexity" else "tsv"
    path = training_file(which.train, options.data, folder)
    config: dict[str, Any] = {"task": "continuation"} if kind == "text" else {}
    config["data"] = {"train": {kind: str(path.absolute()), **which.columns}}
    if options.reference:
        config |= REFERENCES[name]
    label = "reference" if options.reference else "three_lines"
    (folder / f"{label}.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    run = folder / label
    shutil.rmtree(run, ignore_errors=True)  # of a training that was broken off
    limit = f"training.max_minutes={options.minutes}"
    command = ["fit", str(folder / f"{label}.yaml"), "--run-dir", str(run), "--set", limit]
    subprocess.run([sys.executable, "-m", "seq2seq_kit", *command], check=True)
    model = Seq2Seq.load(run)
    ended = {key: model.results[key] for key in ("steps", "best_step", "ended")}
    return {"metric": which.metric, "score": score_model(model, which, options.data)} | ended


def training_file(name: str, data: Path, folder: Path) -> Path:
    """Returns the training file: as it is, or a part of it without lines that lack a column."""
    number, _, whole = name.rpartition(" of ")
    if not number and "histnorm" not in name:
        return data / name
    with gzip.open(data / whole, "rt", encoding="utf-8", newline="\n") as file:
        lines = [line for line in file if "\t" in line]
    if number:
        random.Random(1).shuffle(lines)  # noqa: S311 - no secret
        lines = lines[: int(number.replace(",", ""))]
    path = folder / "train.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def score_model(model: Seq2Seq, which: Set, data: Path) -> float:
    """Returns the score on the development file, by the config's own search."""
    kind = "lines" if which.metric == "perplexity" else "tsv"
    corpus = CorpusConfig.model_validate({kind: data / which.dev, **which.columns})
    pairs = [pair for pair in read_corpus(corpus) if pair.target][:: which.every]
    if which.metric == "perplexity":
        texts = [pair.target for pair in pairs]
        return perplexity(model.score([""] * len(texts), texts), texts).per_character
    if which.metric == "bleu" or which.counts_lines:
        outputs = model.generate([pair.source for pair in pairs], truncate=True)
        references = [[pair.target] for pair in pairs]
        scores = compare_texts(outputs, references, tokenize=which.bleu_tokenize)
        return scores.bleu if which.metric == "bleu" else scores.exact_match
    answers: dict[str, list[str]] = {}
    for pair in pairs:
        answers.setdefault(pair.source, []).append(pair.target)
    outputs = model.generate(list(answers), truncate=True)
    return compare_texts(outputs, list(answers.values())).exact_match


def read_results(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of JSON that there are."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def print_table(results: Sequence[dict[str, Any]], minutes: float) -> None:
    """Prints a row a set: both scores and their ratio."""
    print(f"| {minutes:g} minutes each | metric | three lines | reference | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for row in _rows(results, minutes):
        print(f"| {' | '.join(row)} |")


def _rows(results: Sequence[dict[str, Any]], minutes: float) -> Iterator[list[str]]:
    for name, which in SETS.items():
        ours, best = (
            next(
                (
                    line["score"]
                    for line in results
                    if (line["set"], line["minutes"], line["reference"]) == (name, minutes, wanted)
                ),
                None,
            )
            for wanted in (False, True)
        )
        shown = [f"{score:.2f}" if score is not None else "" for score in (ours, best)]
        ratio = ""
        if ours and best:
            value = best / ours if which.metric == "perplexity" else ours / best
            ratio = f"{value:.2f}{'' if value >= WANTED else ' (short)'}"
        yield [name, which.metric, *shown, ratio]


if __name__ == "__main__":
    main()
