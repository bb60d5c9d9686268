"""The names of the files in a run folder, and how its JSON is read and written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.files import why_not_regular


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: all that `generate` needs and all that training leaves."""

    path: Path
    """The folder itself."""

    @property
    def config(self) -> Path:
        """The resolved config, YAML."""
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """The SHA-256 of each file that is learnt from, JSON; what is resumed must match it."""
        return self.path / "data.json"

    def tokenizer(self, side: str) -> Path:
        """The SentencePiece model of a side: "shared", "source" or "target"."""
        return self.path / f"{side}.model"

    @property
    def shortlist(self) -> Path:
        """What the tokens of an input are likely to come out as; translation only."""
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
        """One JSON object a validation."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The final table of results, JSON."""
        return self.path / "results.json"

    @property
    def logs(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "logs"

    def open_trained(self) -> "RunFolder":
        """Returns itself if it holds a trained run.

        Raises:
            InputError: If it does not.
        """
        if self.config.is_file() and self.best.is_file():
            return self
        if (self.path / "saved_model.pb").is_file():
            raise InputError(
                f"Expected a run folder. Received: {self.path}, which is an exported SavedModel: "
                f"that can be asked with `s2s generate` only. Give the run it was exported from."
            )
        if self.config.is_file() and self.last.is_file():
            raise InputError(
                f"The run in {self.path} was interrupted before its first validation and has no "
                f"best weights yet. Go on with it: `s2s fit CONFIG.yaml --run-dir {self.path} "
                f"--resume`."
            )
        runs = sorted(str(best.parent) for best in self.path.glob(f"*/{self.best.name}"))
        raise InputError(
            f"Expected a run folder with {self.config.name} and {self.best.name} (`s2s generate` "
            f"takes an exported SavedModel too). Received: {self.path}, which "
            f"{'lacks them' if self.path.is_dir() else 'is no folder'}. "
            + (f"There are runs in it: {', '.join(runs)}." if runs else "`s2s fit` makes one.")
        )


def save_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    write_bytes(path, text.encode(), f"The file {path.name}")


def read_json(path: Path) -> dict[str, Any]:
    """Returns what a JSON file of names and values holds.

    Raises:
        RunError: If it is missing or damaged.
    """
    if reason := why_not_regular(path):
        raise RunError(f"{path} is damaged ({reason}). Restore it from a copy.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no names with values")
        return values
    except (OSError, RecursionError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Restore it from a copy.") from error
