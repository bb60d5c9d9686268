"""Signals sent to this process itself."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from seq2seq_kit.interruption import Interrupted, catch_signals, run_interruptibly

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
SIGNALS = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_through_code_that_handles_failures(number: int) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, catch_signals():
        try:
            send(number)
        except Exception:
            pytest.fail("no failure")
    assert isinstance(caught.value, Interrupted)
    assert caught.value.signal == number


@pytest.mark.parametrize("number", SIGNALS)
def test_a_held_signal_is_noted_and_a_second_one_raised(number: int) -> None:
    with pytest.raises(Interrupted), catch_signals(holds=True) as catcher:
        send(number)
        assert catcher.received == number
        send(signal.SIGTERM)
        pytest.fail("the second signal was not raised")


def test_a_held_signal_is_raised_where_it_may_be() -> None:
    with catch_signals(holds=True) as catcher:
        with catcher.released():
            pass
        send(signal.SIGTERM)
        with pytest.raises(Interrupted), catcher.released():
            pytest.fail("the body was begun")
    with catch_signals(holds=True) as catcher:
        with pytest.raises(Interrupted), catcher.released():
            send(signal.SIGTERM)
        assert catcher.received == signal.SIGTERM


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_catches_nothing_and_has_no_fault() -> None:
    results = []

    def work() -> None:
        with catch_signals():
            results.append(run_interruptibly(lambda: "done"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == ["done"]


def test_a_function_in_a_thread_gives_its_result_or_raises_its_error() -> None:
    assert run_interruptibly(lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0)


def test_a_signal_does_not_wait_for_a_long_call() -> None:
    threading.Timer(0.1, send, [signal.SIGTERM]).start()
    began = threading.Event()

    def work() -> None:
        began.set()
        forever.wait()

    forever = threading.Event()
    with pytest.raises(Interrupted), catch_signals():
        run_interruptibly(work)
    assert began.is_set()
    forever.set()
