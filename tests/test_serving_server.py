"""A server on loopback: its answers are the model's, whatever else it is asked at the time."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from serving import Answer, Backwards, Client, serving
from small_config import PAIRS, write_texts
from untrained import untrained_run

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.bodies import MAX_BODY_BYTES, Limits
from seq2seq_kit.serving.hosts import LOOPBACK
from seq2seq_kit.serving.models import ServedRun
from seq2seq_kit.serving.server import Server, address_of, listen

TEXTS = [source for source, _ in PAIRS]


class Translator(NamedTuple):
    """A served run, and a model of the same run that was asked before."""

    client: Client
    expected: dict[str, list[tuple[str, float]]]


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Translator]:
    folder = tmp_path_factory.mktemp("served")
    write_texts(folder)
    run = untrained_run(
        folder,
        model={"units": 16, "embedding_dim": 8, "init_scale": 1.5},
        decoding={"max_length": 12, "sample": True},
    )
    model = Seq2Seq.load(run.path)
    found = [
        [(one.text, one.score) for one in line]
        for line in model.hypotheses(TEXTS, num_hypotheses=2)
    ]
    expected = dict(zip(TEXTS, found, strict=True))
    with serving({"letters": ServedRun(model)}) as client:
        yield Translator(client, expected)


@pytest.fixture
def backwards() -> Backwards:
    return Backwards()


def generate(client: Client, *texts: str, **values: Any) -> Answer:
    return client.post("/generate", {"texts": texts, **values})


def test_parallel_requests_good_and_bad_get_the_answers_of_the_model(
    translator: Translator,
) -> None:
    client, expected = translator
    # Otherwise a mix-up might not show.
    assert len({line[0] for line in expected.values()}) > 35
    bad = [{"beam_sise": 5}, {"texts": ["a" * 9, "b" * 500]}, {"texts": "ab"}, {"model": "other"}]

    def ask(number: int) -> bool:
        if number % 4 == 3:
            answer = generate(client, "ab", **bad[number // 4 % len(bad)])
            return answer.status in (400, 404) and bool(answer.json["error"])
        texts = TEXTS[number % 37 : number % 37 + number % 4 + 1]
        if number % 4 == 2:
            answer = client.post("/v1/models/letters:predict", {"instances": texts})
            return [(one["outputs"], one["scores"]) for one in answer.json["predictions"]] == [
                expected[text][0] for text in texts
            ]
        found = generate(client, *texts, num_hypotheses=2).json["hypotheses"]
        return [[(one["text"], one["score"]) for one in line] for line in found] == [
            expected[text] for text in texts
        ]

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(ask, range(256)))
    metrics = client.get("/metrics").body.decode()
    assert 's2s_requests_total{endpoint="predict",status="200"} 64.0' in metrics
    assert 's2s_queue_lines{model="letters"} 0.0' in metrics
    count, total = (
        float(metrics.partition(f's2s_batch_lines_{what}{{model="letters"}} ')[2].split()[0])
        for what in ("count", "sum")
    )
    assert total / count > 2  # Requests did share batches.


def test_alignments_are_sent_as_words_and_pairs(translator: Translator) -> None:
    ((found,),) = generate(translator.client, TEXTS[0], alignments=True).json["hypotheses"]
    alignment = found["alignment"]
    assert alignment["source_words"] == [TEXTS[0]]
    assert " ".join(alignment["target_words"]) == found["text"].strip()
    assert alignment["links"] == [[0, place] for place in range(len(alignment["target_words"]))]


def test_a_streamed_text_is_that_of_the_model(translator: Translator) -> None:
    for text in TEXTS[:3]:
        answer = generate(translator.client, text, stream=True)
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        *pieces, (name, end) = answer.events
        assert {name for name, _ in pieces} == {"piece"}
        assert name == "end"
        assert "".join(piece["text"] for _, piece in pieces) == end["text"]
        assert end["text"] == translator.expected[text][0][0]


def test_a_forced_beginning_is_streamed_with_what_follows(translator: Translator) -> None:
    forced = {"prefixes": ["x"]}
    (whole,) = generate(translator.client, TEXTS[0], **forced).json["hypotheses"]
    *pieces, (_, end) = generate(translator.client, TEXTS[0], stream=True, **forced).events
    assert end["text"] == whole[0]["text"] != translator.expected[TEXTS[0]][0][0]
    assert "".join(piece["text"] for _, piece in pieces) == end["text"]


def test_an_error_of_a_stream_has_a_status(translator: Translator) -> None:
    answer = generate(translator.client, "b" * 500, stream=True)
    assert answer.status == 400
    assert "tokens" in answer.json["error"]


def test_errors_are_those_of_the_python_interface(translator: Translator) -> None:
    given = {"beam_size": 0, "min_length": "long"}
    with pytest.raises(InputError) as raised:
        DecodingConfig(max_length=12).override(**given)
    assert generate(translator.client, "ab", **given).json == {"error": str(raised.value)}


def test_a_full_queue_is_503_with_retry_after(backwards: Backwards) -> None:
    backwards.may_answer.clear()
    with (
        serving({"backwards": backwards}, queue_size=2) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        # The worker is held by its first call, so that both lines stay in the queue.
        waiting = pool.submit(generate, client, "ab", "cd")
        while 'queue_lines{model="backwards"} 2.0' not in client.get("/metrics").body.decode():
            time.sleep(0.01)
        answer = generate(client, "ef")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert client.get("/health").status == 200
        backwards.may_answer.set()
        assert waiting.result().json["hypotheses"][1][0]["text"] == "dc"
        assert generate(client, "ef").status == 200


def test_a_request_that_takes_too_long_is_504(backwards: Backwards) -> None:
    backwards.may_answer.clear()
    with serving({"backwards": backwards}, limits=Limits(seconds=0.2)) as client:
        answer = generate(client, "ab")
        assert (answer.status, "0.2 seconds" in answer.json["error"]) == (504, True)
        assert generate(client, "ab", stream=True).status == 504
        backwards.may_answer.set()
        assert generate(client, "cd").status == 200
    assert backwards.batches == [["cd"]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_client_leaves_is_not_answered(backwards: Backwards, stream: bool) -> None:
    backwards.may_answer.clear()
    with serving({"backwards": backwards}) as client:
        connection = client.open()
        connection.request(
            "POST",
            "/generate",
            b'{"texts": ["ab"], "stream": %s}' % (b"true" if stream else b"false"),
        )
        queued = 's2s_queue_lines{model="backwards"} 1.0'
        while queued not in client.get("/metrics").body.decode():
            time.sleep(0.01)
        connection.close()
        left = 's2s_requests_total{endpoint="generate",status="499"} 1.0'
        while left not in client.get("/metrics").body.decode():
            time.sleep(0.01)
        backwards.may_answer.set()
        assert generate(client, "cd").status == 200
    assert backwards.batches == [["cd"]]
    assert backwards.streamed == 0


def test_a_client_that_leaves_ends_its_stream(backwards: Backwards) -> None:
    with serving({"backwards": backwards}) as client:
        backwards.may_answer.clear()
        connection = client.open()
        connection.request("POST", "/generate", b'{"texts": ["abcdefghijklmnop"], "stream": true}')
        backwards.may_answer.set()
        response = connection.getresponse()
        assert response.readline() == b"event: piece\n"
        response.close()
        connection.close()
        while 'queue_lines{model="backwards"} 0.0' not in client.get("/metrics").body.decode():
            time.sleep(0.01)


def test_a_failure_is_500_without_details(backwards: Backwards) -> None:
    with serving({"backwards": backwards}) as client:
        answer = generate(client, "broken")
        assert (answer.status, "secret" in answer.json["error"]) == (500, False)
        events = generate(client, "a!b", stream=True).events
        assert [name for name, _ in events] == ["piece", "error"]
        assert "secret" not in events[1][1]["error"]


def test_other_names_and_pages_of_other_hosts_are_refused(backwards: Backwards) -> None:
    hosts = [*LOOPBACK, "models.example.org"]
    with serving({"backwards": backwards}, hosts=hosts) as client:
        body = {"texts": ["ab"]}
        for headers in (
            {},
            {"Host": "localhost:80"},
            {"Host": "[::1]:8501"},
            {"Host": "Models.Example.org", "Origin": "https://models.example.org"},
            {"Origin": client.address},
        ):
            assert client.post("/generate", body, **headers).status == 200, headers
        for headers, name in (
            ({"Host": "evil.example"}, "evil.example"),
            ({"Host": "localhost.evil.example:8501"}, "localhost.evil.example"),
            ({"Host": "[::1"}, ""),
            ({"Origin": "https://evil.example"}, "evil.example"),
            ({"Origin": "null"}, ""),
        ):
            for answer in (
                client.post("/generate", body, **headers),
                client.get("/", **headers),
            ):
                assert answer.status == 403, headers
                assert f"request to or from {name!r}" in answer.json["error"]


def test_a_token_is_needed_where_there_is_one(backwards: Backwards) -> None:
    with serving({"backwards": backwards}, token="open sesame") as client:
        answer = generate(client, "ab")
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        for token in ("", "Bearer open", "Bearer open sesam\u00e9", "open sesame"):
            header = {"Authorization": token}
            assert client.get("/v1/models/backwards", **header).status == 401
        header = {"Authorization": "Bearer open sesame"}
        assert client.post("/generate", {"texts": ["ab"]}, **header).status == 200
        assert client.get("/health").status == 200


def test_models_are_asked_by_name(backwards: Backwards) -> None:
    with serving({"one": Backwards(), "two": backwards}) as client:
        assert generate(client, "ab").json["error"].startswith("`model` is required")
        assert generate(client, "ab", model="two").json["model"] == "two"
        assert backwards.batches == [["ab"]]
        for path in ("/v1/models/three", "/v1/models/one/versions/2"):
            assert client.get(path).status == 404
        assert client.get("/v1/models/one/versions/1").json == client.get("/v1/models/one").json
        path = "/v1/models/two/versions/1:predict"
        body = {"inputs": ["ab"], "signature_name": "n_best"}
        assert client.post(path, body).json["outputs"]["scores"] == [[-0.5, -1.5]]


def test_a_large_body_is_413(backwards: Backwards) -> None:
    with serving({"backwards": backwards}) as client:
        assert client.post("/generate", b" " * (MAX_BODY_BYTES + 1)).status == 413
        assert client.post("/generate", b" " * MAX_BODY_BYTES).status == 400


def test_wrong_paths_and_methods_are_json_errors(backwards: Backwards) -> None:
    with serving({"backwards": backwards}) as client:
        for answer, status in ((client.get("/generate"), 405), (client.get("/else"), 404)):
            assert (answer.status, list(answer.json)) == (status, ["error"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for processes")
def test_sigterm_answers_the_requests_under_way(backwards: Backwards) -> None:
    backwards.may_answer.clear()
    answers: list[Answer] = []

    def ask() -> None:
        client = Client(address_of(listener))
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(generate, client, "ab", stream=s) for s in (False, True)]
            while 'queue_lines{model="backwards"} 2.0' not in client.get("/metrics").body.decode():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(OSError, match="refused"):  # Nobody new is let in.
                socket.create_connection(listener_address, timeout=5)
            backwards.may_answer.set()
            answers.extend(one.result() for one in pending)

    handler = signal.getsignal(signal.SIGTERM)
    with listen("127.0.0.1", 0) as listener:
        listener_address = listener.getsockname()
        thread = threading.Thread(target=ask)
        thread.start()
        Server({"backwards": backwards}, limits=Limits()).run(listener)
        thread.join()
    assert answers[0].json["hypotheses"][0][0]["text"] == "ba"
    assert answers[1].events[-1] == ("end", {"text": "ba"})
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_port_in_use_is_an_input_error() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"Cannot listen on 127\.0\.0\.1, port {port}: Address"
        ):
            listen("127.0.0.1", port)


def test_an_unknown_host_is_an_input_error() -> None:
    with pytest.raises(InputError, match="Cannot listen on no host"):
        listen("no host", 0)


def test_an_answer_does_not_wait_for_acknowledgements() -> None:
    # Without TCP_NODELAY, the body of each answer came 40 ms after its header.
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
