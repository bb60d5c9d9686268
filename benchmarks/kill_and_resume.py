"""Kills training again and again, and damages every file, and looks for a difference.

First, runs of five kinds (translation, continuation, bfloat16, and the first two on two workers on
loopback) are killed with SIGKILL at random moments and inside the writing of files, resumed until
they end, and compared array by array with a run that was never stopped.

Then, every file of a run, an export and the cache is flipped in one bit, cut, emptied and removed
in turn, and every command must either answer as before or end with an error or a warning.

    python benchmarks/kill_and_resume.py                      # 100 kills, all files
    python benchmarks/kill_and_resume.py --kills 8 --flips 1  # a few minutes

Ends with exit code 1 if there is a difference.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]

# What the clock says differs from run to run.
CLOCK = {"seconds", "validation_seconds", "tokens_per_second", "minutes"}

# In a child: dies at a call of `os.fsync` or `Path.replace`, or after one, when it is the n-th.
CHILD = """
import os, sys
from pathlib import Path

place, count = sys.argv[1], int(sys.argv[2])
calls = {"fsync": 0, "replace": 0}

def wrap(owner, name):
    real = getattr(owner, name)
    def call(*arguments):
        calls[name] += 1
        if place == f"before {name}" and calls[name] == count:
            os.kill(os.getpid(), 9)
        result = real(*arguments)
        if place == f"after {name}" and calls[name] == count:
            os.kill(os.getpid(), 9)
        return result
    setattr(owner, name, call)

wrap(os, "fsync")
wrap(Path, "replace")
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
print("started", flush=True)
from seq2seq_kit.cli import main
code = main(sys.argv[3:])
print("calls", calls["fsync"], calls["replace"], flush=True)
sys.exit(code)
"""


class Kind(NamedTuple):
    """A kind of run that is killed."""

    config: dict[str, Any]
    workers: int = 1


def make_kinds(data: Path) -> dict[str, Kind]:
    """Writes small data and returns the configs of the kinds of run."""
    rng = random.Random(1)  # noqa: S311 - no secret
    words = ["".join(w) for size in (1, 2, 3, 4) for w in itertools.product("abcde", repeat=size)]
    rng.shuffle(words)
    data.mkdir()
    pairs = "".join(f"{word}\t{word[::-1]}\n" for word in words)
    (data / "words.tsv").write_text(pairs, encoding="utf-8")
    text = "".join(" ".join(rng.choices(words[:40], k=9)) + "\n" for _ in range(400))
    (data / "text.txt").write_text(text, encoding="utf-8")
    # Dropout and a decaying learning rate are what a wrong resumption would change.
    shared = {
        "tokenizer": {"type": "char", "vocab_size": 40, "byte_fallback": False},
        "model": {"embedding_dim": 16, "units": 32, "dropout": 0.2},
    }
    training = {
        "max_steps": 150,
        "validate_every": 10,
        "batch_size": 24,
        "learning_rate": 0.01,
        "validation_samples": 0,
        "warmup_steps": 20,
        "early_stopping": {"patience": 99},
    }
    translation = {
        **shared,
        "data": {"train": {"tsv": str(data / "words.tsv")}, "holdout": 60},
        "training": training,
    }
    continuation = {
        **shared,
        "task": "continuation",
        "data": {"train": {"text": str(data / "text.txt")}, "window": 16, "holdout": 1},
        "training": training,
    }
    bfloat16 = {**translation, "training": {**training, "precision": "bfloat16"}}
    workers = {"training": {**training, "strategy": "multi_worker"}}
    return {
        "translation": Kind(translation),
        "continuation": Kind(continuation),
        "bfloat16": Kind(bfloat16),
        "two workers": Kind(translation | workers, workers=2),
        "continuation of two workers": Kind(continuation | workers, workers=2),
    }


@dataclass
class Attempt:
    """One or several processes that train."""

    processes: list[subprocess.Popen[str]]

    def wait_until_started(self) -> None:
        for process in self.processes:
            process.stdout.readline()

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)

    def end(self) -> tuple[list[int], str]:
        """Waits; returns the exit codes and the last words. One death ends all."""
        while all(process.poll() is None for process in self.processes):
            time.sleep(0.02)
        if any(process.returncode for process in self.processes if process.poll() is not None):
            self.kill()
        said = [process.communicate()[0] for process in self.processes]
        return [process.returncode for process in self.processes], said[0]


def start(
    kind: Kind, run: Path, cache: Path, *, resume: bool, place: str = "-", count: int = 0
) -> Attempt:
    """Starts training, which kills itself at the given place."""
    config = run.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(kind.config), encoding="utf-8")
    command = ["fit", str(config), "--run-dir", str(run)] + ["--resume"] * resume
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(kind.workers)]
    processes = []
    for index in range(kind.workers):
        environment = os.environ | {"S2S_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
        if kind.workers > 1:
            task = {"type": "worker", "index": index}
            cluster = {"cluster": {"worker": addresses}, "task": task}
            environment["TF_CONFIG"] = json.dumps(cluster)
        log = run.with_suffix(f".{index}.log").open("a", encoding="utf-8")
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", CHILD, place if index == 0 else "-", str(count), *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        )
    return Attempt(processes)


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def has_state(run: Path) -> bool:
    """Whether a run can be resumed."""
    return (run / "last.npz").is_file()


def fail(message: str) -> None:
    """Ends the benchmark."""
    raise SystemExit(f"kill_and_resume: {message}")


def train_unkilled(kind: Kind, run: Path, cache: Path) -> tuple[float, int, int]:
    """Trains without a kill; returns the seconds and the calls of fsync and replace."""
    attempt = start(kind, run, cache, resume=False)
    attempt.wait_until_started()
    began = time.monotonic()
    codes, said = attempt.end()
    if any(codes):
        fail(f"{run.name} ended with {codes}: {run.with_suffix('.0.log').read_text()[-2000:]}")
    _, fsyncs, replaces = said.split()[-3:]
    return time.monotonic() - began, int(fsyncs), int(replaces)


def train_killed(
    kind: Kind,
    run: Path,
    cache: Path,
    kills: int,
    rng: random.Random,
    unkilled: tuple[float, int, int],
) -> Counter[str]:
    """Trains with a number of kills, then to the end; returns how often it died where."""
    seconds, fsyncs, replaces = unkilled
    deaths: Counter[str] = Counter()
    while True:
        place = rng.choice(["moment", "before fsync", "before replace", "after replace"])
        is_last = sum(deaths.values()) >= kills
        # Short lives, so that as many fit into one run.
        share = 2.0 / max(kills, 2)
        count = rng.randint(1, max(2, int(share * (fsyncs if "fsync" in place else replaces))))
        if is_last:
            place = "-"
        attempt = start(kind, run, cache, resume=has_state(run), place=place, count=count)
        attempt.wait_until_started()
        if place == "moment":
            time.sleep(rng.uniform(0.0, share * seconds))
            attempt.kill()
        codes, _ = attempt.end()
        if -signal.SIGKILL in codes:
            deaths[place] += 1
        elif any(codes):
            fail(f"{run.name}, {codes}: {run.with_suffix('.0.log').read_text()[-2000:]}")
        elif is_last:
            return deaths
        else:  # It ended before its death: the next one trains from the start.
            shutil.rmtree(run)


def difference(one: Path, other: Path) -> list[str]:
    """Returns what differs between two finished runs."""
    from seq2seq_kit.archive import load_archive

    found = []
    for name in ("best.npz", "last.npz"):
        first, second = load_archive(one / name), load_archive(other / name)
        if first.arrays.keys() != second.arrays.keys():
            found.append(f"{name}: other arrays")
            continue
        for key, array in first.arrays.items():
            if array.dtype != second.arrays[key].dtype or not np.array_equal(
                array, second.arrays[key]
            ):
                found.append(f"{name}: {key}")
        if without_clock(first.metadata) != without_clock(second.metadata):
            found.append(f"{name}: metadata")
    for name in ("shared.model", "shortlist.npz"):
        if (one / name).exists() and (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    leftovers = [path.name for path in other.rglob("*partial*")]
    return found + [f"left over: {name}" for name in leftovers]


def without_clock(value: Any) -> Any:
    """Returns metadata without what the clock says."""
    if isinstance(value, Mapping):
        return {k: without_clock(v) for k, v in value.items() if k not in CLOCK | {"run", "digest"}}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def count_arrays(run: Path) -> int:
    """Returns the number of arrays in both checkpoints of a run."""
    from seq2seq_kit.archive import load_archive

    return sum(len(load_archive(run / name).arrays) for name in ("best.npz", "last.npz"))


def kill_runs(work: Path, kinds: Mapping[str, Kind], kills: int, seed: int) -> int:
    """Kills runs of each kind and resumes them; returns the number of differences."""
    num_different = num_arrays = num_kills = 0
    shares = [kills // len(kinds) + (i < kills % len(kinds)) for i in range(len(kinds))]
    for (name, kind), number in zip(kinds.items(), shares, strict=True):
        rng = random.Random(f"{seed} {name}")  # noqa: S311
        straight = work / f"{name.replace(' ', '-')}-straight"
        unkilled = train_unkilled(kind, straight, work / "cache-straight")
        for part, size in enumerate(split(number, 10)):
            run = work / f"{name.replace(' ', '-')}-killed-{part}"
            # Of its own, so that the cache's writing is killed too.
            cache = work / f"cache-{run.name}"
            deaths = train_killed(kind, run, cache, size, rng, unkilled)
            different = difference(straight, run)
            num_different += len(different)
            num_arrays += count_arrays(run)
            num_kills += sum(deaths.values())
            told = ", ".join(f"{count} {place}" for place, count in sorted(deaths.items()))
            print(f"{name}: {told}: {different or 'no difference'}", flush=True)
    print(f"{num_kills} kills, {num_arrays} arrays compared, {num_different} differences.")
    return num_different


def split(total: int, size: int) -> list[int]:
    """Returns sizes that add up to a total, each at most `size`."""
    return [min(size, total - first) for first in range(0, total, size)]


# ---- Damaged files


def faults(content: bytes, flips: int, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yields what may become of a file: its name and the new content, None for no file."""
    for _ in range(flips if content else 0):
        bit = rng.randrange(8 * len(content))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(changed)
    yield "cut", content[: rng.randrange(len(content))] if content else b""
    yield "emptied", b""
    yield "removed", None


class Answer(NamedTuple):
    """What a command said."""

    code: int
    output: str
    log: str


def ask(*arguments: str) -> Answer:
    """Runs a command within this process."""
    from seq2seq_kit.cli import main

    # With a buffer of bytes, as the streams of a process have.
    out, log = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(log):
        code = main(list(arguments))
    said = [stream.buffer.getvalue().decode("utf-8") for stream in (out, log)]
    return Answer(code, *said)


def is_safe(found: Answer, expected: Answer) -> bool:
    """Whether an answer is the undamaged one, an error in one piece, or is warned of."""
    if "Traceback" in found.log or "(--debug shows where)" in found.log:
        return False
    if found.code:
        return found.log.count("s2s: error: ") == 1
    return found.output == expected.output or "is damaged" in found.log or "missing" in found.log


def damage_files(work: Path, kinds: Mapping[str, Kind], flips: int, seed: int) -> int:
    """Damages the files of runs, exports and the cache; returns the number of unsafe answers."""
    rng = random.Random(seed)  # noqa: S311
    num_unsafe = num_asked = 0
    for name in ("translation", "continuation"):
        # Each has a separate cache: a file that its training does not read is not made again.
        os.environ["S2S_CACHE_DIR"] = str(work / f"cache-{name}")
        run = work / f"damaged-{name}"
        config = run.with_suffix(".yaml")
        config.write_text(yaml.safe_dump(kinds[name].config), encoding="utf-8")
        ask("fit", str(config), "--run-dir", str(run))
        for unsafe in itertools.chain(
            damage_run(run, config, flips, rng),
            damage_export(run, flips, rng),
            damage_cache(run, config, flips, rng),
        ):
            num_asked += 1
            if unsafe:
                num_unsafe += 1
                print(f"UNSAFE {name}: {unsafe}", flush=True)
    print(f"{num_asked} commands on damaged files, {num_unsafe} unsafe answers.")
    return num_unsafe


def damage_run(run: Path, config: Path, flips: int, rng: random.Random) -> Iterator[str]:
    """Yields what is unsafe, or an empty text, for each command on each damaged file of a run."""
    inputs = run.with_suffix(".tsv")
    inputs.write_text("abc\tcba\nde\ted\n", encoding="utf-8")
    commands = {
        "generate": ["generate", str(run), "--prompt", "abc", "--scores"],
        "evaluate": ["evaluate", str(run), "--tsv", str(inputs)],
        "info": ["info", str(run)],
    }
    if "continuation" in run.name:
        del commands["evaluate"]
    expected = {name: ask(*arguments) for name, arguments in commands.items()}
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    whole = run.with_name(f"{run.name}-whole")
    shutil.copytree(run, whole)
    for path in files:
        content = path.read_bytes()
        for fault, changed in faults(content, flips, rng):
            put(path, changed)
            for name, arguments in commands.items():
                found = ask(*arguments)
                where = f"{path.name} {fault}, {name}"
                yield "" if is_safe(found, expected[name]) else f"{where}: {found}"
            resumed = ask("fit", str(config), "--run-dir", str(run), "--resume")
            # A run is as it was, or its damage was said.
            is_same = resumed.code == 0 and not difference(whole, run)
            is_said = any(word in resumed.log for word in ("damaged", "missing", "s2s: error: "))
            yield "" if is_same or is_said else f"{path.name} {fault}, fit --resume: {resumed}"
            shutil.rmtree(run)
            shutil.copytree(whole, run)


def damage_export(run: Path, flips: int, rng: random.Random) -> Iterator[str]:
    """Yields what is unsafe, or an empty text, for each command on each damaged file of an export.

    The card is for people: no command reads it.
    """
    export = run.with_name(f"{run.name}-export")
    ask("export", str(run), str(export))
    commands = {
        "generate": ["generate", str(export), "--prompt", "abc", "--scores"],
        "info": ["info", str(export)],
    }
    expected = {name: ask(*arguments) for name, arguments in commands.items()}
    files = (path for path in export.rglob("*") if path.is_file() and path.name != "README.md")
    for path in sorted(files):
        content = path.read_bytes()
        for fault, changed in faults(content, flips, rng):
            put(path, changed)
            for name, arguments in commands.items():
                found = ask(*arguments)
                where = f"export {path.name} {fault}, {name}"
                yield "" if is_safe(found, expected[name]) else f"{where}: {found}"
            put(path, content)


def damage_cache(run: Path, config: Path, flips: int, rng: random.Random) -> Iterator[str]:
    """Yields what is unsafe, or an empty text, for each damaged file of the cache."""
    cache = Path(os.environ["S2S_CACHE_DIR"])
    for path in sorted(path for path in cache.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for fault, changed in faults(content, flips, rng):
            put(path, changed)
            again = run.with_name(f"{run.name}-again")
            found = ask("fit", str(config), "--run-dir", str(again))
            is_same = found.code == 0 and not difference(run, again)
            yield "" if is_same else f"cache {path.name} {fault}: {found}"
            shutil.rmtree(again, ignore_errors=True)
            if not path.exists() or path.read_bytes() != content:
                yield f"cache {path.name} {fault}: not made again"


def put(path: Path, content: bytes | None) -> None:
    """Writes a file, or removes it for None."""
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def main() -> None:
    """Runs both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=10, help="bits flipped in each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="kept; by default a folder that is removed")
    arguments = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        kinds = make_kinds(work / "data")
        num_different = kill_runs(work, kinds, arguments.kills, arguments.seed)
        num_unsafe = damage_files(work, kinds, arguments.flips, arguments.seed)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes.")
    sys.exit(bool(num_different or num_unsafe))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    main()
