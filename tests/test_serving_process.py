"""Processes that search: their answers, their deaths, and that nothing of either is lost."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import remote
from serving import Answer, Backwards, Client, serving

from seq2seq_kit.errors import InputError
from seq2seq_kit.serving.process import ProcessLostError, RemoteModel, SearchProcess

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A server whose searches are done by two processes."""
    processes = [SearchProcess(number, remote.load) for number in range(2)]
    with serving({"remote": Backwards()}, processes=processes) as client:
        wait_until(lambda: client.get("/health").status == 200)
        yield client


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def generate(client: Client, *texts: str, **values: Any) -> Answer:
    return client.post("/generate", {"texts": texts, **values})


def restarts(client: Client) -> float:
    lines = client.get("/metrics").body.decode().splitlines()
    return sum(
        float(line.split()[1]) for line in lines if line.startswith("s2s_worker_restarts_total{")
    )


def outputs(answer: Answer) -> list[str]:
    return [line[0]["text"] for line in answer.json["hypotheses"]]


def test_parallel_requests_get_their_own_answers_from_both_processes(client: Client) -> None:
    def ask(number: int) -> bool:
        texts = [f"{number}-{place}" for place in range(number % 5 + 1)]
        return outputs(generate(client, *texts)) == [text[::-1] for text in texts]

    with ThreadPoolExecutor(16) as pool:
        slow = [pool.submit(generate, client, "slow", "pid", max_length=5 + n) for n in range(2)]
        assert all(pool.map(ask, range(64)))
    assert len({outputs(one.result())[1] for one in slow} - {str(os.getpid())}) == 2
    metrics = client.get("/metrics").body.decode()
    if sys.platform == "linux":
        assert 's2s_worker_process_resident_memory_bytes{worker="1"}' in metrics


def test_errors_of_a_process_are_those_of_the_model(client: Client) -> None:
    answer = generate(client, "ab", "bad")
    assert (answer.status, answer.json["error"]) == (400, "Line 2 is bad.")
    answer = generate(client, "broken")
    assert (answer.status, "secret" in answer.json["error"]) == (500, False)


def test_a_killed_process_costs_its_requests_only_and_is_started_again(client: Client) -> None:
    before = restarts(client)
    with ThreadPoolExecutor(8) as pool:
        lost = pool.submit(generate, client, "kill", max_length=9)  # Alone in its batch.
        others = [pool.submit(generate, client, f"{number}") for number in range(20)]
        answer = lost.result()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "has ended" in answer.json["error"]
        assert [one.result().status for one in others] == [200] * 20
    wait_until(lambda: restarts(client) == before + 1)
    assert outputs(generate(client, "ab")) == ["ba"]


def test_streams_come_from_a_process_and_end_with_an_error_when_it_does(client: Client) -> None:
    events = generate(client, "ab", stream=True).events
    assert events == [("piece", {"text": "a"}), ("piece", {"text": "b"}), ("end", {"text": "ab"})]
    events = generate(client, "a!b", stream=True).events
    assert [name for name, _ in events] == ["piece", "error"]
    assert "has ended" in events[1][1]["error"]


def test_a_process_outlives_the_signals_that_stop_its_server() -> None:
    process = SearchProcess(0, remote.load)
    model = RemoteModel(process, "remote")
    assert model.hypotheses(["ab"], (), None)[0][0].text == "ba"  # type: ignore[arg-type]
    assert process.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    with pytest.raises(InputError, match="Line 7 is bad"):
        model.hypotheses(["bad"], (), None, first_line=7)  # type: ignore[arg-type]
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    with pytest.raises(ProcessLostError):
        process.call("hypotheses")


def test_a_process_that_cannot_load_its_models_does_not_keep_the_server() -> None:
    process = SearchProcess(0, remote.fail_to_load)
    wait_until(lambda: process.num_restarts > 0)
    assert not process.is_ready
    process.close()
