"""Signals that ask a process to end: Ctrl-C, SIGTERM and SIGHUP.

Schedulers, containers and `timeout` send SIGTERM; a lost terminal sends SIGHUP. Knows nothing of
the work that is interrupted.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)

# Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Like KeyboardInterrupt it is not an `Exception`: code that handles failures lets it pass.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)
        """The signal."""


class SignalCatcher:
    """Raises `Interrupted` at a signal; while signals are held, only at the second one."""

    def __init__(self, *, holds: bool) -> None:
        self.received: signal.Signals | None = None
        """The last signal; None if there was none."""
        self._holds = holds

    @contextmanager
    def released(self) -> Iterator[None]:
        """Raises `Interrupted` for a held signal, and in the body for any other.

        Raises:
            Interrupted: At a signal.
        """
        if self.received is not None:
            raise Interrupted(self.received)
        self._holds = False
        try:
            yield
        finally:
            self._holds = True

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handles a signal."""
        is_first = self.received is None
        self.received = signal.Signals(number)
        if not (self._holds and is_first):
            raise Interrupted(number)
        logger.warning(
            "Interrupted by %s: saving after this step. A second signal ends at once.",
            self.received.name,
        )


@contextmanager
def catch_signals(*, holds: bool = False) -> Iterator[SignalCatcher]:
    """Catches the signals in the body; afterwards they have their previous handlers.

    An ignored signal stays ignored, such as SIGHUP under `nohup`. Only the main thread can catch
    signals; in other threads nothing changes.

    Args:
        holds: Record the first signal instead of raising.
    """
    catcher = SignalCatcher(holds=holds)
    previous = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: not set from Python
                    previous[number] = signal.signal(number, catcher.handle)
        yield catcher
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_interruptibly(function: Callable[[], _Result]) -> _Result:
    """Returns the result of a function that runs outside of Python for long, such as C++ code.

    Python handles signals only when its main thread runs Python code. Here that thread waits, while
    another one calls the function, whose result is lost after a signal.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # It is raised where the result is asked for.
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], timeout=1).done:  # Windows handles signals only between two waits.
        pass
    return future.result()
