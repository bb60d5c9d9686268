"""Processes that search: each loads all models and answers one call at a time over a pipe.

A process that ends is started again; the call that it was working on raises `ProcessLostError`.
Knows nothing of HTTP, and nothing of TensorFlow, which the function that loads the models imports.
"""

import contextlib
import itertools
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from seq2seq_kit.errors import InputError
from seq2seq_kit.startup import show_log

if TYPE_CHECKING:
    from seq2seq_kit.inference.generator import Hypothesis
    from seq2seq_kit.serving.models import Searcher
    from seq2seq_kit.serving.options import SearchOptions

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0
"""Seconds before a process that cannot load its models is started again."""


class ProcessLostError(Exception):
    """The process that was working on a request has ended."""

    def __init__(self) -> None:
        super().__init__("The process that worked on this request has ended. Send it again.")


class SearchProcess:
    """A process with models of its own, which is started again whenever it ends.

    Args:
        number: Its number, for the log and the metrics.
        load: Returns the models by name, in the new process; must be picklable.
    """

    def __init__(self, number: int, load: "Callable[[], Mapping[str, Searcher]]") -> None:
        self.number = number
        self.num_restarts = 0
        """How often it was started again."""
        self._load = load
        self._one_call = threading.Lock()
        self._changing = threading.Lock()
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self._process: Any = None
        self._supervisor = threading.Thread(
            target=self._supervise, name=f"process {number}", daemon=True
        )
        self._supervisor.start()

    @property
    def pid(self) -> int | None:
        """The id of the process that runs now."""
        return self._process.pid if self._process is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded its models and runs."""
        return self._ready.is_set() and not self._closing.is_set()

    def wait_until_ready(self) -> None:
        """Returns when it has loaded its models, or is closed."""
        self._ready.wait()

    def call(self, method: str, *arguments: Any) -> Any:
        """Returns what a method of `_Answering` returns in the process, once it is ready.

        Raises:
            ProcessLostError: If the process ends meanwhile.
            Exception: What the method raises.
        """
        with self._one_call:
            self._ready.wait()
            connection = self._connection
            if connection is None or self._closing.is_set():
                raise ProcessLostError
            try:
                connection.send((method, arguments))
                value, error = connection.recv()
            except (EOFError, OSError) as lost:
                self._lose(connection)
                raise ProcessLostError from lost
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Ends the process after the call that it is working on."""
        self._closing.set()
        self._ready.set()  # Nobody shall wait for it.
        with self._one_call, self._changing:
            if self._connection is not None:
                self._connection.close()
            elif self._process is not None:
                self._process.kill()  # It is loading its models.
        self._supervisor.join()

    def _supervise(self) -> None:
        """Starts the process, and again whenever it has ended."""
        pause = 1.0
        while not self._closing.is_set():
            was_ready = self._run_once()
            if self._closing.is_set():
                return
            code = self._process.exitcode
            logger.error("Process %d ended (exit code %s); it is started again.", self.number, code)
            self.num_restarts += 1
            pause = 1.0 if was_ready else min(2 * pause, _LONGEST_PAUSE)
            if not was_ready:
                self._closing.wait(pause)

    def _run_once(self) -> bool:
        """Runs a process until it ends; returns whether it had loaded its models."""
        # A fork would copy TensorFlow without its threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._load)
        self._process = context.Process(
            target=_work, args=arguments, name=f"search {self.number}", daemon=True
        )
        self._process.start()
        theirs.close()
        is_loaded = False
        with contextlib.suppress(EOFError, OSError):
            ours.recv()
            is_loaded = True
            self._take(ours)
        self._process.join()
        self._lose(ours)
        return is_loaded

    def _take(self, connection: Connection) -> None:
        """Makes a process that has loaded its models the one that is called."""
        with self._changing:
            if self._closing.is_set():
                connection.close()  # This ends it.
                return
            self._connection = connection
            self._ready.set()

    def _lose(self, connection: Connection) -> None:
        """Notes that a process has ended; both of those who notice it say so."""
        with self._changing:
            if self._connection is connection:
                self._connection = None
                if not self._closing.is_set():
                    self._ready.clear()


class RemoteModel:
    """A model in a `SearchProcess`, as a `Searcher`.

    Args:
        process: The process.
        name: The name of the model.
    """

    def __init__(self, process: SearchProcess, name: str) -> None:
        self._process = process
        self._name = name
        self._numbers = itertools.count()

    @property
    def is_ready(self) -> bool:
        """Implements `Searcher.is_ready`."""
        return self._process.is_ready

    def wait_until_ready(self) -> None:
        """Implements `Searcher.wait_until_ready`."""
        self._process.wait_until_ready()

    def hypotheses(
        self,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: "SearchOptions",
        *,
        first_line: int = 1,
    ) -> "list[list[Hypothesis]]":
        """Implements `Searcher.hypotheses`."""
        arguments = (self._name, texts, prefixes, options, first_line)
        found: list[list[Hypothesis]] = self._process.call("hypotheses", *arguments)
        return found

    def stream(self, text: str, options: "SearchOptions", prefix: str = "") -> Iterator[str]:
        """Implements `Searcher.stream`."""
        key = (self._name, next(self._numbers))
        self._process.call("open", key, text, options, prefix)
        try:
            while (piece := self._process.call("next", key)) is not None:
                yield piece
        finally:
            with contextlib.suppress(ProcessLostError):
                self._process.call("close", key)


class _Answering:
    """What a process does; each method is a call.

    Args:
        models: The models by name.
    """

    def __init__(self, models: "Mapping[str, Searcher]") -> None:
        self._models = models
        self._streams: dict[tuple[str, int], Iterator[str]] = {}

    def hypotheses(
        self,
        name: str,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: "SearchOptions",
        first_line: int,
    ) -> "list[list[Hypothesis]]":
        model = self._models[name]
        return model.hypotheses(texts, prefixes, options, first_line=first_line)

    def open(self, key: tuple[str, int], text: str, options: "SearchOptions", prefix: str) -> None:
        self._streams[key] = self._models[key[0]].stream(text, options, prefix)

    def next(self, key: tuple[str, int]) -> str | None:
        if key not in self._streams:  # It was opened in a process that has ended.
            raise ProcessLostError
        return next(self._streams[key], None)

    def close(self, key: tuple[str, int]) -> None:
        self._streams.pop(key, None)


def _work(connection: Connection, load: "Callable[[], Mapping[str, Searcher]]") -> None:
    """Answers calls until the other end of the pipe is closed; runs in the new process."""
    # Signals that stop the server reach the whole group. It ends its processes itself, and when it
    # is killed, the pipe ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    show_log()
    answering = _Answering(load())
    with contextlib.suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            method, arguments = connection.recv()
            connection.send(_answer(getattr(answering, method), arguments))


def _answer(method: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Returns what a method returns, and the error that it raises."""
    try:
        return method(*arguments), None
    except (InputError, ProcessLostError) as error:
        return None, error
    except Exception as error:
        # Its parts may be of a class that cannot be sent.
        logger.exception("A call failed.")
        return None, RuntimeError(repr(error))
