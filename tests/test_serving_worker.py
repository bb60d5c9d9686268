"""The thread of a model: its queue, its batches, its streams."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Backwards

from seq2seq_kit.errors import InputError
from seq2seq_kit.serving.batching import Job
from seq2seq_kit.serving.worker import Call, ModelFailedError, QueueFullError, Stream, Worker


@pytest.fixture
def model() -> Backwards:
    return Backwards()


@pytest.fixture
def worker(model: Backwards) -> Iterator[Worker]:
    worker = Worker("backwards", model, queue_size=10, max_wait=0.01)
    yield worker
    model.may_answer.set()
    worker.close()


def job(model: Backwards, *texts: str, num_hypotheses: int = 1, **given: Any) -> Job:
    prefixes = given.pop("prefixes", ())
    return Job(texts, model.options(given, num_hypotheses=num_hypotheses), prefixes)


def hold(worker: Worker, model: Backwards) -> Job:
    """Keeps the model busy with a job; returns it."""
    model.may_answer.clear()
    busy = job(model, "busy")
    worker.submit(busy)
    while worker.waiting:
        time.sleep(0.001)
    return busy


def best(job: Job) -> list[str]:
    return [line[0].text for line in job.answer.result(10)]


def test_waiting_jobs_with_the_same_options_share_a_batch(worker: Worker, model: Backwards) -> None:
    busy = hold(worker, model)
    jobs = [job(model, "ab", "cd"), job(model, "ef", beam_size=3), job(model, "gh")]
    for one in jobs:
        worker.submit(one)
    model.may_answer.set()
    assert [best(one) for one in (busy, *jobs)] == [["ysub"], ["ba", "dc"], ["fe"], ["hg"]]
    assert model.batches == [["busy"], ["ab", "cd", "gh"], ["ef"]]


def test_a_batch_has_no_more_lines_than_the_model_wants(worker: Worker, model: Backwards) -> None:
    hold(worker, model)
    jobs = [job(model, *texts, batch_size=3) for texts in ("ab", "cd", "e", "fghi")]
    for one in jobs:
        worker.submit(one)
    model.may_answer.set()
    assert [best(one) for one in jobs] == [["a", "b"], ["c", "d"], ["e"], ["f", "g", "h", "i"]]
    assert model.batches[1:] == [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]


def test_a_job_waits_for_others_for_a_while_only(model: Backwards) -> None:
    worker = Worker("backwards", model, queue_size=10, max_wait=0.3)
    first, second = job(model, "ab"), job(model, "cd")
    worker.submit(first)
    time.sleep(0.02)
    worker.submit(second)
    assert best(first) + best(second) == ["ba", "dc"]
    assert model.batches == [["ab", "cd"]]
    assert time.monotonic() - first.arrived >= 0.3
    worker.close()


def test_jobs_with_and_without_prefixes_are_not_mixed(worker: Worker, model: Backwards) -> None:
    hold(worker, model)
    jobs = [job(model, "ab"), job(model, "cd", prefixes=("x",)), job(model, "ef", "gh")]
    for one in jobs:
        worker.submit(one)
    model.may_answer.set()
    assert [best(one) for one in jobs] == [["ba"], ["xdc"], ["fe", "hg"]]


def test_a_bad_job_costs_its_neighbors_nothing(worker: Worker, model: Backwards) -> None:
    hold(worker, model)
    jobs = [job(model, *texts) for texts in (["ab"], ["c", "bad"], ["x" * 21], ["ef"])]
    for one in jobs:
        worker.submit(one)
    model.may_answer.set()
    assert best(jobs[0]) == ["ba"]
    assert best(jobs[3]) == ["fe"]
    with pytest.raises(InputError, match="Line 2 is bad"):
        best(jobs[1])
    with pytest.raises(InputError, match="Line 1 has 21 tokens"):
        best(jobs[2])


def test_a_failure_is_logged_and_the_next_job_is_answered(
    worker: Worker, model: Backwards, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = job(model, "broken"), job(model, "ab")
    worker.submit(broken)
    with pytest.raises(ModelFailedError):
        best(broken)
    assert "secret details" in caplog.text
    worker.submit(good)
    assert best(good) == ["ba"]


def test_a_full_queue_refuses_jobs_and_streams(worker: Worker, model: Backwards) -> None:
    hold(worker, model)
    worker.submit(job(model, *"abcdefgh"))
    with pytest.raises(QueueFullError):
        worker.submit(job(model, *"ijk"))
    worker.submit(job(model, *"ij"))
    with pytest.raises(QueueFullError):
        worker.open(Stream("x", model.options({}), print))


def test_a_cancelled_job_leaves_the_queue(worker: Worker, model: Backwards) -> None:
    busy = hold(worker, model)
    cancelled, other = job(model, *"abcdefghij"), job(model, *"klmnopqrst")
    worker.submit(cancelled)
    assert worker.waiting == 10
    assert cancelled.answer.cancel()
    assert worker.waiting == 0
    worker.submit(other)
    model.may_answer.set()
    best(busy)
    best(other)
    assert model.batches == [["busy"], list("klmnopqrst")]


def test_streams_advance_between_batches(worker: Worker, model: Backwards) -> None:
    pieces: queue.Queue[Any] = queue.Queue()
    hold(worker, model)
    for name in "ab":
        worker.open(Stream(f"{name}12", model.options({}), lambda p, n=name: pieces.put((n, p))))
    worker.submit(waiting := job(model, "xy"))
    model.may_answer.set()
    sent = [pieces.get(timeout=10) for _ in range(8)]
    assert sent[:4] == [("a", "2"), ("b", "2"), ("a", "1"), ("b", "1")]
    assert sent[4:] == [("a", "a"), ("b", "b"), ("a", None), ("b", None)]
    assert best(waiting) == ["yx"]
    assert worker.waiting == 0


def test_a_cancelled_stream_ends(worker: Worker, model: Backwards) -> None:
    pieces: queue.Queue[Any] = queue.Queue()
    stream = Stream("a" * 20, model.options({}), pieces.put)
    model.may_answer.clear()
    worker.open(stream)
    stream.is_cancelled = True
    model.may_answer.set()
    while worker.waiting:
        time.sleep(0.001)
    assert model.streamed <= 1


def test_closing_answers_what_waits_and_refuses_the_rest(model: Backwards) -> None:
    worker = Worker("backwards", model, queue_size=10, max_wait=10)
    worker.submit(last := job(model, "ab"))
    worker.close()
    assert best(last) == ["ba"]
    assert not worker.is_running
    with pytest.raises(QueueFullError):
        worker.submit(job(model, "cd"))


def test_calls_run_in_the_thread_of_the_model(worker: Worker, model: Backwards) -> None:
    busy = hold(worker, model)
    calls = [Call(lambda _model: threading.current_thread().name), Call(len), Call(id)]
    for call in calls:
        worker.run(call)
    assert worker.waiting == 3
    calls[2].answer.cancel()
    model.may_answer.set()
    assert best(busy) == ["ysub"]
    assert calls[0].answer.result(10) == "model backwards"
    with pytest.raises(ModelFailedError):  # A model has no length: the log says so.
        calls[1].answer.result(10)
    after = Call(id)
    worker.run(after)
    assert after.answer.result(10) == id(model)
    assert not worker.waiting


def test_a_call_is_refused_when_the_queue_is_full(worker: Worker, model: Backwards) -> None:
    hold(worker, model)
    for _ in range(10):
        worker.run(Call(id))
    with pytest.raises(QueueFullError):
        worker.run(Call(id))


def test_threads_search_with_one_model_at_the_same_time(model: Backwards) -> None:
    worker = Worker("backwards", model, [model, model], queue_size=10, max_wait=0.01)
    model.may_answer.clear()
    jobs = [job(model, text, beam_size=size) for size, text in ((1, "ab"), (2, "cd"))]
    for one in jobs:
        worker.submit(one)
    end = time.monotonic() + 10
    while worker.waiting:  # Both are taken, though none is answered.
        assert time.monotonic() < end
        time.sleep(0.001)
    assert worker.is_running
    model.may_answer.set()
    assert [best(one) for one in jobs] == [["ba"], ["dc"]]
    worker.close()
