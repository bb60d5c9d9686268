"""The errors a user can meet, one class a kind of answer. Knows nothing of the rest."""

from pathlib import Path


class InputError(ValueError):
    """What the caller passed is wrong: an option, a file, a text. The command line exits with 2."""


class ConfigError(InputError):
    """A config that cannot work; the message lists every fault found, each under its key."""


class DataError(InputError):
    """A text file that cannot be used as it is; the message names the file and the line."""


class RunError(RuntimeError):
    """The work itself failed: a damaged run folder, an export that differs. Exit code 1."""


class TrainingInterrupted(RunError):
    """Training stopped on Ctrl-C after saving; `run_dir` is the folder to resume. Exit code 130."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(f"Training was interrupted; its state is saved in {run_dir}.")
        self.run_dir = run_dir
