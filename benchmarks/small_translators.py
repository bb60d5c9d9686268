"""What a user might run on a small machine, side by side: this package and CTranslate2, one core.

    PYTHON benchmarks/peers/transformer.py train TRANSFORMER --minutes 40
    python benchmarks/small_translators.py --peer PYTHON TRANSFORMER [--model de-en] [--lines 1000]

PYTHON is an interpreter with torch, ctranslate2 and sentencepiece. Each program is a process that
reads German sentences of the bundled test set from standard input and writes translations, pinned
to one core (Linux), one after the other, and again for each round:

- one line at a time, as in WMT's efficiency task: a line is written when the one before has its
  answer; median and 99th percentile of 200 lines;
- the start: from the beginning of the process to its first answer;
- in batches: a new process gets all lines at once; source words (between spaces) a second, without
  the start.

Prints a table of the quietest round of each, with BLEU. Without --peer only this package runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]


class Program(NamedTuple):
    """A translator as a command, without the option of its beam."""

    name: str
    one_by_one: list[str]
    in_batches: list[str]


class Measured(NamedTuple):
    """What one round of a program came to."""

    start: float  # seconds
    milliseconds: list[float]
    words_per_second: float
    outputs: list[str]


def read_test_set(number: int) -> tuple[list[str], list[str]]:
    """Returns German sentences and their English translations, spread over the test set."""
    from seq2seq_kit import samples

    text = (samples.FOLDER / "data" / "tatoeba_en_de.test.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    rows = rows[:: max(1, len(rows) // number)][:number]
    return [row[1] for row in rows], [row[0] for row in rows]


def programs(model: str, folder: Path, peer: list[str] | None) -> list[Program]:
    """Returns the programs; exports of the model are written to a folder."""
    from seq2seq_kit import Seq2Seq

    s2s = [sys.executable, "-m", "seq2seq_kit", "generate", model]
    fast = [*s2s, "--shortlist", "--precision", "bfloat16"]
    found = [
        Program("s2s generate", s2s, s2s),
        Program("s2s generate, shortlist, bfloat16", fast, fast),
    ]
    loaded = Seq2Seq.load(model)
    for weights in ("float32", "int8"):
        export = folder / weights
        loaded.export(export, export_format="litert", weights=weights)
        command = [sys.executable, "-B", str(export / "run.py")]
        found.append(Program(f"LiteRT, {weights}", command, command))
    for weights in ("float32", "int8") if peer else ():
        python, transformer = peer or ["", ""]
        script = str(ROOT / "benchmarks" / "peers" / "transformer.py")
        command = [python, script, "translate", transformer, "--compute-type", weights]
        found.append(Program(f"CTranslate2, {weights}", command, [*command, "--batch-size", "64"]))
    return found


class Running:
    """A program that answers lines, pinned to a core.

    Args:
        command: The command.
        core: The core; None where processes cannot be pinned.
    """

    def __init__(self, command: list[str], core: int | None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"},
            preexec_fn=lambda: None if core is None else os.sched_setaffinity(0, {core}),
        )

    def ask(self, line: str) -> str:
        """Returns the answer to a line."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("The process has no pipes.")
        stdin.write(f"{line}\n")
        stdin.flush()
        return stdout.readline().rstrip("\n")

    def end(self) -> None:
        """Closes standard input and waits.

        Raises:
            RuntimeError: If the program failed.
        """
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(f"{self.process.args} failed.")


def measure(program: Program, lines: list[str], beam: int, core: int | None) -> Measured:
    """Runs a program twice: line by line, and with all lines at once."""
    beam_option = ["--beam-size", str(beam)]
    started = time.perf_counter()
    running = Running([*program.one_by_one, *beam_option], core)
    running.ask(lines[0])
    start = time.perf_counter() - started
    milliseconds = []
    for line in lines[:200]:
        asked = time.perf_counter()
        running.ask(line)
        milliseconds.append(1000 * (time.perf_counter() - asked))
    running.end()

    started = time.perf_counter()
    running = Running([*program.in_batches, *beam_option], core)
    text = "".join(f"{line}\n" for line in lines)
    outputs = running.process.communicate(text)[0].splitlines()
    seconds = time.perf_counter() - started - start
    running.end()
    words = sum(len(line.split()) for line in lines)
    return Measured(start, milliseconds, words / seconds, outputs)


def main() -> None:
    """Measures all programs in turn and prints a table."""
    import sacrebleu

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="de-en")
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "FOLDER"))
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam-sizes", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--core", type=int, default=0 if hasattr(os, "sched_setaffinity") else None)
    given = parser.parse_args()
    lines, references = read_test_set(given.lines)
    print("| program | beam | BLEU | start, s | line, ms | 99th percentile | words/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        all_programs = programs(given.model, Path(name), given.peer)
        for beam in given.beam_sizes:
            measured: dict[str, list[Any]] = {program.name: [] for program in all_programs}
            for _ in range(given.rounds):
                for program in all_programs:
                    measured[program.name].append(measure(program, lines, beam, given.core))
            for program_name, rounds in measured.items():
                medians = [statistics.median(one.milliseconds) for one in rounds]
                quiet = rounds[medians.index(min(medians))]
                bleu = sacrebleu.corpus_bleu(quiet.outputs, [references]).score
                percentile = statistics.quantiles(quiet.milliseconds, n=100)[98]
                print(
                    f"| {program_name} | {beam} | {bleu:.1f} "
                    f"| {min(one.start for one in rounds):.2f} | {min(medians):.2f} "
                    f"| {percentile:.2f} | {max(one.words_per_second for one in rounds):.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
