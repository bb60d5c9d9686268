"""Runs a search over many lines in groups, so that no line's result depends on its neighbours.

On a CPU the bits of an attention sum depend on the padded length, those of a matrix product on the
number of rows, and those of a sigmoid on whether it is among the last numbers of a tensor, which do
not fill a vector register. Here each line is padded to the same length, given by its own, and each
group has one of a few row counts at which rows come out bit for bit alike (see
docs/decisions/0004-groups-of-fixed-size.md); missing rows are copies of the group's first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.decoding.numerics import REGISTER
from seq2seq_kit.decoding.protocol import SearchResult

LENGTH_STEP = 4
"""A line is padded to a multiple of this number of tokens."""

LARGEST_GROUP = 64
"""Lines that are searched together at most."""


def group_sizes(width: int) -> tuple[int, ...]:
    """Returns the numbers of lines of which a group has one, the smallest that holds it.

    Args:
        width: A number that divides the row sizes of all tensors that a sigmoid is taken of: all
            rows of the smallest group fill whole registers.
    """
    smallest = 4 if 4 * width % REGISTER == 0 else REGISTER
    return tuple(size for size in (4, 8, 16, 32, 48, LARGEST_GROUP) if size >= smallest)


def split_into_groups(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Returns the lines of each group that `search_in_groups` makes, in its order.

    Args:
        lengths: int `(lines,)`. Real tokens of each line, at least 1.
        batch_size: Lines searched together at most.
    """
    steps = -(-lengths // LENGTH_STEP)
    order = np.argsort(steps, kind="stable")
    _, firsts = np.unique(steps[order], return_index=True)
    alike = np.split(order, firsts[1:])
    size = min(batch_size, LARGEST_GROUP)
    return [lines[first : first + size] for lines in alike for first in range(0, len(lines), size)]


def search_in_groups(
    search: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], SearchResult],
    source_ids: tf.Tensor,
    lengths: tf.Tensor,
    *,
    sizes: Sequence[int],
    max_length: tf.Tensor | int,
    num_hypotheses: tf.Tensor | int,
    batch_size: tf.Tensor | int = LARGEST_GROUP,
    pad_id: int = 0,
) -> SearchResult:
    """Returns what `search` finds for each line, in the order of the lines.

    Args:
        search: As `function` in `map_in_groups`; gives a `SearchResult`.
        source_ids: int32 `(lines, time)`, right-padded; no line empty.
        lengths: int32 `(lines,)`. Real tokens of each line, at least 1.
        sizes: Numbers of lines that a group may have, from `group_sizes`.
        max_length: Columns of the result's `token_ids`, less one.
        num_hypotheses: Hypotheses a line, as given to the search.
        batch_size: Lines searched together at most.
        pad_id: The padding of `source_ids`.
    """
    empty = _no_results([tf.shape(source_ids)[0], num_hypotheses], max_length, pad_id)
    found: SearchResult = map_in_groups(
        search, source_ids, lengths, empty, sizes=sizes, batch_size=batch_size, pad_id=pad_id
    )
    return found


def map_in_groups(
    function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Any],
    source_ids: tf.Tensor,
    lengths: tf.Tensor,
    empty: Any,
    *,
    sizes: Sequence[int],
    batch_size: tf.Tensor | int = LARGEST_GROUP,
    pad_id: int = 0,
) -> Any:
    """Returns what a function gives for each line, in the order of the lines.

    Args:
        function: Takes int32 `(rows, time)` ids, right-padded, int32 `(rows,)`, the line of each,
            and bool `(rows,)`, True where a row is a copy whose result is not wanted; gives a
            nest of tensors with leading axis `rows`.
        source_ids: int32 `(lines, time)`, right-padded; no line empty.
        lengths: int32 `(lines,)`. Real tokens of each line, at least 1.
        empty: A nest like the result, with leading axis `lines`.
        sizes: Numbers of lines that a group may have, from `group_sizes`.
        batch_size: Lines of a group at most.
        pad_id: The padding of `source_ids`.
    """
    num_lines = tf.shape(source_ids)[0]
    batch_size = tf.minimum(batch_size, max(sizes))
    source_ids, padded = _pad_to_steps(source_ids, lengths, pad_id)
    order = tf.argsort(padded, stable=True)
    padded = tf.gather(padded, order)

    def group(first: tf.Tensor, results: Any) -> tuple[tf.Tensor, Any]:
        alike = tf.reduce_sum(tf.cast(padded[first:] == padded[first], tf.int32))
        count = tf.minimum(alike, batch_size)
        rows = order[first : first + count]
        size = tf.reduce_min(tf.boolean_mask(sizes, tf.constant(sizes) >= count))
        fill = tf.fill([size - count], rows[0])
        filled = tf.concat([rows, fill], axis=0)
        ids = tf.gather(source_ids, filled)[:, : padded[first]]
        found = function(ids, filled, tf.range(size) >= count)
        return first + count, tf.nest.map_structure(
            lambda whole, new: tf.tensor_scatter_nd_update(whole, rows[:, tf.newaxis], new[:count]),
            results,
            found,
        )

    return tf.while_loop(
        lambda first, _: first < num_lines, group, (tf.constant(0), empty), parallel_iterations=1
    )[1]


def _pad_to_steps(
    source_ids: tf.Tensor, lengths: tf.Tensor, pad_id: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns ids that are wide enough for each line's padded length, and these lengths."""
    padded = -(-lengths // LENGTH_STEP) * LENGTH_STEP
    missing = tf.maximum(0, tf.reduce_max(padded, 0) - tf.shape(source_ids)[1])
    return tf.pad(source_ids, [[0, 0], [0, missing]], constant_values=pad_id), padded


def _no_results(shape: Sequence[Any], max_length: tf.Tensor | int, pad_id: int) -> SearchResult:
    """Returns a result to be filled, of empty hypotheses in a shape `(lines, hypotheses)`."""
    return SearchResult(
        tf.fill([*shape, max_length + 1], pad_id),
        tf.zeros(shape, tf.int32),
        tf.zeros(shape),
        tf.zeros(shape),
        tf.zeros(shape, tf.bool),
    )
