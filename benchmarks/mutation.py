"""Breaks decoding, inference and checkpoints on purpose, and counts the faults that no test sees.

    pip install cosmic-ray                                  # makes the mutants
    python benchmarks/mutation.py                           # a sample of 200, over an hour
    python benchmarks/mutation.py --mutants 20 --module decoding/beam
    python benchmarks/mutation.py --report                  # the table and the survivors again

A mutant is a module with one change, such as `<` for `<=`. It is killed if a test of its module
fails, or takes too long; if it survives, a test is missing, or the change is no fault. The sample
follows from the seed: places in the code are drawn first, so that one with many possible changes
counts once. Annotations are left alone. A run that was stopped continues where it stopped.

The modules are changed in a copy of the repository. Each mutant is tested in a separate process,
forked from one that has imported TensorFlow but computed nothing, which saves most of the time.
"""

import argparse
import ast
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutation.jsonl"

TESTS = {
    "decoding/beam": ["decoding_search"],
    "decoding/byte_tree": ["decoding_healing"],
    "decoding/greedy": ["decoding_search", "decoding_sampling"],
    "decoding/groups": ["decoding_groups"],
    "decoding/healing": ["decoding_healing"],
    "decoding/loop": ["decoding_search", "decoding_groups"],
    "decoding/numerics": ["decoding_search", "decoding_sampling"],
    "decoding/processors": ["decoding_processors"],
    "decoding/random": ["decoding_random", "decoding_sampling"],
    "decoding/sampling": ["decoding_sampling"],
    "decoding/scores": ["decoding_search"],
    "inference/beginnings": ["decoding_healing"],
    "inference/certain_text": ["certain_text", "stepwise"],
    "inference/constraints": ["generation"],
    "inference/decoders": ["shortlist", "generation"],
    "inference/generator": ["generation", "decoding_healing"],
    "inference/inputs": ["generation", "scoring"],
    "inference/scorer": ["scoring", "reading"],
    "inference/search": ["generation", "decoding_healing", "shortlist"],
    "inference/state": ["state"],
    "inference/stepwise": ["stepwise"],
    "training/carried": ["streams", "step"],
    "training/checkpoint": ["checkpoint"],
    "training/run_folder": ["run_folder"],
}
"""The test files that a mutant of a module must get past, `tests/test_*.py`."""


ARITHMETIC = ({"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod"}, {"BitOr", "BitAnd"})
"""The binary operators that replace one another."""


@dataclass(frozen=True)
class Mutant:
    """A change of a module."""

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def path(self) -> Path:
        return Path("seq2seq_kit", f"{self.module}.py")


def main() -> int:
    """Parses the arguments, tests the mutants and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", action="append", choices=sorted(TESTS), help="only these")
    parser.add_argument("--timeout", type=int, default=200, help="CPU seconds for a mutant's tests")
    parser.add_argument("--report", action="store_true", help="only print what was found before")
    args = parser.parse_args()
    if not args.report:
        run(draw(args.module or [*TESTS], args.mutants, args.seed), args.timeout)
    report()
    return 0


def draw(modules: list[str], number: int, seed: int) -> list[Mutant]:
    """Returns mutants at places that are drawn from all modules together."""
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    sites = [changes for module in modules for changes in changes_by_place(module)]
    chosen = rng.sample(sites, min(number, len(sites)))
    return [rng.choice(changes) for changes in chosen]


def changes_by_place(module: str) -> list[list[Mutant]]:
    """Returns the changes that cosmic-ray can make, in a list for each place in the code."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    path = ROOT / "seq2seq_kit" / f"{module}.py"
    annotations = list(annotated_ranges(ast.parse(path.read_text("utf-8"))))
    tree = get_ast_from_path(path)
    places = defaultdict(list)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or not is_plausible(name):
            continue  # Operators with arguments replace variables that they are given.
        positions = itertools.chain(*map(operator().mutation_positions, ast_nodes(tree)))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in annotations):
                places[start, end].append(Mutant(module, name, occurrence, start[0]))
    return [places[place] for place in sorted(places)]


def is_plausible(operator: str) -> bool:
    """Whether somebody could make the mistake; `<<` for `+` fails whatever is tested."""
    kind, *names = operator.removeprefix("core/").split("_")
    if kind == "ReplaceBinaryOperator":
        return any(set(names) <= group for group in ARITHMETIC)
    if kind == "ReplaceComparisonOperator":
        return ("Is" in "".join(names)) == (set(names) == {"Is", "IsNot"})
    return kind != "ReplaceUnaryOperator" or "Delete" in names


def annotated_ranges(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yields where annotations begin and end, each as line and column."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.expr):
                yield (found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)


def run(mutants: list[Mutant], timeout: int) -> None:
    """Tests mutants that were not tested before, and writes what became of them."""
    import keras  # noqa: F401
    import pytest  # noqa: F401
    import tensorflow_text  # noqa: F401

    done = {json.dumps(result["mutant"]) for result in results()}
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_repository(copy)
        for number, mutant in enumerate(mutants, start=1):
            if json.dumps(asdict(mutant)) in done:
                continue
            result = try_mutant(mutant, copy, timeout)
            with RESULTS.open("a") as file:
                file.write(json.dumps({"mutant": asdict(mutant), **result}) + "\n")
            outcome = result["outcome"]
            print(f"{number}/{len(mutants)} {mutant.path}:{mutant.line} {outcome}", flush=True)
        check_unbroken(copy, timeout)


def check_unbroken(copy: Path, timeout: int) -> None:
    """Exits if tests fail without any mutant; those that a mutant survived have passed."""
    modules = {result["mutant"]["module"] for result in results()}
    passed = [
        TESTS[result["mutant"]["module"]] for result in results() if result["outcome"] == "survived"
    ]
    for module in modules:
        if TESTS[module] not in passed and run_tests(TESTS[module], copy, timeout) != "survived":
            sys.exit(f"The tests of {module} fail without a mutant: the results mean nothing.")


def copy_repository(folder: Path) -> None:
    """Copies the files that git knows."""
    files = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the one on the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in files.rstrip("\0").split("\0"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def try_mutant(mutant: Mutant, copy: Path, timeout: int) -> dict[str, object]:
    """Returns the outcome, the change and the seconds of a mutant's tests."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = copy / mutant.path
    code = path.read_text("utf-8")
    mutated = mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)
    pairs = zip(code.splitlines(), mutated.splitlines(), strict=True)
    change = next((f"{old.strip()}  ->  {new.strip()}" for old, new in pairs if old != new), "")
    path.write_text(mutated, "utf-8")
    began = time.monotonic()
    try:
        outcome = run_tests(TESTS[mutant.module], copy, timeout)
    finally:
        path.write_text(code, "utf-8")
    return {"outcome": outcome, "change": change, "seconds": round(time.monotonic() - began, 1)}


def run_tests(names: list[str], copy: Path, cpu_seconds: int) -> str:
    """Returns "survived", "killed" or "timed out"."""
    child = os.fork()
    if child == 0:
        run_pytest(names, copy, cpu_seconds)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        return "timed out"
    return "killed" if code else "survived"


def run_pytest(names: list[str], copy: Path, cpu_seconds: int) -> NoReturn:
    """Runs test files, and ends the process with pytest's exit code."""
    import pytest

    code = 1
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(copy))
        files = [f"tests/test_{name}.py" for name in names]
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
    finally:
        os._exit(code)


def results() -> list[dict[str, Any]]:
    """Returns what was found so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def report() -> None:
    """Prints a table by module, and each change that no test noticed."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results():
        counts[result["mutant"]["module"]][result["outcome"]] += 1
        counts["all"][result["outcome"]] += 1
    print("| module | mutants | killed | timed out | survived |\n| --- | --- | --- | --- | --- |")
    for module in sorted(counts):
        of = counts[module]
        print(
            f"| {module} | {of.total()} | {of['killed']} | {of['timed out']} | {of['survived']} |"
        )
    for result in results():
        if result["outcome"] == "survived":
            mutant = result["mutant"]
            print(f"\n{mutant['module']}.py:{mutant['line']}\n    {result['change']}")


if __name__ == "__main__":
    sys.exit(main())
