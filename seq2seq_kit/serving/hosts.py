"""Which names a server answers to, so that other web pages cannot use it through a browser.

A page of any host can make the browser send requests to the loopback address. Their `Origin` says
where they come from. By DNS rebinding, a name of that host can even be made to lead to the loopback
address, so that the browser lets the page read the answers; the `Host` is then still that name.
Starlette's `TrustedHostMiddleware` checks `Host` alone, and gives no reason.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of the loopback address."""


class CheckHosts:
    """Refuses requests to a name that is not allowed, or from a page of another host.

    Args:
        app: What answers the others.
        hosts: The allowed names and addresses, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self._refused(f"//{headers.get('host', '')}")
            if refused is None and "origin" in headers:
                refused = self._refused(headers["origin"])
            if refused is not None:
                message = (
                    f"This server answers to {', '.join(sorted(self._hosts))} only. Received a "
                    f"request to or from {refused!r}. `s2s serve --allow-host NAME` allows more."
                )
                await JSONResponse({"error": message}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refused(self, url: str) -> str | None:
        """Returns the host of a URL if it is not allowed, else None."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            host = ""
        return None if host in self._hosts else host
