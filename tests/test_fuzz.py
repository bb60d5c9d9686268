"""A slice of `benchmarks/fuzz.py`: odd arguments, configs, corpora and run folders."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import TrainedRun

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # Its dataclasses look for it there.
    spec.loader.exec_module(module)
    return module


def test_no_odd_input_ends_unforeseen(script: ModuleType, translation_run: TrainedRun) -> None:
    material = script.Material(translation_run.path, is_quick=True)
    assert script.fuzz(range(60), material, seed=1, timeout=120.0) == {}


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (1, "s2s: error: KeyError: 'x' (--debug shows where)\n"),
        (1, "s2s: error: out of memory. Lower --batch-size\n"),
        (2, "s2s: error: one\ns2s: error: two\n"),
        (2, "Traceback (most recent call last):\n"),
        (2, ""),
        (3, "s2s: error: config.yaml: is damaged.\n"),
        (None, "s2s: error: config.yaml: is damaged.\n[The process died (-11).]"),
    ],
)
def test_unforeseen_outcomes_are_recognized(
    script: ModuleType, code: int | None, stderr: str
) -> None:
    assert not script.Outcome(code, stderr).is_foreseen()


def test_a_clear_error_is_foreseen(script: ModuleType) -> None:
    assert script.Outcome(0, "step 2\n").is_foreseen()
    stderr = "Encoded data: ...\ns2s: error: config: 2 faults:\n  a: must be 1\n  b: is unknown\n"
    assert script.Outcome(2, stderr).is_foreseen()


def test_a_case_is_the_same_each_time(
    script: ModuleType, translation_run: TrainedRun, tmp_path: Path
) -> None:
    material = script.Material(translation_run.path, is_quick=True)
    for number in range(8):
        made = []
        for _ in range(2):
            folder = tmp_path / "case"
            folder.mkdir()
            case = script.make_case(3, number, material, folder)
            files = {path.name for path in folder.iterdir()}
            made.append((case, files))
            script.shutil.rmtree(folder)
        assert made[0] == made[1]
