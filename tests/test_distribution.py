"""Strategies by name, and which of several workers writes."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from seq2seq_kit.errors import InputError
from seq2seq_kit.training.distribution import is_chief, make_strategy, mean_over_workers


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
