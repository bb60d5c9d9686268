"""A run folder: the names of its files, its lock, and whether it can be filled, resumed or used."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seq2seq_kit import bounds
from seq2seq_kit.atomic import (
    explain_write_errors,
    remove_leftovers,
    remove_older_leftovers,
    try_lock,
    write_bytes,
)
from seq2seq_kit.digests import seal, unseal
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.pretrained.catalog import model_names, suggest_model

_logger = logging.getLogger(__name__)

_ELSEWHERE = "train into another folder (--run-dir, in Python run_dir=...)"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, with everything that generating and resuming need."""

    path: Path
    """The folder itself."""

    @property
    def config(self) -> Path:
        """The resolved config, YAML."""
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """The SHA-256 of each training and validation file, JSON; a resumption needs the same."""
        return self.path / "data.json"

    def tokenizer(self, side: str) -> Path:
        """The SentencePiece model of a side: "shared", "source" or "target"."""
        return self.path / f"{side}.model"

    @property
    def shortlist(self) -> Path:
        """The lexical shortlist: likely translations of each source token; translation only."""
        return self.path / "shortlist.npz"

    @property
    def best(self) -> Path:
        """The weights with the best validation result."""
        return self.path / "best.npz"

    @property
    def last(self) -> Path:
        """The newest state of training, from which it resumes."""
        return self.path / "last.npz"

    @property
    def metrics(self) -> Path:
        """The history: one JSON object for each validation."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The table of results, JSON."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The report: an HTML page with curves, examples and advice."""
        return self.path / "report.html"

    @property
    def logs(self) -> Path:
        """The folder for TensorBoard: our event file, and those of callbacks."""
        return self.path / "logs"

    @property
    def events(self) -> Path:
        """Our event file; TensorBoard recognizes one by the beginning of its name."""
        return self.logs / "events.out.tfevents.training"

    @property
    def lock(self) -> Path:
        """The lock of the process that is training in the folder; the file contains its PID."""
        return self.path / ".lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder and locks it against other processes while the body runs.

        The system releases the lock of a process that dies. Reading needs no lock. If the body
        fails before a state of training is saved, the files and folders that it created are removed
        again; those that existed before stay.

        Raises:
            InputError: If the folder cannot be created, or another process is training in it.
        """
        may_be_new = (self.logs, self.path, *self.path.parents)
        folders = [folder for folder in may_be_new if not folder.exists()]
        before = {file for file in self._files() if file.exists()}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The run folder {self.path} cannot be made ({error.strerror}). Choose another one "
                f"(--run-dir, in Python run_dir=...)."
            ) from error
        with self._hold_lock():
            remove_leftovers(self.path)
            remove_older_leftovers(self.path)
            try:
                yield
            except BaseException:
                if not (self.last.exists() or self.best.exists()):
                    for file in set(self._files()) - before:
                        _remove_if_possible(file.unlink)
                    for folder in folders:
                        _remove_if_possible(folder.rmdir)
                raise

    def _files(self) -> list[Path]:
        """Returns the files that a start makes before there is a state of training."""
        tokenizers = [self.tokenizer(side) for side in ("shared", "source", "target")]
        others = [
            self.config,
            self.data,
            self.shortlist,
            self.metrics,
            self.results,
            self.report,
            self.events,
        ]
        return [*tokenizers, *others, self.lock]

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        try:
            with explain_write_errors(self.lock, "The run's lock", "--run-dir"):
                lock = try_lock(self.lock)
        except OSError as error:
            _logger.warning(
                "The file system of %s has no locks (%s): make sure that no other process is "
                "training in that folder.",
                self.path,
                error.strerror,
            )
            yield
            return
        if lock is None:
            raise self._locked_error()
        try:
            with explain_write_errors(self.lock, "The run's lock", "--run-dir"):
                self.lock.write_text(f"{os.getpid()}\n", encoding="ascii")
            yield
        finally:
            lock.release()

    def check_unlocked(self) -> None:
        """Raises InputError if another process is training in the folder."""
        with suppress(OSError):
            if self.lock.exists():
                lock = try_lock(self.lock)
                if lock is None:
                    raise self._locked_error()
                lock.release()

    def _locked_error(self) -> InputError:
        holder = ""
        with suppress(OSError, ValueError):
            holder = f" (PID {int(self.lock.read_text(encoding='ascii'))})"
        return InputError(
            f"Another process{holder} is using the run folder {self.path}. Wait until it has "
            f"ended, or {_ELSEWHERE}."
        )

    def check_new(self) -> None:
        """Raises InputError if a new training would overwrite something; says what to do."""
        if self.last.is_file():
            if not self.config.is_file():
                raise self._without_config(self.last)
            raise InputError(
                f"The folder {self.path} holds a run already. Resume it (--resume, in Python "
                f"resume=True), or {_ELSEWHERE}."
            )
        if self.best.is_file():
            raise self._without_last()
        if (self.path / "saved_model.pb").is_file():
            raise InputError(f"{self.path} is an exported SavedModel. For a run, {_ELSEWHERE}.")
        if self.config.is_file():
            if not self.config.read_bytes().startswith(b"format_version:"):
                raise self._not_of_a_run(self.config)
        elif not self.lock.exists():
            names = [self.tokenizer(side) for side in ("shared", "source", "target")]
            for path in (*names, self.shortlist, self.data, self.metrics, self.results):
                if path.exists():
                    raise self._not_of_a_run(path)

    def check_resumable(self) -> None:
        """Raises InputError if there is no state to resume from; says what to do."""
        if self.last.is_file():
            if not self.config.is_file():
                raise self._without_config(self.last)
            return
        if self.best.is_file():
            raise self._without_last()
        raise InputError(
            f"Nothing to resume: {self.path} holds no state of training. Train without --resume "
            f"(in Python resume=False) first."
        )

    def open_trained(self) -> "RunFolder":
        """Returns itself if it holds a trained run.

        Raises:
            InputError: If it does not; the message says what to do with the folder.
        """
        if self.best.is_file():
            if self.config.is_file():
                return self
            raise self._without_config(self.best)
        if (self.path / "saved_model.pb").is_file():
            raise InputError(
                f"Expected a run folder. Received: {self.path}, which is an exported SavedModel: "
                f"which works only with `s2s generate`. Give the run it was exported from."
            )
        if (self.path / "decoder.tflite").is_file():
            raise InputError(
                f"Expected a run folder. Received: {self.path}, which is an export for LiteRT. Run "
                f"it with `python {self.path / 'run.py'}`, or give the run it was exported from."
            )
        if self.last.is_file() or self.config.is_file():
            state = "has saved its state" if self.last.is_file() else "has saved nothing yet"
            resume = " --resume" if self.last.is_file() else ""
            raise InputError(
                f"The run in {self.path} has no best weights ({self.best.name}): its training "
                f"{state}, but has not reached its first validation, or the file was removed. "
                f"Train it: `s2s fit CONFIG.yaml --run-dir {self.path}{resume}`."
            )
        runs = sorted(str(best.parent) for best in self.path.glob(f"*/{self.best.name}"))
        raise InputError(
            f"Expected a run folder with {self.config.name} and {self.best.name} (`s2s generate` "
            f"takes an exported SavedModel too). Received: {self.path}, which "
            f"{'lacks them' if self.path.is_dir() else 'is not a folder'}. "
            + (f"There are runs in it: {', '.join(runs)}." if runs else "`s2s fit` makes one.")
            + _hint_of_models(self.path)
        )

    def _without_last(self) -> InputError:
        return InputError(
            f"The folder {self.path} holds the best weights of a run ({self.best.name}), but no "
            f"state that training could resume from ({self.last.name}). They can be used as they "
            f"are: `s2s generate {self.path}`. To continue training from them, set `init_from` "
            f"in a config and {_ELSEWHERE}. To train from scratch, remove {self.best.name}."
        )

    def _without_config(self, checkpoint: Path) -> InputError:
        return InputError(
            f"The folder {self.path} holds {checkpoint.name} of a run, but its {self.config.name} "
            f"is missing, without which that cannot be used. Restore it from a copy, or "
            f"{_ELSEWHERE}."
        )

    def _not_of_a_run(self, path: Path) -> InputError:
        return InputError(
            f"{path} does not belong to a run and would be overwritten. Rename that file, or "
            f"{_ELSEWHERE}."
        )


def _hint_of_models(path: Path) -> str:
    """Returns a hint for users who may have meant a packaged model."""
    name = str(path)
    if name != path.name or not model_names():
        return ""
    if name in model_names():
        return f" It hides the packaged model {name}: work in another folder to use that."
    return f" Or name a packaged model. {suggest_model(name)}"


def _remove_if_possible(remove: Callable[[], None]) -> None:
    """Removes a file, or a folder if it is empty."""
    with suppress(OSError):
        remove()


def json_bytes(values: dict[str, Any]) -> bytes:
    """Returns what `save_json` writes."""
    return f"{json.dumps(seal(values), ensure_ascii=False, indent=2)}\n".encode()


def save_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file with its digest, whole or not at all."""
    write_bytes(path, json_bytes(values), f"The file {path.name}")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the values of a JSON file by name.

    Raises:
        RunError: If it is missing or damaged.
    """
    if reason := why_not_regular(path, bounds.MAX_RECORD_BYTES):
        raise RunError(f"{path} is damaged ({reason}). Restore it from a copy.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no names with values")
        return unseal(values)
    except (OSError, RecursionError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Restore it from a copy.") from error
