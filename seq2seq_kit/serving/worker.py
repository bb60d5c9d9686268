"""The thread of a model: takes requests from a bounded queue and answers them in batches.

TensorFlow runs in this thread alone. Requests with the same options are answered together, which
changes no answer: a line's output does not depend on its neighbors. Between two batches, each
stream that is open gets its next piece. Knows nothing of HTTP.
"""

import contextlib
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
from seq2seq_kit.serving.models import SearchOptions, ServedModel

logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """There is no room in the queue: the caller should try again later."""


class ModelFailedError(Exception):
    """A model failed for a reason that is not the request's; the log says which."""


@dataclass(eq=False)
class Job:
    """Texts of one request that wait for their hypotheses."""

    texts: Sequence[str]
    """The inputs."""
    options: SearchOptions
    """The options of the search."""
    prefixes: Sequence[str] = ()
    """A forced beginning for each output; nothing where none is forced."""
    answer: "Future[list[list[Hypothesis]]]" = field(default_factory=Future)
    """The hypotheses of each text, or the error. Cancelling it takes the job out of the queue."""
    arrived: float = field(default_factory=time.monotonic)
    """When it came, in seconds of `time.monotonic`."""

    def matches(self, other: "Job") -> bool:
        """Whether both can be answered by one search."""
        return self.options == other.options and bool(self.prefixes) == bool(other.prefixes)


@dataclass(eq=False)
class Stream:
    """An output that is sent piece by piece."""

    text: str
    """The input."""
    options: SearchOptions
    """The options of the search."""
    send: Callable[[str | Exception | None], None]
    """Is called with each piece, and at last with None or the error; in the model's thread."""
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
    """A model with its thread and its queue.

    Args:
        name: The name of the model, for the log.
        model: The model.
        queue_size: Lines that may wait, streams included; each stream counts as a line.
        max_wait: Seconds that a request waits for others to share its batch.
        on_batch: Is called with the number of lines of each batch; in the model's thread.
    """

    def __init__(
        self,
        name: str,
        model: ServedModel,
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
        self._jobs: deque[Job] = deque()
        self._calls: deque[Call] = deque()
        self._streams: list[Stream] = []
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"model {name}", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it answers requests."""
        return self._thread.is_alive() and not self._is_closing

    @property
    def waiting(self) -> int:
        """The lines that wait, and the streams that are open."""
        with self._changed:
            return self._waiting()

    def _waiting(self) -> int:
        lines = sum(len(job.texts) for job in self._jobs)
        return lines + len(self._calls) + len(self._streams)

    def submit(self, job: Job) -> None:
        """Adds a job to the queue.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(len(job.texts))
            self._jobs.append(job)
            self._changed.notify()
        job.answer.add_done_callback(lambda _answer: self._forget(job))

    def open(self, stream: Stream) -> None:
        """Begins to stream an output.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(1)
            self._streams.append(stream)
            self._changed.notify()

    def run(self, call: Call) -> None:
        """Adds a call to the queue; it counts as a line.

        Raises:
            QueueFullError: If there is no room.
        """
        with self._changed:
            self._make_room(1)
            self._calls.append(call)
            self._changed.notify()

    def close(self) -> None:
        """Answers what waits, and ends the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _make_room(self, lines: int) -> None:
        if self._is_closing or self._waiting() + lines > self._queue_size:
            raise QueueFullError

    def _forget(self, job: Job) -> None:
        """Takes a job that was cancelled out of the queue."""
        with self._changed, contextlib.suppress(ValueError):
            self._jobs.remove(job)

    def _run(self) -> None:
        self._warm_up()
        while (jobs := self._next()) is not None:
            self._answer(jobs)
            self._run_call()
            self._advance_streams()

    def _warm_up(self) -> None:
        """Traces the graph of the default options, so that the first request is answered soon."""
        try:
            self.model.hypotheses([""], (), self.model.options({}))
        except Exception:
            logger.exception("The model %s failed on an empty text.", self.name)

    def _next(self) -> list[Job] | None:
        """Waits for work; returns jobs for one batch, or None when there will be no more."""
        with self._changed:
            while not (self._jobs or self._calls or self._streams or self._is_closing):
                self._changed.wait()
            if not (self._calls or self._streams):
                self._wait_for_more()
            if not self._jobs:
                is_idle = not (self._calls or self._streams)
                return None if self._is_closing and is_idle else []
            return self._take()

    def _wait_for_more(self) -> None:
        """Waits until a batch is full, or its oldest job has waited long enough."""
        while self._jobs and not self._is_closing:
            oldest = self._jobs[0]
            rest = oldest.arrived + self._max_wait - time.monotonic()
            if rest <= 0 or self._waiting() >= self.model.batch_lines(oldest.options):
                return
            self._changed.wait(rest)

    def _take(self) -> list[Job]:
        """Returns the oldest job and those that fit into a batch with it."""
        oldest = self._jobs[0]
        room = self.model.batch_lines(oldest.options)
        taken: list[Job] = []
        for job in list(self._jobs):
            if job is oldest or (len(job.texts) <= room and job.matches(oldest)):
                self._jobs.remove(job)
                room -= len(job.texts)
                # False for one that was cancelled a moment ago.
                if job.answer.set_running_or_notify_cancel():
                    taken.append(job)
        return taken

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Answers jobs that match; a bad one costs its neighbors nothing."""
        good = []
        for job in jobs:
            try:
                self.model.check(job.texts, job.options)
                good.append(job)
            except Exception as error:
                self._fail(job, error)
        self._search(good)

    def _search(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        texts = [text for job in jobs for text in job.texts]
        prefixes = [prefix for job in jobs for prefix in job.prefixes]
        try:
            found = iter(self.model.hypotheses(texts, prefixes, jobs[0].options))
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs[0], error)
                return
            # One of them is at fault, such as an over-long input of an export.
            self._search(jobs[: len(jobs) // 2])
            self._search(jobs[len(jobs) // 2 :])
            return
        self._on_batch(len(texts))
        for job in jobs:
            job.answer.set_result([next(found) for _ in job.texts])

    def _run_call(self) -> None:
        """Answers the oldest call, if there is one."""
        with self._changed:
            call = self._calls.popleft() if self._calls else None
        if call is None or not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(call.work(self.model))
        except Exception as error:
            self._fail(call, error)

    def _fail(self, job: Job | Call, error: Exception) -> None:
        job.answer.set_exception(self._told(error))

    def _told(self, error: Exception) -> Exception:
        """Returns the error that the request gets; logs one that is no fault of the request."""
        if isinstance(error, InputError):
            return error
        logger.error("The model %s failed.", self.name, exc_info=error)
        return ModelFailedError()

    def _advance_streams(self) -> None:
        """Sends the next piece of each stream."""
        with self._changed:
            streams = list(self._streams)
        for stream in streams:
            if not (stream.is_cancelled or self._has_ended(stream)):
                continue
            stream.pieces = None
            with self._changed:
                self._streams.remove(stream)

    def _has_ended(self, stream: Stream) -> bool:
        try:
            if stream.pieces is None:
                stream.pieces = self.model.stream(stream.text, stream.options)
            piece = next(stream.pieces, None)
        except Exception as error:
            stream.send(self._told(error))
            return True
        stream.send(piece)
        return piece is None
