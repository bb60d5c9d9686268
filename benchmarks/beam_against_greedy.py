"""Is a beam ever worse than greedy search by its own score, and what does it cost and gain?

    python benchmarks/beam_against_greedy.py --data DIR [--runs runs/beam_against_greedy] [TASK ...]

Trains a small model for each task whose run folder does not exist yet (words to Morse code by
characters, made here; pronunciations, inflection and Multi30k from DIR/cmudict,
DIR/inflection_conll2017 and DIR/multi30k), then decodes `--lines` test lines with greedy search
and with a beam of 5. Prints, for each task, the share of lines on which the beam's score is lower
than greedy's, exact match and BLEU, the share of outputs that were cut at the limit, the tokens
fed to the decoder (rows times steps, which do not depend on the machine's load), and the seconds.
"""

import argparse
import itertools
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from seq2seq_kit.config import CorpusConfig, load_config  # noqa: E402
from seq2seq_kit.inference.evaluation import compare_texts  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402
from seq2seq_kit.special_ids import EOS_ID  # noqa: E402
from seq2seq_kit.text.corpus import read_corpus  # noqa: E402

ROOT = Path(__file__).parent
BEAM_SIZE = 5
# A beam's log-probability is summed in another order than greedy's.
TOLERANCE = 1e-4

MORSE = """.- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...-
.-- -..- -.-- --.."""
LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", MORSE.split(), strict=True))


def write_morse(folder: Path) -> None:
    """Writes words of random letters with their Morse code of 9 to 16 characters."""
    rng = np.random.default_rng(1)
    rows: dict[str, str] = {}
    while len(rows) < 8000:
        word = "".join(rng.choice(list(LETTERS), rng.integers(3, 7)))
        code = " ".join(LETTERS[letter] for letter in word)
        if 9 <= len(code) <= 16:
            rows[word] = code
    lines = [f"{word}\t{code}\n" for word, code in rows.items()]
    for name, part in {
        "test": lines[:2000],
        "dev": lines[2000:2500],
        "train": lines[2500:],
    }.items():
        (folder / f"{name}.tsv").write_text("".join(part), encoding="utf-8")


def small(embedding_dim: int, units: int, steps: int, **training: Any) -> dict[str, Any]:
    """Returns the sections of a small model that is trained for a fixed number of steps."""
    return {
        "model": {"embedding_dim": embedding_dim, "units": units, "dropout": 0.1},
        "training": {"max_steps": steps, "learning_rate": 0.003, "tensorboard": False, **training},
    }


def morse(data: Path, folder: Path) -> dict[str, Any]:
    """Characters to characters."""
    write_morse(folder)
    corpora = {name: str(folder / f"{key}.tsv") for name, key in SPLITS.items()}
    sizes = small(64, 128, 5000, plateau_factor=1.0)
    return {"data": corpora, "tokenizer": {"type": "char"}} | sizes


def pronunciations(data: Path, folder: Path) -> dict[str, Any]:
    """Letters to phones."""
    folder = data / "cmudict"
    return {
        "data": {
            "train": str(folder / "train.tsv.gz"),
            "validation": str(folder / "dev.tsv"),
            "test": str(folder / "test.tsv"),
        },
        "tokenizer": {
            "source": {"type": "char"},
            "target": {"type": "word", "byte_fallback": False},
        },
    } | small(128, 256, 2500)


def inflection(data: Path, folder: Path) -> dict[str, Any]:
    """Lemma and tags to a German form, by characters."""
    folder = data / "inflection_conll2017"
    columns = {"source_columns": [1, 3], "target_columns": [2]}
    files = {"train": "german.train_high.tsv.gz", "validation": "german.dev.tsv"}
    files["test"] = "german.test.tsv"
    corpora = {name: {"tsv": str(folder / file)} | columns for name, file in files.items()}
    return {"data": corpora, "tokenizer": {"type": "char"}} | small(128, 256, 2500)


def translation(data: Path, folder: Path) -> dict[str, Any]:
    """Multi30k English to German, in subwords."""
    config = load_config(
        ROOT / "configs" / "multi30k_en_de.yaml", [f"data.root={data / 'multi30k'}"]
    )
    return config.model_dump(exclude={"training", "model"}) | small(256, 256, 1500)


SPLITS = {"train": "train", "validation": "dev", "test": "test"}
TASKS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "morse": morse,
    "pronunciations": pronunciations,
    "inflection": inflection,
    "translation": translation,
}


def count_fed_tokens(model: Seq2Seq) -> tf.Variable:
    """Returns a variable to which every step of the decoder adds the rows that it was fed."""
    fed = tf.Variable(0, dtype=tf.int64, trainable=False)
    step = model.model.step

    def counted(token_ids: tf.Tensor, *arguments: Any) -> Any:
        fed.assign_add(tf.size(token_ids, out_type=tf.int64))
        return step(token_ids, *arguments)

    # A plain attribute: Keras would track a method's owner as a layer once more.
    object.__setattr__(model.model, "step", counted)
    return fed


def read_lines(model: Seq2Seq, number: int) -> dict[str, list[str]]:
    """Returns the first test sources, each with all its right answers."""
    corpora: tuple[CorpusConfig, ...] = model.config.data.test or ()
    answers: dict[str, list[str]] = {}
    for pair in itertools.chain.from_iterable(map(read_corpus, corpora)):
        answers.setdefault(pair.source, []).append(pair.target)
    return dict(itertools.islice(answers.items(), number))


def measure(model: Seq2Seq, lines: dict[str, list[str]]) -> dict[str, Any]:
    """Decodes with greedy search and with a beam, and compares them line by line."""
    sources, references = list(lines), list(lines.values())
    fed = count_fed_tokens(model)
    found: dict[int, list[Any]] = {}
    measured: dict[str, Any] = {"lines": len(lines)}
    for beam_size in (1, BEAM_SIZE):
        options = {"beam_size": beam_size, "truncate": True}
        list(model.hypotheses(sources[:64], **options))  # traces the graph
        before = int(fed.numpy())
        begun = time.perf_counter()
        found[beam_size] = [best for best, *_ in model.hypotheses(sources, **options)]
        seconds = time.perf_counter() - begun
        scores = compare_texts(
            [best.text for best in found[beam_size]],
            references,
            tokenize=model.config.data.bleu_tokenize,
        )
        name = "greedy" if beam_size == 1 else "beam"
        is_cut = [EOS_ID not in best.token_ids for best in found[beam_size]]
        measured |= {
            f"{name}_exact_match": scores.exact_match,
            f"{name}_bleu": scores.bleu,
            f"{name}_cut": 100.0 * sum(is_cut) / len(is_cut),
            f"{name}_fed_tokens": int(fed.numpy()) - before,
            f"{name}_seconds": round(seconds, 2),
        }
    worse = [
        (source, greedy, beam)
        for source, greedy, beam in zip(sources, found[1], found[BEAM_SIZE], strict=True)
        if source and beam.score < greedy.score - TOLERANCE
    ]
    for source, greedy, beam in worse[:3]:
        logging.info(
            "worse: %s -> %s (%.2f), greedy %s (%.2f)",
            *(source, beam.text, beam.score, greedy.text, greedy.score),
        )
    return measured | {"beam_is_worse": 100.0 * len(worse) / len(lines)}


def main() -> None:
    """Prints one JSON object for each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/beam_against_greedy"))
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for task in arguments.tasks or TASKS:
        run = arguments.runs / task
        if not run.exists():
            folder = arguments.runs / "data" / task
            folder.mkdir(parents=True, exist_ok=True)
            Seq2Seq.fit(TASKS[task](arguments.data.absolute(), folder.absolute()), run_dir=run)
        if not arguments.train_only:
            model = Seq2Seq.load(run)
            print(json.dumps({"task": task} | measure(model, read_lines(model, arguments.lines))))


if __name__ == "__main__":
    main()
