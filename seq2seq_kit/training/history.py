"""The history of a run, a record a validation: in `metrics.jsonl`, and in a file for TensorBoard.

Both are written from records that the newest checkpoint holds too, so that neither can be lost.
"""

import json
import logging
import time
from collections.abc import Sequence

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seq2seq_kit.atomic import explain_write_errors, write_bytes
from seq2seq_kit.digests import seal, unseal
from seq2seq_kit.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)

Record = dict[str, float]


def write_history(run: RunFolder, records: Sequence[Record], *, tensorboard: bool) -> None:
    """Writes the whole history of a run that is resumed.

    Raises:
        RunError: If it cannot be written.
    """
    _write_metrics(run, records)
    if not tensorboard:
        return
    remove_events(run)
    # When a validation was is not kept, only the time of training until then.
    began = time.time() - (records[-1]["seconds"] if records else 0.0)
    for record in records:
        _append_event(run, record, began + record["seconds"])


def add_to_history(run: RunFolder, records: Sequence[Record], *, tensorboard: bool) -> None:
    """Writes the newest record, the last one of all.

    Raises:
        RunError: If it cannot be written.
    """
    _write_metrics(run, records)
    if tensorboard:
        _append_event(run, records[-1], time.time())


def read_metrics(run: RunFolder) -> list[Record]:
    """Returns the history of a run: one record a validation, oldest first.

    A damaged line is left out with a warning: nothing is computed from the history.
    """
    if not run.metrics.is_file():
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


def remove_events(run: RunFolder) -> None:
    """Removes TensorBoard's files, but not those of callbacks, which have folders of their own."""
    for path in run.logs.glob("events.out.tfevents.*"):
        path.unlink()


def _write_metrics(run: RunFolder, records: Sequence[Record]) -> None:
    lines = "".join(json.dumps(seal(record)) + "\n" for record in records)
    write_bytes(run.metrics, lines.encode(), "The history", setting="--run-dir")


def _append_event(run: RunFolder, record: Record, wall_time: float) -> None:
    """Adds a record to TensorBoard's file, where TensorBoard that has it open finds it.

    TensorFlow's own writer would open another file, with the machine's name, in each process.
    """
    values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
    event = Event(wall_time=wall_time, step=int(record["step"]), summary=Summary(value=values))
    with explain_write_errors(run.events, "TensorBoard's file", "--run-dir"):
        run.logs.mkdir(exist_ok=True)
        is_new = not run.events.exists()
        writer = RecordWriter(run.events.open("ab"))
        try:
            if is_new:
                first = Event(wall_time=wall_time, file_version="brain.Event:2")
                writer.write(first.SerializeToString())
            writer.write(event.SerializeToString())
        finally:
            writer.close()
