"""What a run folder says of its training, for lists of runs; read without TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seq2seq_kit.config import load_saved_config
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.training.records import Record, read_metrics
from seq2seq_kit.training.run_folder import RunFolder, read_json

State = Literal["finished", "interrupted", "running"]

# Results that runs are compared by, those of a test set before those of validation data.
_SCORES = ("bleu", "chrf", "exact_match", "perplexity_per_character")
# How deep folders of runs are searched: `runs/experiment/seed-1` is found from `runs`.
_DEPTH = 3


@dataclass(frozen=True)
class RunSummary:
    """The state, the settings and the results of a run."""

    path: Path
    """The run folder."""
    state: State
    """Whether its training has finished, was interrupted, or is running now."""
    settings: dict[str, Any]
    """The value of every key of its config, by dotted key: `model.units`."""
    results: dict[str, float]
    """Its results, by name: steps, minutes, validation_loss (the best one), then scores."""


@dataclass(frozen=True)
class NoRun:
    """A folder that was found where runs are, and is none, or a damaged one."""

    path: Path
    """The folder."""
    reason: str
    """Why it cannot be listed."""


def find_runs(folder: Path) -> list[RunSummary | NoRun]:
    """Returns a summary of a run, or of each run in a folder, in the order of their names.

    Folders of folders are searched, too; those whose names begin with a dot are not.

    Args:
        folder: A run folder, or a folder that contains some.

    Raises:
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        what = "which is a file" if folder.exists() else "which does not exist"
        raise InputError(
            f"Expected a run folder or a folder of runs. Received: {folder}, {what}. "
            f"`s2s fit` writes runs below `runs` unless --run-dir says otherwise."
        )
    return list(_search(folder, _DEPTH))


def different_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Returns the dotted keys of the settings in which some runs differ, as configs order them."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def _search(folder: Path, depth: int) -> Iterator[RunSummary | NoRun]:
    run = RunFolder(folder)
    if run.config.is_file() or run.last.is_file() or run.best.is_file():
        yield _summarize(run)
        return
    if (reason := _foreign(folder)) is not None:
        yield NoRun(folder, reason)
        return
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        yield NoRun(folder, f"it cannot be read ({error.strerror})")
        return
    inner = [path for path in inner if not path.name.startswith(".")]
    if not inner or not depth:
        yield NoRun(folder, f"it is no run: it has no {run.config.name} and no {run.best.name}")
        return
    for path in inner:
        yield from _search(path, depth - 1)


def _foreign(folder: Path) -> str | None:
    """Returns what a folder is if it is no run and contains none; None if it may contain runs."""
    if (folder / "saved_model.pb").is_file():
        return "it is an exported SavedModel, not a run"
    if (folder / "decoder.tflite").is_file():
        return "it is an export for LiteRT, not a run"
    return None


def _summarize(run: RunFolder) -> RunSummary | NoRun:
    if not run.config.is_file():
        found = run.best if run.best.is_file() else run.last
        return NoRun(run.path, f"it has {found.name}, but its {run.config.name} is missing")
    try:
        settings = dict(_flatten(load_saved_config(run.config).config.model_dump(mode="json")))
        results = read_json(run.results) if run.results.is_file() else {}
    except RunError as error:
        return NoRun(run.path, str(error))
    history = read_metrics(run)
    state = _state(run, history, results)
    if state != "finished":
        results = {}  # Those of an earlier end, from which training was resumed.
    return RunSummary(run.path, state, settings, dict(_results(history, results)))


def _state(run: RunFolder, history: Sequence[Record], results: Mapping[str, Any]) -> State:
    try:
        run.check_unlocked()
    except InputError:
        return "running"
    is_newest = not history or history[-1]["step"] <= results.get("steps", -1)
    return "finished" if results and is_newest else "interrupted"


def _results(history: Sequence[Record], results: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the results of a run by name; before its end, those that its validations give."""
    if history:
        last = history[-1]
        yield "steps", results.get("steps", last["step"])
        yield "minutes", results.get("minutes", round(last["seconds"] / 60, 2))
        yield "validation_loss", min(record["val_loss"] for record in history)
    for name in _SCORES:
        if (key := f"test_{name}") in results or (key := f"validation_{name}") in results:
            yield key, results[key]
        elif not results and (found := [r[f"val_{name}"] for r in history if f"val_{name}" in r]):
            yield f"validation_{name}", max(found)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
