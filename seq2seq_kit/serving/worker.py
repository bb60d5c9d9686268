"""The threads of a model: they take lines from a bounded queue and search them in batches.

Each thread has a searcher: the model itself, or a process that has loaded it too. Lines of
several requests are searched together, which changes no answer: a line's output does not depend on
its neighbors. Between two batches, each stream that is open gets its next piece. Knows nothing of
HTTP.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.batching import Job, Line, LineQueue
from seq2seq_kit.serving.models import Searcher, ServedModel
from seq2seq_kit.serving.options import SearchOptions
from seq2seq_kit.serving.process import ProcessLostError

logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """There is no room in the queue: the caller should try again later."""


class ModelFailedError(Exception):
    """A model failed for a reason that is not the request's; the log says which."""


@dataclass(eq=False)
class Stream:
    """An output that is sent piece by piece."""

    text: str
    """The input."""
    options: SearchOptions
    """The options of the search."""
    send: Callable[[str | Exception | None], None]
    """Is called with each piece, and at last with None or the error; in the model's thread."""
    prefix: str = ""
    """A forced beginning of the output; "" for none."""
    is_cancelled: bool = False
    """Set this when nobody listens any more."""
    pieces: Iterator[str] | None = None
    """The pieces that are left; None before the first."""


@dataclass(eq=False)
class Call:
    """Any other work with the model, which shares its thread and its queue."""

    work: Callable[[ServedModel], Any]
    """Is called with the model, in its thread."""
    answer: "Future[Any]" = field(default_factory=Future)
    """What it returned, or the error. A cancelled call is skipped when its turn comes."""


class Worker:
    """A model with its queue and a thread for each searcher.

    Args:
        name: The name of the model, for the log.
        model: The model, for options, lengths and calls.
        searchers: What searches; nothing for the model itself. The model may be among them several
            times: its graphs can be called by several threads.
        queue_size: Lines that may wait, streams included; each stream counts as a line.
        max_wait: Seconds that a request waits for others to share its batch.
        on_batch: Is called with the number of lines of each batch; in the thread of a searcher.
    """

    def __init__(
        self,
        name: str,
        model: ServedModel,
        searchers: Sequence[Searcher] = (),
        *,
        queue_size: int,
        max_wait: float,
        on_batch: Callable[[int], None] = lambda _lines: None,
    ) -> None:
        self.name = name
        self.model = model
        self._queue_size = queue_size
        self._max_wait = max_wait
        self._on_batch = on_batch
        self._lines = LineQueue(model.batch_lines)
        self._is_closing = False
        self._changed = threading.Condition()
        self._threads: list[_SearchThread] = []
        for searcher in searchers or [model]:
            is_new = all(thread.searcher is not searcher for thread in self._threads)
            thread = _SearchThread(self, searcher, f"model {name}", warms_up=is_new)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it answers requests."""
        return any(thread.can_search for thread in self._threads) and not self._is_closing

    @property
    def waiting(self) -> int:
        """The lines that wait, the calls, and the streams that are open."""
        with self._changed:
            return self._waiting()

    def _waiting(self) -> int:
        return len(self._lines) + sum(
            len(thread.streams) + len(thread.calls) for thread in self._threads
        )

    def submit(self, job: Job) -> None:
        """Adds a job to the queue; one with a bad input gets its error at once.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(len(job.texts))
        try:
            lengths = self.model.lengths(job.texts, job.options)
        except Exception as error:
            self.fail(job, error)
            return
        with self._changed:
            self._make_room(len(job.texts))
            self._lines.add(job, lengths)
            self._changed.notify_all()
        job.answer.add_done_callback(lambda _answer: self._forget(job))

    def open(self, stream: Stream) -> None:
        """Begins to stream an output.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(1)
            thread = min(self._threads, key=lambda thread: len(thread.streams))
            thread.streams.append(stream)
            self._changed.notify_all()

    def run(self, call: Call) -> None:
        """Adds a call to the queue; it counts as a line.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(1)
            self._threads[0].calls.append(call)  # Always there: nothing else uses the model.
            self._changed.notify_all()

    def close(self) -> None:
        """Answers what waits, and ends the threads."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def next_lines(self, thread: "_SearchThread") -> list[Line] | None:
        """Waits for work; returns the lines of a batch, or None when there will be no more."""
        with self._changed:
            while not (self._lines or thread.is_busy or self._is_closing):
                self._changed.wait()
            while self._lines and not (thread.is_busy or self._is_closing):
                rest = self._lines.arrived + self._max_wait - time.monotonic()
                if rest <= 0 or self._lines.has_full_batch:
                    break
                self._changed.wait(rest)
            if self._lines:
                return self._lines.take()
            return None if self._is_closing and not thread.is_busy else []

    def answer(self, lines: Sequence[Line], found: Sequence[list[Hypothesis]]) -> None:
        """Takes what was found for lines; answers the jobs of which these were the last."""
        self._on_batch(len(lines))
        for line, hypotheses in zip(lines, found, strict=True):
            job = line.job
            with self._changed:
                job.found[line.place] = hypotheses
                is_last = len(job.found) == len(job.texts)
            # False for one that was cancelled.
            if is_last and not job.answer.done() and job.answer.set_running_or_notify_cancel():
                job.answer.set_result([job.found[place] for place in range(len(job.texts))])

    def fail(self, job: Job, error: Exception) -> None:
        """Answers a job with an error, unless it has an answer."""
        with self._changed:
            if not job.answer.done() and job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(self.told(error))

    def told(self, error: Exception) -> Exception:
        """Returns the error that the request gets; logs one that is no fault of the request."""
        if isinstance(error, InputError | ProcessLostError):
            return error
        logger.error("The model %s failed.", self.name, exc_info=error)
        return ModelFailedError()

    def _make_room(self, lines: int) -> None:
        if self._is_closing or self._waiting() + lines > self._queue_size:
            raise QueueFullError

    def _forget(self, job: Job) -> None:
        """Takes what is left of a job that was cancelled or has failed out of the queue."""
        with self._changed:
            self._lines.remove(job)


class _SearchThread(threading.Thread):
    """Searches the lines of a worker's queue, and does its own work between batches.

    Args:
        worker: The worker.
        searcher: What searches.
        name: The name of the thread.
        warms_up: Whether to trace the graph of the default options before there is work.
    """

    def __init__(self, worker: Worker, searcher: Searcher, name: str, *, warms_up: bool) -> None:
        super().__init__(name=name, daemon=True)
        self.searcher = searcher
        self.streams: list[Stream] = []
        self.calls: deque[Call] = deque()
        self._worker = worker
        self._warms_up = warms_up

    @property
    def can_search(self) -> bool:
        """Whether it is there and its searcher, too."""
        return self.is_alive() and self.searcher.is_ready

    @property
    def is_busy(self) -> bool:
        """Whether it has work of its own."""
        return bool(self.streams or self.calls)

    def run(self) -> None:
        """Works until the worker is closed and all is answered."""
        if self._warms_up:
            self._warm_up()
        while (lines := self._worker.next_lines(self)) is not None:
            self._search(lines)
            self._run_call()
            self._advance_streams()
            self.searcher.wait_until_ready()

    def _warm_up(self) -> None:
        """Searches for nothing with the default options, which traces their graph."""
        try:
            self.searcher.wait_until_ready()
            self.searcher.hypotheses([""], (), self._worker.model.options({}))
        except Exception:
            logger.exception("The model %s failed on an empty text.", self._worker.name)

    def _search(self, lines: Sequence[Line]) -> None:
        """Searches lines together; a bad one costs its neighbors nothing."""
        lines = [line for line in lines if not line.job.answer.done()]
        if not lines:
            return
        first = lines[0]
        try:
            found = self.searcher.hypotheses(
                [line.text for line in lines],
                [line.prefix for line in lines] if first.job.prefixes else (),
                first.job.options,
                # Of a single line, messages give its number in the request.
                first_line=first.place + 1,
            )
        except Exception as error:
            if len(lines) == 1 or isinstance(error, ProcessLostError):
                for line in lines:
                    self._worker.fail(line.job, error)
                return
            # One of them is at fault, such as an over-long input of an export.
            self._search(lines[: len(lines) // 2])
            self._search(lines[len(lines) // 2 :])
            return
        self._worker.answer(lines, found)

    def _run_call(self) -> None:
        """Answers the oldest call, if there is one."""
        if not self.calls:
            return
        call = self.calls.popleft()
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(call.work(self._worker.model))
        except Exception as error:
            call.answer.set_exception(self._worker.told(error))

    def _advance_streams(self) -> None:
        """Sends the next piece of each stream."""
        for stream in list(self.streams):
            if stream.is_cancelled or self._has_ended(stream):
                stream.pieces = None
                self.streams.remove(stream)

    def _has_ended(self, stream: Stream) -> bool:
        try:
            if stream.pieces is None:
                stream.pieces = self.searcher.stream(stream.text, stream.options, stream.prefix)
            piece = next(stream.pieces, None)
        except Exception as error:
            stream.send(self._worker.told(error))
            return True
        stream.send(piece)
        return piece is None
