"""Strategies by name, which of several workers writes, and two workers on this machine."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.archive import load_archive
from seq2seq_kit.errors import InputError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.training.distribution import is_chief, make_strategy, mean_over_workers
from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_folder import RunFolder


@pytest.mark.parametrize(
    ("name", "kind"),
    [("default", tf.distribute.Strategy), ("mirrored", tf.distribute.MirroredStrategy)],
)
def test_strategies_go_by_their_names(name: str, kind: type) -> None:
    assert isinstance(make_strategy(name), kind)


def test_several_workers_need_to_know_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="TF_CONFIG, which is not set"):
        make_strategy("multi_worker")


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ({"worker": 1}, [("worker", 0)]),
        ({"worker": 3}, [("worker", 0)]),
        ({"chief": 1, "worker": 2}, [("chief", 0)]),  # and not worker 0
    ],
)
def test_exactly_one_worker_is_the_chief(
    jobs: dict[str, int], expected: list[tuple[str, int]]
) -> None:
    tasks = [(job, index) for job, number in jobs.items() for index in range(number)]
    cluster = tf.train.ClusterSpec(
        {job: [f"{job}{index}:1" for index in range(number)] for job, number in jobs.items()}
    )
    found = []
    for job, index in tasks:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            cluster, task_type=job, task_id=index
        )
        if is_chief(SimpleNamespace(cluster_resolver=resolver)):
            found.append((job, index))
    assert found == expected


def test_a_single_process_is_the_chief_and_its_mean_is_its_own_number() -> None:
    strategy = make_strategy("default")
    assert is_chief(strategy)
    assert mean_over_workers(strategy, 0.1) == 0.1


# ---- Two workers


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start_workers(
    number: int, arguments: Sequence[str | Path], *, code: str
) -> list[subprocess.Popen[str]]:
    """Starts processes that know of each other over the loopback device."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(number)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=os.environ
            | {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                )
            },
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]


_FIT = """
import json, sys
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
from seq2seq_kit.seq2seq import Seq2Seq
fitted = Seq2Seq.fit(json.loads(sys.argv[1]), run_dir=sys.argv[2])
keys = ("step", "loss", "val_loss", "val_bleu")
history = [[record[key] for key in keys] for record in fitted.history]
print(json.dumps([history, fitted.generate(["ab", "cde"]), fitted.results["steps"]]))
"""


def test_two_workers_end_with_the_losses_of_one(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    translation_config["training"] |= {"max_steps": 40, "early_stopping": {"metric": "bleu"}}
    several = copy.deepcopy(translation_config)
    several["training"] |= {"strategy": "multi_worker", "max_minutes": 10}
    workers = start_workers(2, [json.dumps(several), tmp_path / "two"], code=_FIT)
    told = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told[0][1] + told[1][1]
    first, second = (json.loads(out) for out, _ in told)
    assert first == second
    alone = Seq2Seq.fit(translation_config, run_dir=tmp_path / "one")
    expected = [[r[key] for key in ("step", "loss", "val_loss")] for r in alone.history]
    np.testing.assert_allclose([record[:3] for record in first[0]], expected, rtol=1e-4)
    # One of them has written the run: what the folder holds answers as both did.
    assert len(read_metrics(RunFolder(tmp_path / "two"))) == len(expected)
    assert Seq2Seq.load(tmp_path / "two").generate(["ab", "cde"]) == first[1]


def test_a_signal_to_one_worker_stops_both(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    translation_config["training"] |= {"epochs": 99, "strategy": "multi_worker"}
    run = tmp_path / "run"
    workers = start_workers(2, [json.dumps(translation_config), run], code=_FIT)
    while not (run / "metrics.jsonl").exists() and workers[1].poll() is None:
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGINT if os.name == "nt" else signal.SIGTERM)
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert all("TrainingInterrupted" in error for error in errors), errors
    assert load_archive(run / "last.npz").metadata["step"] < 99 * 23
