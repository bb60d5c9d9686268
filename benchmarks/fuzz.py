"""Gives `s2s` odd arguments, configs, texts and damaged files, and counts what was not foreseen.

    python benchmarks/fuzz.py                      # 1,000 cases, some 20 minutes on two cores
    python benchmarks/fuzz.py --cases 50 --seed 7
    python benchmarks/fuzz.py --only 17            # one case again, with what it printed

A case ends as foreseen if the command succeeds, or exits with 1 or 2 after one `s2s: error:` that
names no exception. A traceback, an exception's name, a crash, another exit code and a command that
takes too long are not. The cases follow from the seed; a small translator is trained first.

Each case runs in a process that has loaded TensorFlow, under a limit on its memory, so that a
thousand of them take minutes.
"""

import argparse
import base64
import contextlib
import gzip
import io
import json
import logging
import os
import random
import re
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIGABYTE = 2**30
CASES_OF_A_WORKER = 60  # Then a new one begins: each training leaves its graphs behind.

# Names an exception, or is the answer to one that nobody thought of.
UNFORESEEN = re.compile(r"Traceback|--debug shows|out of memory|\b[A-Z]\w+(Error|Exception)\b")

CONFIG = """\
data:
  train: {tsv: train.tsv}
  validation: {tsv: train.tsv}
tokenizer: {type: char, vocab_size: 16, byte_fallback: false}
model: {embedding_dim: 8, units: 16, dropout: 0.0}
training: {max_steps: 2, batch_size: 16, validation_samples: 0, tensorboard: false}
decoding: {max_length: 5, beam_size: 2}
"""

# They come last, so that a config that is still one trains for a moment only.
SHORT = ["training.max_steps=2", "training.max_minutes=0.02", "training.validation_samples=0"]

NUMBERS = ["-1", "0", "1", "2", "0.5", "-0.0", "1e-300", "1e300", ".nan", ".inf", "1e400", "0x10"]
NUMBERS += ["2147483648", "4294967296", "1099511627776", "9" * 30, "9" * 5000, "1_0", "1:30"]
VALUES = [*NUMBERS, "true", "null", "''", "a", "[]", "[1, [2]]", "{}", "{a: b}", "2024-13-45"]
VALUES += ["[" * 2000, "{a: " * 500, "&a [*a]", "!!bool x", "!!binary '%'", '"\\ud800"', '"\\0"']
VALUES += ["~nosuchuser/x", "/dev/zero", ".", "x" * 5000, "é" * 300, "!!python/name:os.system"]
TOKENS = [b"[", b"{", b"}", b": ", b"- ", b"&a ", b"*a", b"!!int ", b"\0", b"\t", b"\xff", b"#"]
TOKENS += [b"<<: ", b"? ", b"|\n", b"\xef\xbb\xbf", b"\n---\n", b"'", b'"', b"%YAML 9\n", b"~"]
LINES = [b"abc\tcba", b"", b"\t", b"a", b"a\tb\tc", b"\0\t\0", b"\xff\xfe", b"\xed\xa0\x80\tb"]
LINES += [b"\xef\xbb\xbfabc\tcba", "\u2028\t\x85".encode(), ("e" + "\u0301" * 5000).encode()]
LINES += ["\U0001f468\u200d\U0001f469\tا".encode(), b"x" * 20000 + b"\ty", b"ab\tba\r", b" \t "]


@dataclass
class Case:
    """One command."""

    arguments: list[str]
    stdin: bytes = b""
    title: str = ""


@dataclass
class Outcome:
    """How a case ended."""

    code: int | None
    """The exit code; None if the process died or was stopped."""
    stderr: str
    seconds: float = 0.0

    def is_foreseen(self) -> bool:
        """Whether it succeeded, or failed with one message that names no exception."""
        if self.code == 0:
            return "Traceback" not in self.stderr
        errors = [line for line in self.stderr.splitlines() if line.startswith("s2s: error: ")]
        message = self.stderr[self.stderr.find("s2s: error: ") :]
        return self.code in (1, 2) and len(errors) == 1 and not UNFORESEEN.search(message)


@dataclass
class Material:
    """What cases are made from."""

    run: Path
    """A trained translation run."""
    exported: Path | None = None
    """An export of it; None leaves exports out."""
    is_quick: bool = False
    """Whether to leave out all that trains or generates: what is odd is met before that."""
    corpus: bytes = field(
        default=b"".join(b"%s\t%s\n" % (w, w[::-1]) for w in (b"abc", b"deed") * 20)
    )


def make_case(seed: int, number: int, material: Material, folder: Path) -> Case:
    """Returns a case and writes its files; the same for the same seed and number.

    Args:
        seed: Of all cases.
        number: Of this one.
        material: What it is made from.
        folder: An empty folder for its files, where it will run.
    """
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
    (folder / "train.tsv").write_bytes(material.corpus)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    kinds: list[Callable[[random.Random, Material, Path], Case]]
    kinds = [_odd_config, _odd_override, _odd_corpus, _odd_option, _damaged_run]
    if not material.is_quick:
        kinds.append(_odd_input)
    if material.exported:
        kinds.append(_damaged_export)
    kind = kinds[number % len(kinds)]
    case = kind(rng, material, folder)
    case.title = f"{kind.__name__.strip('_').replace('_', ' ')}: {case.title}"
    return case


def _fit(material: Material, folder: Path, *overrides: str) -> list[str]:
    run = material.run if material.is_quick else folder / "run"  # The one is in use already.
    settings = [part for one in (*overrides, *SHORT) for part in ("--set", one)]
    return ["fit", str(folder / "config.yaml"), "--run-dir", str(run), *settings]


def _odd_config(rng: random.Random, material: Material, folder: Path) -> Case:
    data = CONFIG.encode()
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        change = rng.randrange(4)
        if change == 0:
            data = data[:place] + rng.choice(TOKENS) + data[place:]
        elif change == 1:
            data = data[:place] + data[place + rng.randint(1, 20) :]
        elif change == 2:
            data = data[:place] + rng.choice(VALUES).encode() + data[place:]
        else:
            data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if rng.random() < 0.2:
        title = _replace_file(rng, folder / "config.yaml")
    else:
        (folder / "config.yaml").write_bytes(data)
        title = repr(data)
    return Case(_fit(material, folder), title=title)


def _odd_override(rng: random.Random, material: Material, folder: Path) -> Case:
    from seq2seq_kit.config import load_config

    known = load_config({"data": {"train": "train.tsv"}}).model_dump(mode="json")
    keys = [*_keys(known), "data.train.0.tsv", "data.train.1.tsv", "a.b", "", ".", "seed.x"]
    overrides = [f"{rng.choice(keys)}={rng.choice(VALUES)}" for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.1:
        overrides.append(
            rng.choice(["=", "x", "training.epochs", "a" * 3000 + "=1", "a." * 500 + "b=1"])
        )
    return Case(_fit(material, folder, *overrides), title=repr(overrides)[:300])


def _keys(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yields all keys of a config, dotted."""
    for key, value in values.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{above}{key}.")


def _odd_text(rng: random.Random) -> bytes:
    text = b"\n".join(rng.choice(LINES) for _ in range(rng.randint(0, 12)))
    packing = rng.random()
    if packing < 0.1:
        return gzip.compress(text)[: rng.randint(1, 40)]
    if packing < 0.2:
        return gzip.compress(text)
    return text if packing < 0.9 else rng.randbytes(rng.randint(0, 200))


def _replace_file(rng: random.Random, path: Path) -> str:
    """Puts something else in the place of a file; returns what."""
    path.unlink(missing_ok=True)
    kind = rng.choice(["nothing", "a folder", "a pipe", "a loop", "a device", "no bytes", "a gap"])
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a loop":
        path.symlink_to(path)
    elif kind == "a device":
        path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/dev/urandom"]))
    elif kind == "no bytes":
        path.touch()
    elif kind == "a gap":  # 3 GB that take no room
        with path.open("wb") as file:
            file.truncate(3 * GIGABYTE)
    return f"{kind} for {path.name}"


def _odd_corpus(rng: random.Random, material: Material, folder: Path) -> Case:
    path = folder / "odd.tsv"
    if rng.random() < 0.3:
        title = _replace_file(rng, path)
    else:
        path.write_bytes(_odd_text(rng))
        title = repr(path.read_bytes()[:200])
    odd, good = str(path), str(folder / "train.tsv")
    run = str(material.run)
    is_pipe = path.is_fifo()  # Commands that read a text once may wait for somebody to write it.
    commands = [
        _fit(material, folder, f"data.train.tsv={rng.choice([odd, 'odd.tsv'])}"),
        _fit(
            material,
            folder,
            "data.train=null",
            f"data.train.source={odd}",
            f"data.train.target={good}",
        ),
        _fit(
            material,
            folder,
            "task=continuation",
            "data.validation=null",
            "data.train=null",
            f"data.train.{rng.choice(['text', 'lines'])}={odd}",
        ),
    ]
    if not is_pipe and not material.is_quick:
        commands += [
            ["score", run, "--source", odd, "--target", good, "--long-lines", "truncate"],
            ["evaluate", run, "--tsv", odd, "--long-lines", "truncate"],
            ["evaluate", run, "--source", odd, "--reference", odd],
        ]
    return Case(rng.choice(commands), title=title)


def _odd_input(rng: random.Random, material: Material, folder: Path) -> Case:
    text = _odd_text(rng)
    arguments = ["generate", str(material.run)]
    if rng.random() < 0.5:
        arguments += ["--long-lines", "truncate"]
    where = rng.random()
    if where < 0.4:
        return Case(arguments, text, repr(text[:200]))
    if where < 0.7:
        (folder / "in.txt").write_bytes(text)
        output = [
            "-o",
            rng.choice(["out.txt", "no/out.txt", ".", "/dev/null", "a" * 300, "in.txt"]),
        ]
        return Case([*arguments, str(folder / "in.txt"), *output], title=repr(text[:200]))
    prompt = text.decode("utf-8", "surrogateescape").replace("\0", "")
    return Case([*arguments, f"--prompt={prompt}"], title=repr(prompt[:200]))


def _odd_option(rng: random.Random, material: Material, folder: Path) -> Case:
    command = rng.choice(["generate", "evaluate", "export", "score", "info", "fit", "init"])
    names = ["beam-size", "max-length", "batch-size", "length-penalty", "num-hypotheses"]
    names += ["precision", "no-repeat", "shortlist", "run-dir", "source", "tokenize", "prompt"]
    numbers = [*NUMBERS, "", "a", "\u0663", "1e3", "+1", " 1"]
    arguments = [command, str(rng.choice([material.run, folder, "none", "", "~nosuchuser"]))]
    if command == "generate":
        run = folder if material.is_quick else material.run
        arguments = [command, str(run), "--prompt", "abc"]
    for _ in range(rng.randint(1, 3)):
        arguments.append(f"--{rng.choice(names)}={rng.choice(numbers)}")
    if rng.random() < 0.1:
        arguments.insert(
            rng.randrange(len(arguments)), rng.choice(["--", "-", "\udcff", "--debugg"])
        )
    # An export takes half a minute; `init` into the run's folder would write there.
    if command in ("export", "init"):
        arguments[1:2] = [str(folder / "none"), str(folder / "train.tsv")]
    return Case(arguments, b"abc\n", repr(arguments)[:300])


def _damage(rng: random.Random, path: Path) -> str:
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "cut", "insert", "random", "replace", "swap"])
    if kind == "replace" or not data:
        return _replace_file(rng, path)
    place = rng.randrange(len(data))
    if kind == "flip":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "insert":
        data[place:place] = rng.choice(TOKENS) + rng.randbytes(rng.randint(0, 9))
    elif kind == "random":
        data = bytearray(rng.randbytes(len(data)))
    else:
        others = sorted(one for one in path.parent.iterdir() if one.is_file() and one != path)
        data = bytearray(rng.choice(others).read_bytes()) if others else bytearray()
    path.write_bytes(data)
    return f"{kind} at {place} of {path.name}"


def _damaged_run(rng: random.Random, material: Material, folder: Path) -> Case:
    run = Path(shutil.copytree(material.run, folder / "damaged"))
    path = rng.choice(sorted(path for path in run.iterdir() if path.is_file()))
    title = _damage(rng, path)
    good = str(folder / "train.tsv")
    commands = [
        ["info", str(run)],
        ["fit", str(folder / "config.yaml"), "--run-dir", str(run), "--resume"],
    ]
    if not material.is_quick:
        commands += [
            ["generate", str(run), "--prompt", "abc"],
            ["generate", str(run), "--prompt", "abc", "--shortlist"],
            ["score", str(run), "--source", good, "--target", good],
            ["fit", str(material.run / "config.yaml"), "--run-dir", str(run), "--resume"],
        ]
    return Case(rng.choice(commands), title=title)


def _damaged_export(rng: random.Random, material: Material, folder: Path) -> Case:
    exported = Path(shutil.copytree(material.exported, folder / "damaged"))
    path = rng.choice(sorted(path for path in exported.rglob("*") if path.is_file()))
    title = _damage(rng, path)
    return Case(["generate", str(exported), "--prompt", "abc"], title=title)


class Worker:
    """A process that runs cases one after the other.

    Args:
        memory: Bytes of address space that it may take beyond what TensorFlow takes.
    """

    def __init__(self, memory: int) -> None:
        command = [sys.executable, __file__, "--worker", str(memory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.num_cases = 0

    def run(self, case: Case, folder: Path, timeout: float) -> Outcome:
        """Runs a case in a folder; one that takes longer than `timeout` seconds is stopped."""
        self.num_cases += 1
        asked = {"arguments": case.arguments, "folder": str(folder)}
        asked["stdin"] = base64.b64encode(case.stdin).decode()
        started = time.monotonic()
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            answered = selector.select(timeout)
        line = self._process.stdout.readline() if answered else b""
        seconds = time.monotonic() - started
        if line:
            return Outcome(**json.loads(line), seconds=seconds)
        self.stop()
        how = f"died ({self._process.returncode})" if answered else f"took over {timeout:.0f} s"
        stderr = (folder / ".stderr").read_text(encoding="utf-8", errors="replace")
        return Outcome(None, f"{stderr}\n[The process {how}.]", seconds)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def work(memory: int) -> None:
    """Runs the cases that come on standard input and answers each on standard output."""
    from seq2seq_kit.cli import main
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    _limit_memory(memory)
    asked = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    for line in asked:
        case = json.loads(line)
        os.chdir(case["folder"])
        Path(".stdin").write_bytes(base64.b64decode(case["stdin"]))
        with _standard_streams():
            logging.getLogger().handlers.clear()
            try:
                code: int | None = main(case["arguments"])
            except BaseException as error:
                code = None
                print(f"main raised {type(error).__name__}: {error}", file=sys.stderr)
        stderr = Path(".stderr").read_text(encoding="utf-8", errors="replace")
        answers.write(json.dumps({"code": code, "stderr": stderr}).encode() + b"\n")
        answers.flush()


def _limit_memory(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def _standard_streams() -> Iterator[None]:
    """Puts files in the place of the standard streams, also for what is not Python."""
    for number, name, flags in (
        (0, ".stdin", os.O_RDONLY),
        (1, ".stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, ".stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb", closefd=False))
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            os.fdopen(number, "wb", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        for number in (1, 2)
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def fuzz(
    numbers: Sequence[int],
    material: Material,
    *,
    seed: int,
    timeout: float,
    memory: int = 6 * GIGABYTE,
    show: Callable[[int, Case, Outcome], None] = lambda *_: None,
) -> dict[int, tuple[Case, Outcome]]:
    """Runs cases and returns those that did not end as foreseen.

    Args:
        numbers: Which cases.
        material: What they are made from.
        seed: Of all cases.
        timeout: Seconds that a case may take.
        memory: As for `Worker`.
        show: Called after each case.
    """
    found = {}
    worker: Worker | None = None
    try:
        for number in numbers:
            if worker is None or not worker.is_running or worker.num_cases >= CASES_OF_A_WORKER:
                if worker is not None:
                    worker.stop()
                worker = Worker(memory)
            with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
                folder = Path(name)
                case = make_case(seed, number, material, folder)
                outcome = worker.run(case, folder, timeout)
            show(number, case, outcome)
            if not outcome.is_foreseen():
                found[number] = (case, outcome)
    finally:
        if worker is not None:
            worker.stop()
    return found


def make_material(folder: Path) -> Material:
    """Trains and exports a small translator."""
    from seq2seq_kit.seq2seq import Seq2Seq

    material = Material(folder / "run", folder / "export")
    (folder / "train.tsv").write_bytes(material.corpus)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    Seq2Seq.fit(folder / "config.yaml", run_dir=material.run).export(folder / "export")
    return material


def main() -> int:
    """Runs the command line of this script."""
    parser = argparse.ArgumentParser(description="Fuzzes the command s2s.")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="The number of the first case.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60.0, help="Seconds that a case may take.")
    parser.add_argument("--only", type=int, help="Run this case alone and show what it printed.")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker)
        return 0

    def show(number: int, case: Case, outcome: Outcome) -> None:
        if options.only is not None:
            print(case.arguments, case.title, outcome.code, outcome.stderr, sep="\n")
        elif not outcome.is_foreseen():
            print(f"\n{number}: {case.title}\n  {case.arguments}\n  {outcome}", flush=True)
        elif number % 50 == 49:
            print(f"{number + 1} cases", flush=True)

    with tempfile.TemporaryDirectory(prefix="fuzz-material-") as name:
        os.environ["S2S_CACHE_DIR"] = f"{name}/cache"
        material = make_material(Path(name))
        numbers = range(options.first, options.first + options.cases)
        if options.only is not None:
            numbers = range(options.only, options.only + 1)
        found = fuzz(numbers, material, seed=options.seed, timeout=options.timeout, show=show)
    print(f"{len(numbers)} cases, {len(found)} unforeseen")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
