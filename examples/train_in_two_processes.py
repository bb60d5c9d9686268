"""Trains in one process and in two, each on one core, and prints what the second one adds.

    python examples/train_in_two_processes.py CONFIG FOLDER [options of `s2s fit`]

Both runs are written to FOLDER. On several machines, start `s2s fit CONFIG --run-dir RUN --set
training.strategy=multi_worker` on each, with TF_CONFIG as below but for the addresses; RUN must be
on a disk that they share.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def environment(addresses: list[str], index: int) -> dict[str, str]:
    """Returns the environment variables of a process: all addresses, and which is its own."""
    task = {"type": "worker", "index": index}
    cluster = json.dumps({"cluster": {"worker": addresses}, "task": task})
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return dict(os.environ) | threads | {"TF_CONFIG": cluster}


def train(config: str, run: Path, options: list[str], *, number: int) -> float:
    """Trains in a number of processes; returns the target tokens per second of all together."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(number)]
    command = [sys.executable, "-m", "seq2seq_kit", "fit", config, "--run-dir", str(run)]
    command += ["--set", "training.strategy=multi_worker", *options]
    processes = [
        subprocess.Popen(command, env=environment(addresses, index)) for index in range(number)
    ]
    if codes := [code for process in processes if (code := process.wait())]:
        raise SystemExit(f"Training failed with exit codes {codes}.")
    records = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    # The first record has the time in which graphs are traced.
    return statistics.median(json.loads(one)["tokens_per_second"] for one in records[1:])


def main(config: str, folder: str, *options: str) -> None:
    one, two = (
        train(config, Path(folder) / f"{number}", list(options), number=number) for number in (1, 2)
    )
    print(f"one process: {one:.0f} tokens/s; two: {two:.0f} tokens/s")
    print(f"efficiency of two processes: {two / one / 2:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
