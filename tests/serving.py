"""A server on loopback for tests, its clients, and a model that answers when it is told to."""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.bodies import Limits
from seq2seq_kit.serving.models import ServedModel
from seq2seq_kit.serving.options import SearchOptions
from seq2seq_kit.serving.server import Server, address_of, listen


class Answer:
    """The answer to a request, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The server-sent events, each with its name."""
        blocks = self.body.decode().strip("\n").split("\n\n")
        lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        return [(block["event"], json.loads(block["data"])) for block in lines]


@dataclass
class Client:
    """Sends requests, each on a connection of its own."""

    address: str

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)

    def get(self, path: str, **headers: str) -> Answer:
        connection = self.open()
        connection.request("GET", path, headers=headers)
        return Answer(connection.getresponse())

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        connection = self.open()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, headers)
        return Answer(connection.getresponse())


@contextmanager
def serving(models: Mapping[str, ServedModel], **options: Any) -> Iterator[Client]:
    """Serves models in a thread."""
    options.setdefault("limits", Limits())
    with listen("127.0.0.1", 0) as listener:
        server = Server(models, **options)
        thread = threading.Thread(target=server.run, args=[listener])
        thread.start()
        try:
            yield Client(address_of(listener))
        finally:
            server.stop()
            thread.join()


@dataclass
class Backwards(ServedModel):
    """Writes each input backwards once `may_answer` is set.

    `bad` is an input that only the search finds out to be bad, and `broken` breaks it.
    """

    beam: int = 2
    may_answer: threading.Event = field(default_factory=threading.Event)
    batches: list[list[str]] = field(default_factory=list)
    streamed: int = 0

    def __post_init__(self) -> None:
        self.may_answer.set()

    def options(
        self,
        given: dict[str, Any],
        *,
        num_hypotheses: int = 1,
        truncate: bool = False,
        alignments: bool = False,
    ) -> SearchOptions:
        decoding = DecodingConfig().override(**given)
        return SearchOptions(decoding, num_hypotheses, truncate, alignments)

    def batch_lines(self, options: SearchOptions) -> int:
        assert options.decoding
        return options.decoding.batch_size

    def lengths(self, texts: Sequence[str], options: SearchOptions) -> list[int]:
        for number, text in enumerate(texts, start=1):
            if len(text) > 20 and not options.truncate:
                raise InputError(f"Line {number} has {len(text)} tokens.")
        return [0] * len(texts)

    def hypotheses(
        self,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: SearchOptions,
        *,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        self.may_answer.wait(30)
        if texts == [""]:  # The first call of every worker.
            return [[Hypothesis("", (), 0.0, 0.0)]]
        self.batches.append(list(texts))
        if "bad" in texts:
            raise InputError(f"Line {list(texts).index('bad') + first_line} is bad.")
        if "broken" in texts:
            raise RuntimeError("secret details")
        starts = prefixes or [""] * len(texts)
        return [
            [
                Hypothesis(start + text[::-1], (), -1.0 - rank, -0.5 - rank)
                for rank in range(options.num_hypotheses)
            ]
            for start, text in zip(starts, texts, strict=True)
        ]

    def stream(self, text: str, options: SearchOptions, prefix: str = "") -> Iterator[str]:
        self.lengths([text], options)
        for character in [*prefix, *reversed(text)]:
            self.may_answer.wait(30)
            if character == "!":
                raise RuntimeError("secret details")
            self.streamed += 1
            yield character
