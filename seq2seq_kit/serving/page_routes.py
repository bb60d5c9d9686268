"""The page of a server and its files, and the routes that look inside the models for it.

The files are in the folder `page`. Nothing on the page comes from another host, and its policy
forbids the browser to run anything else.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seq2seq_kit import __version__
from seq2seq_kit.serving import inspection
from seq2seq_kit.serving.requests import RequestReader
from seq2seq_kit.serving.worker import Call

_FOLDER = Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No inline scripts or styles, no other hosts, and no text that becomes HTML: what a model writes
# stays text even if the page's own code has a fault.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def is_public(path: str) -> bool:
    """Whether a path is that of the page or of one of its files, which ask for the token."""
    return path == "/" or path.startswith("/page/")


def page_routes(requests: RequestReader) -> list[Route]:
    """Returns the routes of the page.

    Args:
        requests: Reads the requests of the server.
    """
    page = _Page(requests)
    return [
        Route("/", page.index, methods=["GET"]),
        Route("/page/{name:str}", page.asset, methods=["GET"]),
        Route("/inspect", page.models, methods=["GET"]),
        *(
            Route(f"/inspect/{name}", page.answer(name, look), methods=["POST"])
            for name, look in inspection.LOOKS.items()
        ),
    ]


class _Page:
    """What answers each route of the page.

    Args:
        requests: Reads the requests.
    """

    def __init__(self, requests: RequestReader) -> None:
        self._requests = requests
        self._files = {
            path.name: _File(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES
        }

    async def index(self, request: Request) -> Response:
        """Sends the page."""
        return self._files["index.html"].answer(request)

    async def asset(self, request: Request) -> Response:
        """Sends a file of the page."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404, f"The page has no file `{name}`.")
        return self._files[name].answer(request)

    async def models(self, _request: Request) -> Response:
        """Describes the models and the limits."""
        models = [
            {"name": name, **inspection.describe(worker.model)}
            for name, worker in self._requests.workers.items()
        ]
        limits = self._requests.limits
        return _json(
            {
                "version": __version__,
                "models": models,
                "max_characters": limits.characters,
                "max_beam": limits.beam_size,
            }
        )

    def answer(self, name: str, look: "inspection.Look") -> Callable[[Request], Any]:
        """Returns what answers a route that looks inside a model."""

        async def answer(request: Request) -> Response:
            values = await self._requests.read(request)
            body = inspection.parse(look, values, self._requests.limits)
            worker = self._requests.worker(body.model)
            call = Call(lambda model: look.run(model.text_model(), body))
            worker.run(call)
            return _json(await self._requests.wait(request, call.answer))

        answer.__name__ = f"inspect_{name}"  # The name of the route in the metrics.
        return answer


def _json(content: Mapping[str, Any]) -> Response:
    text = json.dumps(content, ensure_ascii=False)
    return Response(text.encode(), media_type="application/json")


class _File:
    """A file of the page, read once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._type = _TYPES[path.suffix]
        self._tag = f'"{hashlib.sha256(self._content).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        """Returns the file, or that the browser has it already."""
        headers = _HEADERS | {"ETag": self._tag}
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=304, headers=headers)
        return Response(self._content, media_type=self._type, headers=headers)
