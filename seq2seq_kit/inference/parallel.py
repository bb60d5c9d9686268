"""Searches for the outputs of many lines on several threads, each part of them with one call.

A search consists of many small operations: spreading each of them over the cores gains less than
searching for different lines on each core. TensorFlow computes outside of Python's lock, so that
threads of one process suffice. Lines are divided between groups as `search_in_groups` makes them:
a line is searched beside the same other lines, whatever the number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from seq2seq_kit.decoding.groups import split_into_groups
from seq2seq_kit.inference.inputs import Inputs, Prefixes
from seq2seq_kit.inference.search import Found
from seq2seq_kit.machine import available_cores

# Parts of a chunk for each thread: enough that all threads end at about the same time.
_PARTS_PER_THREAD = 4

# The sum of the shares of calls, with room for rounding.
_ALL = 1 + 1e-6

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Chunk(NamedTuple):
    """Some lines whose outputs are asked for together."""

    inputs: Inputs
    """The lines, as arrays."""
    beginnings: Sequence[str]
    """The forced beginnings of their outputs; empty if there are none."""
    prefixes: Prefixes | None
    """The same as arrays; None if there are none, or they are in the prompts."""
    parts: list[np.ndarray]
    """int `(lines,)` each. The lines of each call of the search."""
    memory_share: float
    """The share of the memory for searches that each call needs."""


def num_threads(wanted: int, most: int) -> int:
    """Returns the number of threads that search at the same time.

    There is at most one for each core that this process may use and for each thread that
    TensorFlow has for operations, if the program has set their number.

    Args:
        wanted: At most this many; 0 for no such limit.
        most: The pieces of work that there are; for none or one, a thread is enough.
    """
    if tf.config.list_logical_devices("GPU"):  # It computes one search at a time anyway.
        return 1
    limits = (wanted, available_cores(), tf.config.threading.get_inter_op_parallelism_threads())
    return min(max(most, 1), *filter(None, limits))


def split_lines(lengths: np.ndarray, batch_size: int, threads: int) -> list[np.ndarray]:
    """Returns which lines each call of a search gets: whole groups, those of long lines first.

    Args:
        lengths: int `(lines,)`. Tokens of each line.
        batch_size: Lines of a group at most.
        threads: How many threads there are; for one, all lines are in one part.
    """
    if threads == 1:
        return [np.arange(len(lengths))]
    groups = split_into_groups(lengths, batch_size)
    size = -(-len(groups) // (threads * _PARTS_PER_THREAD))
    # Within a part in their order, so that the search makes the same groups of it.
    return [
        np.concatenate(groups[max(0, stop - size) : stop]) for stop in range(len(groups), 0, -size)
    ]


def search_chunks(
    chunks: Iterable[Chunk],
    search: Callable[[Inputs, Prefixes | None], Found],
    *,
    threads: int,
) -> Iterator[tuple[Chunk, list[Found]]]:
    """Yields each chunk, in order, with what is found for each of its parts.

    An error is raised once all chunks before it have been yielded.

    Args:
        chunks: The chunks; the next ones are asked for while earlier ones are searched.
        search: Searches for the outputs of some lines; called from several threads.
        threads: How many there are.
    """

    def jobs() -> Iterator[tuple[tuple[Chunk, np.ndarray], float]]:
        for chunk in chunks:
            yield from (((chunk, lines), chunk.memory_share) for lines in chunk.parts)

    def run(job: tuple[Chunk, np.ndarray]) -> tuple[Chunk, Found]:
        chunk, lines = job
        inputs = Inputs(*(part[lines] for part in chunk.inputs))
        prefixes = chunk.prefixes and Prefixes(*(part[lines] for part in chunk.prefixes))
        return chunk, search(inputs, prefixes)

    found: list[Found] = []
    for chunk, result in map_ahead(run, jobs(), threads=threads):
        found.append(result)
        if len(found) == len(chunk.parts):
            yield chunk, found
            found = []


def map_ahead(
    function: Callable[[_Item], _Result], items: Iterable[tuple[_Item, float]], *, threads: int
) -> Iterator[_Result]:
    """Yields the result of a function for each item, in order, computed by threads ahead of time.

    An error, of the function or of the items, is raised in its place in the order. Once it is, or
    the consumer leaves, no further call begins; those that run end unheard.

    Args:
        function: Called with each item.
        items: Each with the share that its call needs of the memory for all calls: those that run
            or wait to be yielded need no more than all of it, except for one call alone, and are
            four for each thread at most.
        threads: How many calls run at the same time; with one, each runs when it is asked for, in
            the thread that asks.
    """
    if threads == 1:
        for item, _ in items:
            yield function(item)
        return
    executor = ThreadPoolExecutor(threads, thread_name_prefix="search")
    pending: deque[tuple[Future[_Result], float]] = deque()
    failure: Exception | None = None
    iterator = iter(items)
    try:
        while True:
            try:
                item, share = next(iterator)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            share = max(share, 1 / (threads * _PARTS_PER_THREAD))
            while pending and sum(used for _, used in pending) + share > _ALL:
                yield pending.popleft()[0].result()
            pending.append((executor.submit(function, item), share))
        while pending:
            yield pending.popleft()[0].result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
