"""What `s2s serve` does under load, beside `s2s generate` and beside one request at a time.

    python benchmarks/serving.py RUN --source FILE [--clients 64] [--seconds 60] [--beam-size 5]

Starts the server, and asks it for lines of the file from parallel clients, each of which sends its
next request when it has its answer. One request in eight is bad: an unknown option, no JSON, an
unknown model, a text that is too long. Every good answer is compared with that of `Seq2Seq`, every
bad request must get a status of 400 or 404 and a reason. Then one client asks alone, with good
requests only. `s2s generate`'s work on the same lines, without its start, is the yardstick. Prints
a table. The exit code is 1 if an answer was wrong or lost.
"""

import argparse
import http.client
import itertools
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BAD = 8  # One request in this number is bad.


@dataclass
class Load:
    """What some clients have seen."""

    seconds: list[float] = field(default_factory=list)
    """Of each good request."""
    refused: int = 0
    """Bad requests that were refused with a reason."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened."""


class Service:
    """The server in a process of its own.

    Args:
        run: What it serves.
    """

    def __init__(self, run: str) -> None:
        command = [sys.executable, "-m", "seq2seq_kit", "serve", run, "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stdout: Any = self.process.stdout
        line = stdout.readline()
        found = re.search(r"http://([\d.]+:\d+)", line)
        if not found:
            raise SystemExit(f"The server did not start: {line}")
        self.address = found[1]

    def memory(self) -> float:
        """Returns the megabytes that are resident, from /metrics."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
        return float(found[1]) / 1e6 if found else float("nan")

    def stop(self) -> int:
        """Stops it with SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def bad_body(number: int, line: str) -> bytes:
    """Returns one of several bad bodies."""
    bodies: list[Any] = [
        {"texts": [line], "beam_sise": 5},
        {"texts": [line], "beam_size": 0},
        {"texts": [line], "model": "none of ours"},
        {"texts": ["x " * 5001]},
        {"texts": line},
    ]
    return b"{" if number % 6 == 5 else json.dumps(bodies[number % 6]).encode()


def ask(
    service: Service,
    expected: dict[str, str],
    options: dict[str, Any],
    seed: int,
    until: float,
    load: Load,
    *,
    has_bad: bool,
) -> None:
    """Sends requests until it is time to stop, on one connection."""
    random_number = random.Random(seed)  # noqa: S311 - no secret
    lines = list(expected)
    connection = http.client.HTTPConnection(service.address, timeout=120)
    for number in itertools.count(seed):
        if time.monotonic() > until:
            return
        line = random_number.choice(lines)
        is_bad = has_bad and number % BAD == 0
        body = json.dumps({"texts": [line], **options}).encode()
        started = time.perf_counter()
        try:
            connection.request(
                "POST", "/generate", bad_body(number // BAD, line) if is_bad else body
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            load.wrong.append(f"lost: {error!r}")
            connection = http.client.HTTPConnection(service.address, timeout=120)
            continue
        if is_bad:
            if response.status in (400, 404) and answer.get("error"):
                load.refused += 1
            else:
                load.wrong.append(f"bad request: {response.status} {answer}")
            continue
        load.seconds.append(time.perf_counter() - started)
        if response.status != 200 or answer["hypotheses"][0][0]["text"] != expected[line]:
            load.wrong.append(f"{line!r}: {response.status} {answer}")


def measure(
    service: Service,
    expected: dict[str, str],
    options: dict[str, Any],
    *,
    clients: int,
    seconds: float,
) -> Load:
    """Returns what this number of clients see in this time; bad requests only if several."""
    load = Load()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=ask,
            args=[service, expected, options, seed, until, load],
            kwargs={"has_bad": clients > 1},
        )
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


# What `s2s generate` does, without its start: the answers and the seconds, after a first pass.
OFFLINE = """
import json, sys, time
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
from seq2seq_kit import Seq2Seq
model = Seq2Seq.load(sys.argv[1])
lines, options = json.load(sys.stdin)
model.generate(lines, **options)
started = time.perf_counter()
outputs = model.generate(lines, **options)
json.dump([outputs, time.perf_counter() - started], sys.stdout)
"""


def offline(run: str, lines: list[str], options: dict[str, Any]) -> tuple[list[str], float]:
    """Returns the outputs of the lines, and lines a second."""
    command = [sys.executable, "-c", OFFLINE, run]
    request = json.dumps([lines, options])
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    outputs, seconds = json.loads(done.stdout)
    return outputs, len(lines) / seconds


def row(name: str, load: Load, seconds: float) -> str:
    """Returns a row of the table."""
    median = statistics.median(load.seconds)
    last = statistics.quantiles(load.seconds, n=100)[98]
    rate = len(load.seconds) / seconds
    return f"{name:<28} {rate:8.1f} {1000 * median:9.0f} {1000 * last:9.0f}"


def main() -> int:
    """Prints the table; returns 1 if an answer was wrong or lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=1000, help="of the file, at most")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--beam-size", type=int, default=5)
    arguments = parser.parse_args()
    seconds = arguments.seconds
    options = {"beam_size": arguments.beam_size}
    lines = arguments.source.read_text(encoding="utf-8").splitlines()[: arguments.lines]
    outputs, rate = offline(arguments.run, lines, options)
    expected = dict(zip(lines, outputs, strict=True))
    service = Service(arguments.run)
    try:
        measure(service, expected, options, clients=arguments.clients, seconds=seconds / 4)
        before = service.memory()
        many = measure(service, expected, options, clients=arguments.clients, seconds=seconds)
        after = service.memory()
        one = measure(service, expected, options, clients=1, seconds=seconds / 4)
    finally:
        code = service.stop()
    print(f"{'':<28}  lines/s     50 %      99 %  (milliseconds)")
    print(f"{'s2s generate':<28} {rate:8.1f}")
    print(row(f"{arguments.clients} clients", many, seconds))
    print(row("1 client", one, seconds / 4))
    print(f"throughput beside s2s generate: {len(many.seconds) / seconds / rate:.2f}")
    print(f"bad requests refused: {many.refused}; wrong or lost: {len(many.wrong + one.wrong)}")
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after; exit code {code}")
    for message in (many.wrong + one.wrong)[:10]:
        print(message, file=sys.stderr)
    return int(bool(many.wrong or one.wrong or code))


if __name__ == "__main__":
    sys.exit(main())
