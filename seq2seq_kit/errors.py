"""The errors a user can meet, one class a kind of answer. Knows nothing of the rest."""

import signal
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
    """Training stopped on Ctrl-C, SIGTERM or SIGHUP. Exit code 130, 143 or 129."""

    def __init__(
        self, run_dir: Path, number: int = signal.SIGINT, *, can_resume: bool = True
    ) -> None:
        self.run_dir = run_dir
        """The folder of the run."""
        self.signal = signal.Signals(number)
        """What interrupted it."""
        self.can_resume = can_resume
        """Whether a state was saved: if not, the run starts again from nothing."""
        name = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        saved = f"; its state is saved in {run_dir}." if can_resume else " before its first step."
        super().__init__(f"Training was interrupted by {name}{saved}")
