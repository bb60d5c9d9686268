"""How fast all cores search together: threads of one process, processes, and one thread alone.

    python benchmarks/all_cores.py de-en --source FILE [--rounds 3] [--lines 2000]

The contestants translate the same lines in turn, with models that are loaded and graphs that are
traced. "One searcher" is a single search whose operations are spread over the cores, as before
`decoding.threads`. Processes get every second line (of two), and are started beforehand: a start
takes about five seconds more. Prints a table of medians, the processor time, and whether all
texts and scores are the same: with a shortlist, the last bits of a score may depend on the lines
beside it, and processes get other ones.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seq2seq_kit.machine import available_cores

FAST = {"shortlist": True, "precision": "bfloat16"}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"beam_size": 1},
    "beam 5": {"beam_size": 5},
    "greedy, shortlist, bfloat16": {"beam_size": 1, **FAST},
    "beam 5, shortlist, bfloat16": {"beam_size": 5, **FAST},
}
LINES_ALONE = 40  # How many lines are translated one at a time.


def work(run: str) -> None:
    """Loads a model; then answers each job, a line of JSON, with what it measured."""
    from seq2seq_kit import Seq2Seq

    model = Seq2Seq.load(run)
    for options in SETTINGS.values():
        list(model.hypotheses(["a"], **options))
    print("ready", flush=True)
    for job in map(json.loads, sys.stdin):
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        if job["alone"]:
            found = [
                best
                for line in job["lines"]
                for (best,) in model.hypotheses([line], **job["options"])
            ]
        else:
            found = [best for (best,) in model.hypotheses(job["lines"], **job["options"])]
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        answers = [(one.text, repr((one.token_ids, one.log_prob, one.score))) for one in found]
        answer = {"seconds": seconds, "cpu": cpu, "answers": answers, "mb": after.ru_maxrss // 1024}
        print(json.dumps(answer), flush=True)


class Process:
    """A process that works, with a number of threads for each operation.

    Args:
        run: The model.
        operation_threads: TensorFlow's threads for an operation.
    """

    def __init__(self, run: str, operation_threads: int) -> None:
        number = {"TF_NUM_INTRAOP_THREADS": str(operation_threads)}
        self._process: Any = subprocess.Popen(
            [sys.executable, __file__, run, "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | number,
            text=True,
        )

    def wait(self) -> None:
        """Waits until the model is ready."""
        if self._process.stdout.readline() != "ready\n":
            sys.exit("A process has failed.")

    def start(self, lines: list[str], options: dict[str, Any], *, alone: bool = False) -> None:
        """Starts to translate lines."""
        job = {"lines": lines, "options": options, "alone": alone}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Returns what was measured."""
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Ends the process."""
        self._process.communicate()


def measure(
    processes: list[Process], lines: list[str], options: dict[str, Any], *, alone: bool = False
) -> dict[str, Any]:
    """Returns what the processes give together, each with its share of the lines."""
    number = len(processes)
    started = time.perf_counter()
    for place, process in enumerate(processes):
        process.start(lines[place::number], options, alone=alone)
    results = [process.result() for process in processes]
    seconds = time.perf_counter() - started
    answers: list[list[str]] = [[]] * len(lines)
    for place, result in enumerate(results):
        answers[place::number] = result["answers"]
    return {
        "lines_per_second": len(lines) / (seconds if number > 1 else results[0]["seconds"]),
        "cpu": sum(result["cpu"] for result in results),
        "mb": sum(result["mb"] for result in results),
        "texts": _digest(text for text, _ in answers),
        "scores": _digest(score for _, score in answers),
    }


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def compare(run: str, lines: list[str], rounds: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Returns what each contestant gave in each round of each setting."""
    cores = available_cores()
    shared = Process(run, cores)
    single = [Process(run, 1) for _ in range(cores)]
    for process in (shared, *single):
        process.wait()
    many, one = {"threads": 0}, {"threads": 1}
    contestants = {
        "one searcher": ([shared], one),
        "one searcher on one core": (single[:1], one),
        f"{cores} threads, {cores} for an operation": ([shared], many),
        f"{cores} threads, 1 for an operation": (single[:1], many),
        f"{cores} processes": (single, one),
    }
    jobs = [(name, lines, options, False) for name, options in SETTINGS.items()]
    jobs += [
        (f"{name}, one line at a time", lines[:LINES_ALONE], SETTINGS[name], True)
        for name in ("greedy", "beam 5", "greedy, shortlist, bfloat16")
    ]
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for setting, texts, options, alone in jobs:
        # With lines that come one at a time, further searchers have nothing to do.
        names = list(contestants)[: 2 if alone else None]
        rows = measured.setdefault(setting, {name: [] for name in names})
        for _ in range(rounds):
            for name in names:
                processes, threads = contestants[name]
                rows[name].append(measure(processes, texts, options | threads, alone=alone))
    for process in (shared, *single):
        process.end()
    return measured


def print_table(measured: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Prints a row for each setting and contestant."""
    print("| | | lines/s | times one searcher | processor time, s | memory, MB | the same |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for setting, rows in measured.items():
        base, *_ = rows.values()
        for name, rounds in rows.items():
            speeds = [one["lines_per_second"] for one in rounds]
            ratio = statistics.median(
                speed / first["lines_per_second"] for speed, first in zip(speeds, base, strict=True)
            )
            same = [
                what
                for what in ("texts", "scores")
                if {one[what] for one in rounds} == {one[what] for one in base}
            ]
            shown = ", ".join(f"{speed:.0f}" for speed in speeds)
            cpu = statistics.median(one["cpu"] for one in rounds)
            print(
                f"| {setting} | {name} | {shown} | {ratio:.2f} | {cpu:.2f} | {rounds[-1]['mb']} "
                f"| {' and '.join(same) or 'NOTHING'} |",
                flush=True,
            )


def main() -> None:
    """Compares the contestants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--source", type=Path, help="a file of sources, one a line")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.run)
        return
    if arguments.source is None:
        parser.error("--source is needed")
    lines = arguments.source.read_text(encoding="utf-8").splitlines()[: arguments.lines]
    started = time.perf_counter()
    print_table(compare(arguments.run, lines, arguments.rounds))
    print(f"\n{len(lines)} lines, {time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()
