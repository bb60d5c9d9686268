"""The history of a run, one record for each validation, and its file `metrics.jsonl`.

The newest checkpoint holds the records too, so that the file can be written again from it.
"""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.digests import seal
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import Record, read_metrics
from seq2seq_kit.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)


class History(TrainingPart):
    """Keeps a record for each validation, logs it and writes it to `metrics.jsonl`.

    Args:
        run: The run folder.
        writes: Whether this process writes the run folder.
    """

    def __init__(self, run: RunFolder, *, writes: bool) -> None:
        self.records: list[Record] = []
        """All records, oldest first."""
        self._run = run
        self._writes = writes
        self._steps_per_epoch: int | None = None

    def begin(self, state: TrainingState, num_steps: int) -> None:
        self._steps_per_epoch = num_steps

    def begin_epoch(self, state: TrainingState, epoch: int, num_steps: int) -> None:
        self._steps_per_epoch = num_steps

    def after_validation(self, state: TrainingState, record: Record, counts: bool) -> None:
        self.records.append(record)
        scores = "".join(
            f", {name} {record[f'val_{name}']:.1f}"
            for name in ("bleu", "chrf")
            if f"val_{name}" in record
        )
        # In the records, an epoch counts when it begins; people read how many are completed.
        epochs = state.epoch + state.batch / (self._steps_per_epoch or math.inf)
        _logger.info(
            "step %d (epoch %.1f): loss %.3f, validation loss %.3f, perplexity %.4g%s, "
            "%.0f tokens/s, learning rate %.2g",
            record["step"],
            epochs,
            *(record[key] for key in ("loss", "val_loss", "val_perplexity")),
            scores,
            record["tokens_per_second"],
            record["learning_rate"],
        )
        self._write()

    def state(self) -> dict[str, Any]:
        return {"history": self.records}

    def restore(self, saved: Mapping[str, Any]) -> None:
        # Older versions kept the history in metrics.jsonl alone.
        self.records = list(saved["history"] or read_metrics(self._run))

    def after_resume(self, state: TrainingState) -> None:
        # A validation after the newest checkpoint is made, and recorded, again.
        self.records = [record for record in self.records if record["step"] <= state.step]
        self._write()

    def _write(self) -> None:
        if self._writes:
            lines = "".join(json.dumps(seal(record)) + "\n" for record in self.records)
            write_bytes(self._run.metrics, lines.encode(), "The history", setting="--run-dir")
