"""What `s2s serve` does under load, beside `s2s generate` and beside one request at a time.

    pip install locust
    python benchmarks/serving.py RUN --source FILE [--workers 2] [--clients 64] [--seconds 60]

Starts the server, and lets locust (`serving_clients.py`) ask it for lines of the file from parallel
clients, with good requests and bad ones. Every good answer is compared with that of `Seq2Seq`. Then
one client asks alone, with good requests only. The yardstick is `s2s generate`'s work on the same
lines, without its start. Prints a table. The exit code is 1 if an answer was wrong or lost.
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BAD_SHARE = 1 / 8


@dataclass
class Load:
    """What some clients have seen."""

    name: str
    """The row of the table."""
    good: int
    """Requests that were answered as expected."""
    refused: int
    """Bad requests that were refused with a reason."""
    failures: int
    """Requests that were answered otherwise, or not at all."""
    seconds: float
    """From the first request to the last answer."""
    milliseconds: dict[int, int]
    """How many good requests took how long."""
    lines_per_request: int
    """Lines of a good request."""

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.good * self.lines_per_request / self.seconds

    def percentile(self, share: float) -> int:
        """Returns the milliseconds that this share of the good requests took at most."""
        left = share * sum(self.milliseconds.values())
        for milliseconds, count in sorted(self.milliseconds.items()):
            left -= count
            if left <= 0:
                return milliseconds
        return 0

    def row(self) -> str:
        """Returns a row of the table."""
        return (
            f"{self.name:<28} {self.rate:8.1f} {self.percentile(0.5):9} {self.percentile(0.99):9}"
        )


class Service:
    """The server in a process of its own.

    Args:
        run: What it serves.
        workers: As for `s2s serve`.
    """

    def __init__(self, run: str, workers: int) -> None:
        command = [sys.executable, "-m", "seq2seq_kit", "serve", run, "--port", "0"]
        command += ["--workers", str(workers), "--queue-size", "10000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stdout: Any = self.process.stdout
        line = stdout.readline()
        found = re.search(r"http://([\d.]+:\d+)", line)
        if not found:
            raise SystemExit(f"The server did not start: {line}")
        self.address = found[1]
        while self._get("/health")[0] != 200:
            time.sleep(0.1)

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def usage(self, what: str) -> tuple[float, float]:
        """Returns what /metrics says of the server's own process, and summed over the others."""
        sums = {"process_": 0.0, "s2s_worker_process_": 0.0}
        for line in self._get("/metrics")[1].splitlines():
            for prefix in sums:
                if re.match(rf"{prefix}{what}[ {{]", line):
                    sums[prefix] += float(line.split()[-1])
        own, others = sums.values()
        return own, others

    def stop(self) -> int:
        """Stops it with SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def measure(
    service: Service, plan: dict[str, Any], *, locust: str, clients: int, seconds: float
) -> Load:
    """Returns what this number of clients see in this time; bad requests only if several."""
    plan = plan | {"bad_share": BAD_SHARE if clients > 1 else 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.json")
        path.write_text(json.dumps(plan), encoding="utf-8")
        command = [locust, "--locustfile", str(Path(__file__).with_name("serving_clients.py"))]
        command += ["--headless", "--json", "--only-summary", "--loglevel", "ERROR"]
        command += ["--host", f"http://{service.address}", "--stop-timeout", "120"]
        command += ["--users", str(clients), "--spawn-rate", str(clients)]
        command += ["--run-time", f"{seconds:g}s"]
        environment = os.environ | {"SERVING_PLAN": str(path)}
        environment.pop("PYTHONPATH", None)  # locust may be of another Python.
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seen = {entry["name"]: entry for entry in json.loads(done.stdout)}
    if any(entry["num_failures"] for entry in seen.values()):
        print(done.stderr, file=sys.stderr)
    good, bad = seen["good"], seen.get("bad", {"num_requests": 0, "num_failures": 0})
    return Load(
        f"{clients} clients" if clients > 1 else "1 client",
        good["num_requests"] - good["num_failures"],
        bad["num_requests"] - bad["num_failures"],
        good["num_failures"] + bad["num_failures"],
        good["last_request_timestamp"] - good["start_time"],
        {int(float(key)): count for key, count in good["response_times"].items()},
        plan["lines_per_request"],
    )


# What `s2s generate` does, without its start: the answers, the seconds and those of processors,
# after a first pass.
OFFLINE = """
import json, sys, time
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
from seq2seq_kit import Seq2Seq
model = Seq2Seq.load(sys.argv[1])
lines, options = json.load(sys.stdin)
model.generate(lines, **options)
started, cpu = time.perf_counter(), time.process_time()
outputs = model.generate(lines, **options)
json.dump([outputs, time.perf_counter() - started, time.process_time() - cpu], sys.stdout)
"""


def offline(run: str, lines: list[str], options: dict[str, Any]) -> tuple[list[str], float, float]:
    """Returns the outputs of the lines, lines a second, and processor seconds of a line."""
    command = [sys.executable, "-c", OFFLINE, run]
    request = json.dumps([lines, options])
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    outputs, seconds, cpu = json.loads(done.stdout)
    return outputs, len(lines) / seconds, cpu / len(lines)


def parse_arguments() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=1000, help="of the file, at most")
    parser.add_argument("--lines-per-request", type=int, default=1)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--locust", default="locust", help="the command")
    return parser.parse_args()


def main() -> int:
    """Prints the table; returns 1 if an answer was wrong or lost."""
    arguments = parse_arguments()
    seconds, clients, locust = arguments.seconds, arguments.clients, arguments.locust
    options = {"beam_size": arguments.beam_size}
    lines = arguments.source.read_text(encoding="utf-8").splitlines()[: arguments.lines]
    outputs, rate, cpu_of_line = offline(arguments.run, lines, options)
    plan = {
        "expected": list(zip(lines, outputs, strict=True)),
        "options": options,
        "lines_per_request": arguments.lines_per_request,
    }
    service = Service(arguments.run, arguments.workers)
    try:
        warm = measure(service, plan, locust=locust, clients=clients, seconds=seconds / 4)
        memory, cpu = service.usage("resident_memory_bytes"), service.usage("cpu_seconds_total")
        many = measure(service, plan, locust=locust, clients=clients, seconds=seconds)
        cpu_after = service.usage("cpu_seconds_total")
        memory_after = service.usage("resident_memory_bytes")
        one = measure(service, plan, locust=locust, clients=1, seconds=seconds / 4)
    finally:
        code = service.stop()
    failures = warm.failures + many.failures + one.failures
    print(f"{'':<28}  lines/s     50 %      99 %  (milliseconds)")
    print(f"{'s2s generate':<28} {rate:8.1f}")
    print(many.row())
    print(one.row())
    print(f"throughput beside s2s generate: {many.rate / rate:.2f}")
    print(f"bad requests refused: {warm.refused + many.refused}; wrong or lost: {failures}")
    before, after = (sum(values) / 1e6 for values in (memory, memory_after))
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after; exit code {code}")
    served = 1000 * (sum(cpu_after) - sum(cpu)) / (many.good * many.lines_per_request)
    print(
        f"processor time of a line: {1000 * cpu_of_line:.1f} ms of s2s generate, "
        f"{served:.1f} ms of the server and its processes, bad requests included"
    )
    return int(bool(failures or code))


if __name__ == "__main__":
    sys.exit(main())
