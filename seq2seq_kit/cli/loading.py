"""From the RUN of a command to the model that it names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seq2seq_kit.export.saved_model import ExportedModel
    from seq2seq_kit.seq2seq import Seq2Seq


def load_runs(runs: Sequence[Path]) -> "Seq2Seq":
    """Returns the model of a run, or the ensemble of several; errors as in `Seq2Seq.load`."""
    from seq2seq_kit import Seq2Seq

    return Seq2Seq.load(runs[0] if len(runs) == 1 else runs)


def load_run_or_export(run: Path) -> "Seq2Seq | ExportedModel":
    """Returns the model of a run folder, a packaged model, or an export.

    Raises:
        InputError: If there is no such model.
        RunError: If a file of it is damaged.
    """
    from seq2seq_kit.export.folder import is_export

    if not is_export(run):
        return load_runs([run])
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.export.saved_model import ExportedModel

    return ExportedModel(run)
