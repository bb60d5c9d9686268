"""Listens on an address, and answers until a signal asks the process to stop."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from seq2seq_kit.errors import InputError
from seq2seq_kit.serving.app import build_app
from seq2seq_kit.serving.bodies import Limits
from seq2seq_kit.serving.metrics import Metrics
from seq2seq_kit.serving.models import ServedModel
from seq2seq_kit.serving.process import RemoteModel, SearchProcess
from seq2seq_kit.serving.worker import Worker

logger = logging.getLogger(__name__)

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; clients that connect wait until the server runs.

    Args:
        host: A name or an address.
        port: 0 for any free port.

    Raises:
        InputError: If the address cannot be used, for example because its port is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        # Of a name that is unknown the number is negative, and the message its own.
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise InputError(
            f"Cannot listen on {host}, port {port}: {reason}. Choose another address (--host, "
            f"--port; port 0 is any free one)."
        ) from error
    # Connections inherit it. Otherwise an answer's body waits up to 40 ms until the client has
    # acknowledged its header: asyncio sets it only for sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """Returns the address of a listening socket, as a URL."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server:
    """Serves models on a socket.

    Args:
        models: The models by name.
        limits: What a request may ask for at most.
        queue_size: Lines that may wait for a model.
        max_wait: Seconds that a request waits for others to share its batch.
        token: As for `build_app`.
        hosts: As for `build_app`.
        threads: Threads that search with each model in this process.
        processes: What searches instead, each with the same models.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        *,
        limits: Limits,
        queue_size: int = 256,
        max_wait: float = 0.005,
        token: str | None = None,
        hosts: Sequence[str] | None = None,
        threads: int = 1,
        processes: Sequence[SearchProcess] = (),
    ) -> None:
        metrics = Metrics()
        self._processes = processes
        self._workers = {
            name: Worker(
                name,
                model,
                [RemoteModel(process, name) for process in processes] or [model] * threads,
                queue_size=queue_size,
                max_wait=max_wait,
                on_batch=metrics.batch_lines.labels(name).observe,
            )
            for name, model in models.items()
        }
        metrics.watch(self._workers.values(), processes)
        config = uvicorn.Config(
            build_app(self._workers, metrics, limits, token=token, hosts=hosts),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        self._server = _UvicornServer(config)

    def run(self, listener: socket.socket) -> None:
        """Answers until a signal comes or `stop` is called; requests under way are answered."""
        try:
            self._server.run(sockets=[listener])
        finally:
            for process in self._processes:  # By now nobody waits for an answer.
                process.close()
            for worker in self._workers.values():
                worker.close()

    def stop(self) -> None:
        """Makes `run` return in another thread, once requests under way are answered."""
        self._server.should_exit = True


class _UvicornServer(uvicorn.Server):
    """Stops at a signal without raising it again afterwards: a stop that was asked for is none."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True  # The second signal.
        else:
            logger.info(
                "%s: stopping after the requests under way. A second signal stops at once.",
                signal.Signals(sig).name,
            )
            self.should_exit = True
