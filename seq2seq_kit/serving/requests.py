"""What all routes do with a request: find its model, read its body, wait for its answer."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from seq2seq_kit.errors import InputError, suggest
from seq2seq_kit.serving.bodies import MAX_BODY_BYTES, Limits, parse_json
from seq2seq_kit.serving.worker import Worker


class RequestReader:
    """Reads requests within the limits, and waits for their answers.

    Args:
        workers: The models by name.
        limits: What a request may ask for at most.
    """

    def __init__(self, workers: Mapping[str, Worker], limits: Limits) -> None:
        self.workers = workers
        self.limits = limits

    def worker(self, name: str | None) -> Worker:
        """Returns the model with a name; None is the only one.

        Raises:
            InputError: If there are several models and no name.
            HTTPException: If there is no such model.
        """
        names = list(self.workers)
        if name is None and len(names) == 1:
            return self.workers[names[0]]
        if name is None:
            raise InputError(f"`model` is required. Known: {', '.join(names)}.")
        if name not in self.workers:
            raise HTTPException(404, f"There is no model `{name}` here. {suggest(name, names)}")
        return self.workers[name]

    async def read(self, request: Request) -> dict[str, Any]:
        """Returns the JSON object in the body of a request.

        Raises:
            InputError: If it holds something else.
            HTTPException: If it is too large or too late.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise HTTPException(
                            413, f"The body must have at most {MAX_BODY_BYTES:,} bytes."
                        )
        except TimeoutError as error:
            raise HTTPException(408, "The body did not arrive in time.") from error
        return parse_json(bytes(body))

    async def wait(self, request: Request, answer: "Future[Any] | asyncio.Future[Any]") -> Any:
        """Returns the result of a future, which is cancelled if the client leaves or time is over.

        Raises:
            ClientDisconnect: If the client leaves.
            HTTPException: If time is over.
        """
        future = asyncio.wrap_future(answer) if isinstance(answer, Future) else answer
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait(
                {future, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if future.done():
                return future.result()
            if gone.done():
                raise ClientDisconnect
            raise HTTPException(504, too_slow(self.limits))
        finally:
            gone.cancel()
            answer.cancel()  # At once; by the wrapping future it would be in the loop's next turn.


def too_slow(limits: Limits) -> str:
    """Returns what a client reads when time is over."""
    return (
        f"The answer took longer than {limits.seconds:g} seconds. Send fewer or shorter texts, or "
        f"lower `max_length` or `beam_size`."
    )


async def _until_gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
