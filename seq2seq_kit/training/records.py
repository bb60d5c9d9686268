"""The records of a run's validations, as its file `metrics.jsonl` has them; read without Keras."""

import json
import logging
from collections.abc import Mapping

from seq2seq_kit import bounds
from seq2seq_kit.digests import unseal
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)

Record = dict[str, float]


def validation_results(record: Mapping[str, float]) -> Record:
    """Returns the results of validation in a record: `val_loss` and so on."""
    return {name: value for name, value in record.items() if name.startswith("val_")}


def read_metrics(run: RunFolder) -> list[Record]:
    """Returns the history of a run: one record for each validation, oldest first.

    A damaged line is skipped with a warning: nothing is computed from the history.
    """
    if not run.metrics.is_file():
        return []
    if reason := why_not_regular(run.metrics, bounds.MAX_RECORD_BYTES):
        _logger.warning("%s is damaged and left out (%s).", run.metrics, reason)
        return []
    records = []
    for number, line in enumerate(run.metrics.read_bytes().splitlines(), start=1):
        try:
            record = unseal(dict(json.loads(line)))
            float(record["step"])
            records.append(record)
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            _logger.warning(
                "%s, line %d is damaged and left out: expected the JSON of a validation (%s).",
                run.metrics,
                number,
                error,
            )
    return records
