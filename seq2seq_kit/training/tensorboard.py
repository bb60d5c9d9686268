"""The history of a run as an event file for TensorBoard."""

import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seq2seq_kit.atomic import explain_write_errors
from seq2seq_kit.training.history import History
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import Record
from seq2seq_kit.training.run_folder import RunFolder


class TensorBoardEvents(TrainingPart):
    """Writes each record of the history to one event file, which all resumptions share.

    Args:
        run: The run folder.
        history: The history of the same training, listed before this part.
    """

    def __init__(self, run: RunFolder, history: History) -> None:
        self._run = run
        self._history = history

    def after_validation(self, state: TrainingState, record: Record, counts: bool) -> None:
        self._append(record, time.time())

    def after_resume(self, state: TrainingState) -> None:
        remove_events(self._run)
        # The history has no dates, only the seconds of training until each validation.
        began = time.time() - state.seconds
        for record in self._history.records:
            self._append(record, began + record["seconds"])

    def _append(self, record: Record, wall_time: float) -> None:
        """Adds a record to the event file, where a TensorBoard that has it open finds it.

        TensorFlow's own writer would open another file, named after the machine, in each process.
        """
        run = self._run
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


def remove_events(run: RunFolder) -> None:
    """Removes our event file, but not those of callbacks, which write into other folders."""
    for path in run.logs.glob("events.out.tfevents.*"):
        path.unlink()
