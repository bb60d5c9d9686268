"""What a server measures, in Prometheus's text format."""

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seq2seq_kit.serving.process import SearchProcess
from seq2seq_kit.serving.worker import Worker

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry that no other server shares."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "s2s_requests", "Answered requests.", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "s2s_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_lines = Histogram(
            "s2s_batch_lines",
            "Lines that were answered together.",
            ["model"],
            buckets=_LINES,
            registry=self.registry,
        )

    def watch(self, workers: Iterable[Worker], processes: Iterable[SearchProcess]) -> None:
        """Adds the length of each worker's queue, and memory and CPU time of each process."""
        self.registry.register(_Queues(list(workers)))
        self.registry.register(_Processes(list(processes)))


class _Queues(Collector):
    """Reads the queues when somebody asks."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "s2s_queue_lines", "Lines that wait, and open streams.", labels=["model"]
        )
        for worker in self._workers:
            gauge.add_metric([worker.name], worker.waiting)
        return [gauge]


class _Processes(Collector):
    """Reads what the system knows of each process that searches."""

    def __init__(self, processes: list[SearchProcess]) -> None:
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        restarts = CounterMetricFamily(
            "s2s_worker_restarts", "Starts of a process after it had ended.", labels=["worker"]
        )
        families: dict[str, Metric] = {}
        for process in self._processes:
            worker = str(process.number)
            restarts.add_metric([worker], process.num_restarts)
            for family in _read(process.pid):
                seen = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    seen.add_sample(sample.name, {"worker": worker}, sample.value)
        return [restarts, *families.values()]


def _read(pid: int | None) -> Iterable[Metric]:
    """Returns the metrics of a process; nothing if it has not been started."""
    if pid is None:
        return []
    return ProcessCollector("s2s_worker", pid=lambda: pid, registry=None).collect()


class MeasureRequests:
    """Counts and times requests, whatever answers them.

    Args:
        app: What answers.
        metrics: Where the numbers go.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            # Paths would be unlimited in number; the functions that answer are few.
            endpoint: Any = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)
