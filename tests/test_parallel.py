"""Searches on several threads: order, errors and limits without a model, equal answers with one."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from reference import (
    NumberTokenizer,
    generator_of,
    random_lines,
    random_network,
    small_shortlist,
)

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding.groups import split_into_groups
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference import parallel
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.parallel import map_ahead, num_threads, split_lines
from seq2seq_kit.startup import compute_operations_on_one_thread

THREADS = 3
LINES = [*random_lines(50, longest=9), ""]
PREFIXES = [f"{number} 5" for number in range(4, 4 + len(LINES))]


def shares(items: Any, share: float = 0.1) -> Iterator[tuple[Any, float]]:
    return ((item, share) for item in items)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 4)


@pytest.mark.parametrize("threads", [1, THREADS])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number * number

    found = list(map_ahead(work, shares(range(40)), threads=threads))
    assert found == [number * number for number in range(40)]


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    meeting = threading.Barrier(THREADS, timeout=20)
    list(map_ahead(lambda _: meeting.wait(), shares(range(4 * THREADS)), threads=THREADS))


def test_one_thread_is_that_of_the_caller() -> None:
    here = threading.get_ident()
    found = map_ahead(lambda _: threading.get_ident(), shares(range(2)), threads=1)
    assert set(found) == {here}


@pytest.mark.parametrize(("share", "most"), [(0.5, 2), (1.0, 1), (7.0, 1), (0.01, 4 * THREADS)])
def test_no_more_items_are_taken_than_their_shares_allow(share: float, most: int) -> None:
    taken: list[int] = []
    for number, _ in enumerate(
        map_ahead(lambda item: item, shares(map(taken.append, range(20)), share), threads=THREADS)
    ):
        # One that does not fit beside the others has been asked for already.
        assert len(taken) <= number + most + 1
    assert len(taken) == 20


@pytest.mark.parametrize("threads", [1, THREADS])
def test_an_error_comes_in_its_place(threads: int) -> None:
    def fail_at_six(number: int) -> int:
        if number == 6:
            raise InputError("six")
        return number

    found = map_ahead(fail_at_six, shares(range(20)), threads=threads)
    assert list(itertools.islice(found, 6)) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="six"):
        next(found)


@pytest.mark.parametrize("threads", [1, THREADS])
def test_an_error_of_an_item_comes_after_the_results_before_it(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from range(6)
        raise InputError("six")

    found = map_ahead(lambda number: number, shares(items()), threads=threads)
    assert list(itertools.islice(found, 6)) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="six"):
        next(found)


def test_no_call_begins_after_the_consumer_has_left() -> None:
    begun: list[int] = []
    may_end = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number:
            may_end.wait(20)

    found = map_ahead(work, shares(range(10)), threads=2)
    next(found)
    found.close()
    may_end.set()
    for thread in threading.enumerate():
        if thread.name.startswith("search"):
            thread.join(20)
    assert len(begun) <= 4


@pytest.mark.parametrize(("wanted", "number"), [(0, 4), (1, 1), (3, 3), (9, 4)])
def test_there_is_at_most_a_thread_for_each_core(
    four_cores: None, wanted: int, number: int
) -> None:
    assert num_threads(wanted, 100) == number


@pytest.mark.parametrize(("work", "number"), [(0, 1), (1, 1), (2, 2), (9, 4)])
def test_there_are_no_more_threads_than_work(four_cores: None, work: int, number: int) -> None:
    assert num_threads(0, work) == number


def test_the_number_of_threads_that_tensorflow_was_given_holds(
    four_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 2)
    assert [num_threads(wanted, 100) for wanted in (0, 1, 3)] == [2, 1, 2]


def test_operations_keep_their_threads_once_tensorflow_has_started() -> None:
    tf.zeros([])
    before = tf.config.threading.get_intra_op_parallelism_threads()
    compute_operations_on_one_thread()
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


def test_a_gpu_has_one_thread(four_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _kind: ["GPU:0"])
    assert num_threads(0, 100) == 1


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_parts_make_the_groups_that_all_lines_make(threads: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 300)
    parts = split_lines(lengths, 7, threads)
    assert 2 * threads <= len(parts) <= 4 * threads if threads > 1 else len(parts) == 1
    found = [part[lines] for part in parts for lines in split_into_groups(lengths[part], 7)]
    expected = split_into_groups(lengths, 7)
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


@pytest.fixture(scope="module")
def generators() -> dict[str, Generator]:
    options = {"defaults": DecodingConfig(max_length=6)}
    tokenizers = NumberTokenizer(), NumberTokenizer()
    sizes = {"decoder_layers": 1}
    return {
        "translation": generator_of(
            random_network("multiplicative", **sizes),
            *tokenizers,
            shortlist=small_shortlist(),
            **options,
        ),
        "continuation": generator_of(
            random_network("language model", **sizes), *tokenizers, keep_end=True, **options
        ),
    }


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("translation", {"beam_size": 1, "shortlist": True, "precision": "bfloat16"}),
        ("translation", {"beam_size": 2, "num_hypotheses": 2, "prefixes": PREFIXES}),
        ("continuation", {"sample": True, "num_hypotheses": 2}),
    ],
)
def test_answers_are_bit_for_bit_the_same_with_any_number_of_threads(
    four_cores: None, generators: dict[str, Generator], task: str, options: dict[str, Any]
) -> None:
    # Chunks of 32 lines in groups of 2: several parts of several chunks.
    options = options | {"batch_size": 2}
    generator = generators[task]
    alone = list(generator.hypotheses(LINES, threads=1, **options))
    assert len({one.score for one, *_ in alone}) > len(LINES) / 2
    assert list(generator.hypotheses(LINES, threads=2, **options)) == alone


def test_a_search_uses_all_cores_unless_told_otherwise(
    four_cores: None, generators: dict[str, Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    search_chunks = parallel.search_chunks

    def note(*arguments: Any, threads: int) -> Any:
        seen.append(threads)
        return search_chunks(*arguments, threads=threads)

    monkeypatch.setattr("seq2seq_kit.inference.generator.search_chunks", note)
    for given in ({}, {"threads": 2}, {"threads": 1}):
        list(
            generators["translation"].hypotheses(
                LINES[:5], beam_size=1, shortlist=True, precision="bfloat16", **given
            )
        )
    assert seen == [4, 2, 1]


def test_lines_before_a_refused_one_are_answered_first(
    four_cores: None, generators: dict[str, Generator]
) -> None:
    lines = [*LINES[:40], "7 " * 21]
    options = {"beam_size": 1, "shortlist": True, "precision": "bfloat16", "batch_size": 1}
    found = generators["translation"].hypotheses(lines, **options)
    assert len(list(itertools.islice(found, 32))) == 32  # The chunks before that of the long line.
    with pytest.raises(InputError, match="Line 41 has 21 tokens"):
        next(found)
