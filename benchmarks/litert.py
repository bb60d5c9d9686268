"""One line at a time on one core: the SavedModel through TensorFlow, and the export for LiteRT.

    python benchmarks/litert.py [MODEL] [--text FILE] [--beam-sizes 1 5] [--rounds 3] [--core 0]

MODEL is a run or a packaged model (de-en); FILE has its inputs, 200 German sentences of the bundled
test set if it is left out. Both exports are written, then asked in new processes, which are pinned
to one core (Linux) and take turns: how long one takes from its start to its first answer, and each
line after that. Prints a table of medians and 99th percentiles, and in how many lines both agree.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TENSORFLOW = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf, tensorflow_text
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
def answer(line):
    return serve(inputs=tf.constant([line]))["outputs"][0].numpy().decode()
"""
LITERT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from run import Model
model = Model(sys.argv[1])
def answer(line):
    return model.generate(line, beam_size=int(sys.argv[3]))
"""
LOOP = """
lines = open(sys.argv[2], encoding="utf-8").read().splitlines()
answers = [answer(lines[0])]
first = time.time()
milliseconds = []
for line in lines[1:]:
    started = time.perf_counter()
    answers.append(answer(line))
    milliseconds.append(1000 * (time.perf_counter() - started))
print(json.dumps({"first": first, "milliseconds": milliseconds, "answers": answers}))
"""
RUNNERS = {"SavedModel, TensorFlow": TENSORFLOW, "LiteRT": LITERT}


def bundled_lines() -> list[str]:
    """Returns 200 German sentences of the bundled test set."""
    from seq2seq_kit import samples

    path = samples.FOLDER / "data" / "tatoeba_en_de.test.tsv"
    rows = path.read_text(encoding="utf-8").splitlines()
    return [row.split("\t")[1] for row in rows[:: len(rows) // 200]][:200]


def write_exports(model: str, folder: Path, beam_sizes: list[int]) -> None:
    """Writes `litert`, whose beam can be chosen later, and a SavedModel for each beam."""
    from seq2seq_kit import Seq2Seq

    loaded = Seq2Seq.load(model)
    loaded.export(folder / "litert", export_format="litert", sample=False)
    for beam in beam_sizes:
        loaded.export(folder / f"saved_model_{beam}", sample=False, beam_size=beam)


def ask(code: str, export: Path, text: Path, beam: int, core: int | None) -> dict[str, Any]:
    """Returns what a new process measured; `first` in seconds from its start."""

    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    started = time.time()
    done = subprocess.run(
        [sys.executable, "-B", "-c", code + LOOP, export, text, str(beam)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=pin,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"first": found["first"] - started}


def main() -> None:
    """Measures both in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="de-en")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--beam-sizes", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0 if hasattr(os, "sched_setaffinity") else None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = arguments.text
        if text is None:
            text = folder / "lines.txt"
            text.write_text("\n".join(bundled_lines()) + "\n", encoding="utf-8")
        write_exports(arguments.model, folder, arguments.beam_sizes)
        print("| runner | beam | first answer, s | line, ms: median | 99th percentile | lines/s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for beam in arguments.beam_sizes:
            answers = measure(folder, text, beam, arguments)
            both = list(zip(*answers, strict=True))
            same = sum(one == other for one, other in both)
            print(f"\nBeam {beam}: {same} of {len(both)} outputs are equal.\n")


def measure(folder: Path, text: Path, beam: int, arguments: argparse.Namespace) -> list[list[str]]:
    """Prints a row for each runner; returns the answers of each."""
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNNERS}
    for _ in range(arguments.rounds):
        for runner, code in RUNNERS.items():
            export = folder / ("litert" if code is LITERT else f"saved_model_{beam}")
            measured[runner].append(ask(code, export, text, beam, arguments.core))
    for runner, rounds in measured.items():
        # The quietest round: what else runs on the machine only adds to it.
        quiet = min(rounds, key=lambda one: statistics.median(one["milliseconds"]))
        milliseconds = quiet["milliseconds"]
        percentile = statistics.quantiles(milliseconds, n=100)[98]
        first = statistics.median(one["first"] for one in rounds)
        rate = 1000 / statistics.fmean(milliseconds)
        print(
            f"| {runner} | {beam} | {first:.2f} | {statistics.median(milliseconds):.2f} "
            f"| {percentile:.2f} | {rate:.0f} |",
            flush=True,
        )
    return [rounds[0]["answers"] for rounds in measured.values()]


if __name__ == "__main__":
    main()
