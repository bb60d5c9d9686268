"""The HTTP application: its routes, and from a request to its answer.

Runs in the event loop, which nothing here blocks: models have threads of their own (`worker`).
"""

import asyncio
import json
import math
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.batching import Job
from seq2seq_kit.serving.bodies import Limits, parse_body
from seq2seq_kit.serving.hosts import CheckHosts
from seq2seq_kit.serving.metrics import MeasureRequests, Metrics
from seq2seq_kit.serving.models import AlignedHypothesis
from seq2seq_kit.serving.openapi import as_html, openapi_document
from seq2seq_kit.serving.page_routes import is_public, page_routes
from seq2seq_kit.serving.process import ProcessLostError
from seq2seq_kit.serving.requests import RequestReader, too_slow
from seq2seq_kit.serving.tf_serving import (
    VERSION,
    hypotheses_response,
    model_status,
    parse_predict,
    predict_response,
)
from seq2seq_kit.serving.worker import (
    Call,
    ModelFailedError,
    QueueFullError,
    Stream,
    Worker,
)

_RETRY_AFTER = 1
"""Seconds after which a client may try again: the queue was full, or a process has ended."""

_CLIENT_GONE = 499
"""The status, for the metrics alone, of a request whose client has left; nginx's number."""


def build_app(
    workers: Mapping[str, Worker],
    metrics: Metrics,
    limits: Limits,
    *,
    token: str | None = None,
    hosts: Sequence[str] | None = None,
) -> Starlette:
    """Returns the application.

    Args:
        workers: The models by name.
        metrics: Where requests are counted.
        limits: What a request may ask for at most.
        token: What a request must have as its bearer token, unless it is for `/health` or a file
            of the page; None for none.
        hosts: The names that the server answers to, as for `CheckHosts`; None for every name.
    """
    requests = RequestReader(workers, limits)
    answers = _Answers(requests, metrics)
    middleware = [Middleware(MeasureRequests, metrics=metrics)]
    if hosts is not None:
        middleware.append(Middleware(CheckHosts, hosts=hosts))
    if token is not None:
        middleware.append(Middleware(_RequireToken, token=token))
    name = "{name:str}"
    version = f"{name}/versions/{{version:str}}"
    routes = [
        Route("/generate", answers.generate, methods=["POST"]),
        Route(f"/v1/models/{version}:predict", answers.predict, methods=["POST"]),
        Route(f"/v1/models/{version}", answers.status, methods=["GET"]),
        Route(f"/v1/models/{name}:predict", answers.predict, methods=["POST"]),
        Route(f"/v1/models/{name}", answers.status, methods=["GET"]),
        Route("/health", answers.health, methods=["GET"]),
        Route("/metrics", answers.show_metrics, methods=["GET"]),
        Route("/openapi.json", answers.openapi, methods=["GET"]),
        Route("/docs", answers.docs, methods=["GET"]),
        *page_routes(requests),
    ]
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            HTTPException: _explain,
            InputError: _explain_input,
            QueueFullError: _explain_full,
            ClientDisconnect: _explain_gone,
            ModelFailedError: _explain_failure,
            ProcessLostError: _explain_lost,
        },
    )


class _JSON(Response):
    """A JSON response; other than Starlette's own it may have the score -Infinity."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False).encode()


class _Answers:
    """What answers each route.

    Args:
        requests: Reads the requests of the server.
        metrics: The metrics to show.
    """

    def __init__(self, requests: RequestReader, metrics: Metrics) -> None:
        self._requests = requests
        self._workers = requests.workers
        self._limits = requests.limits
        self._metrics = metrics
        self._document = openapi_document(list(requests.workers), requests.limits)

    async def generate(self, request: Request) -> Response:
        """Answers texts with their hypotheses, or streams the output of one."""
        body, given = parse_body(await self._requests.read(request), self._limits)
        worker = self._requests.worker(body.model)
        options = worker.model.options(
            given,
            num_hypotheses=body.num_hypotheses,
            truncate=body.truncate,
            alignments=body.alignments,
        )
        if body.stream:
            stream = _OpenStream(body.texts[0], options, *body.prefixes)
            worker.open(stream.stream)
            return await self._send_stream(request, stream)
        prefixes = body.prefixes if any(body.prefixes) else ()
        job = Job(body.texts, options, prefixes)
        worker.submit(job)
        found = await self._requests.wait(request, job.answer)
        return _JSON(
            {
                "model": worker.name,
                "hypotheses": [[_as_dict(one) for one in line] for line in found],
            }
        )

    async def predict(self, request: Request) -> Response:
        """Answers as TensorFlow Serving's Predict API does."""
        worker = self._served(request)
        wanted = parse_predict(await self._requests.read(request), self._limits)
        given: dict[str, Any] = {}
        match wanted.signature:
            case "serving_default":
                number = 1
            case "n_best":
                number = worker.model.beam
            case "sample":
                number = wanted.inputs["num_samples"]
                given = {"sample": True, "seed": wanted.inputs["seed"]}
            case name:
                call = Call(lambda model: model.call(name, wanted.inputs))
                worker.run(call)
                columns = await self._requests.wait(request, call.answer)
                return _JSON(predict_response(wanted, columns))
        options = worker.model.options(given, num_hypotheses=number)
        job = Job(wanted.inputs["inputs"], options)
        worker.submit(job)
        found = await self._requests.wait(request, job.answer)
        return _JSON(hypotheses_response(wanted, found))

    async def status(self, request: Request) -> Response:
        """Answers as TensorFlow Serving's Model status API does."""
        self._served(request)
        return _JSON(model_status())

    async def health(self, _request: Request) -> Response:
        """Says whether all models answer."""
        is_healthy = all(worker.is_running for worker in self._workers.values())
        return _JSON({"status": "ok" if is_healthy else "failing"}, 200 if is_healthy else 503)

    async def show_metrics(self, _request: Request) -> Response:
        """Shows the metrics in Prometheus's text format."""
        text = generate_latest(self._metrics.registry)
        return PlainTextResponse(text, media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, _request: Request) -> Response:
        """Describes the interface as an OpenAPI document."""
        return _JSON(self._document)

    async def docs(self, _request: Request) -> Response:
        """Describes the interface to people."""
        return HTMLResponse(as_html(self._document))

    def _served(self, request: Request) -> Worker:
        """Returns the model that a path names."""
        worker = self._requests.worker(request.path_params["name"])
        if (version := request.path_params.get("version", VERSION)) != VERSION:
            raise HTTPException(
                404, f"`{worker.name}` has no version {version}, only version {VERSION}."
            )
        return worker

    async def _send_stream(self, request: Request, stream: "_OpenStream") -> Response:
        """Returns the response that sends a stream; an error before its first piece is raised."""
        try:
            first = await self._requests.wait(request, asyncio.ensure_future(stream.next()))
        except BaseException:
            stream.cancel()
            raise
        return StreamingResponse(
            self._events(stream, first),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def _events(self, stream: "_OpenStream", piece: str | None) -> AsyncIterator[bytes]:
        text = ""
        end = stream.started + self._limits.seconds
        try:
            while piece is not None:
                text += piece
                yield _event("piece", {"text": piece})
                piece = await asyncio.wait_for(
                    stream.next(), end - asyncio.get_running_loop().time()
                )
            yield _event("end", {"text": text})
        except TimeoutError:
            yield _event("error", {"error": too_slow(self._limits)})
        except Exception as error:  # The status has been sent: this is the only way left.
            yield _event("error", {"error": _message(error)})
        finally:
            stream.cancel()


class _OpenStream:
    """A `Stream` as the event loop sees it.

    Args:
        text: The input.
        options: The options of the search.
        prefix: A forced beginning of the output; "" for none.
    """

    def __init__(self, text: str, options: Any, prefix: str = "") -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.started = self._loop.time()
        self.stream = Stream(text, options, self._send, prefix)

    def _send(self, piece: str | Exception | None) -> None:
        """Is called in the model's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def next(self) -> str | None:
        """Returns the next piece, None at the end."""
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def cancel(self) -> None:
        """Says that nobody listens any more."""
        self.stream.is_cancelled = True


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    """Returns a server-sent event; JSON has no line breaks, which would end its data."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _as_dict(one: Hypothesis) -> dict[str, Any]:
    """Returns a hypothesis as JSON has it: no score for an input that an export marks."""
    values: dict[str, Any] = {
        "text": one.text,
        "score": one.score if math.isfinite(one.score) else None,
        "log_prob": one.log_prob if math.isfinite(one.log_prob) else None,
        "is_cut": one.is_cut,
    }
    if isinstance(one, AlignedHypothesis):
        values["alignment"] = asdict(one.alignment)
    return values


class _RequireToken:
    """Refuses requests without the token, other than those for health and for the page's files.

    Args:
        app: What answers the others.
        token: The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_allowed(scope):
            await self._app(scope, receive, send)
            return
        message = "This server needs a token: send `Authorization: Bearer TOKEN`."
        refusal = _JSON({"error": message}, 401, {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        if scope["path"] == "/health" or is_public(scope["path"]):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return secrets.compare_digest(given, self._expected)


def _message(error: Exception) -> str:
    """Returns what a client is told about an error; details of a failure are in the log only."""
    if isinstance(error, InputError | ProcessLostError):
        return str(error)
    return "The model failed; see the server's log."


async def _explain(_request: Request, error: Any) -> Response:
    return _JSON({"error": error.detail}, error.status_code, error.headers)


async def _explain_input(_request: Request, error: Exception) -> Response:
    return _JSON({"error": _message(error)}, 400)


async def _explain_failure(_request: Request, error: Exception) -> Response:
    return _JSON({"error": _message(error)}, 500)


async def _explain_full(_request: Request, _error: Exception) -> Response:
    message = "The queue is full. Try again later."
    return _JSON({"error": message}, 503, {"Retry-After": str(_RETRY_AFTER)})


async def _explain_lost(_request: Request, error: Exception) -> Response:
    return _JSON({"error": _message(error)}, 503, {"Retry-After": str(_RETRY_AFTER)})


async def _explain_gone(_request: Request, _error: Exception) -> Response:
    return _JSON({"error": "The client has left."}, _CLIENT_GONE)
