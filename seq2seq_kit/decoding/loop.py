"""Takes the steps of a search: all of them in a graph, or one at a time from Python."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from seq2seq_kit.decoding.protocol import Search, SearchInputs, SearchResult


def run(search: Search, inputs: SearchInputs, *, row_counts: Sequence[int] = ()) -> SearchResult:
    """Runs a search to its end; for graphs, an export among them.

    Whenever the lines that are not done fit into one of `row_counts`, the others leave the batch.

    Args:
        search: The search.
        inputs: Where it begins.
        row_counts: Numbers of lines, less than that of `inputs`, to which the batch may shrink;
            without any, lines that are done stay in it.

    Returns:
        The hypotheses of all lines.
    """

    def goes_on(record: Any) -> tf.Tensor:
        return (record.time <= search.max_length) & ~tf.reduce_all(record.done)

    def run_until_it_shrinks(
        record: Any, memory: Any, lines: tf.Tensor, found: SearchResult
    ) -> tuple[Any, Any, tf.Tensor, SearchResult]:
        counts = tf.constant([0, *row_counts])
        fewer = tf.reduce_max(tf.boolean_mask(counts, counts < tf.size(lines)))
        record = run_while(
            lambda record: goes_on(record) & (_num_going_on(record) > fewer),
            lambda record: (search.step(record, memory),),
            (record,),
        )[0]
        found = tf.nest.map_structure(
            lambda whole, part: tf.tensor_scatter_nd_update(whole, lines[:, tf.newaxis], part),
            found,
            search.finish(record),
        )
        chosen = _rows_going_on(record, fewer)
        memory = tf.nest.map_structure(lambda part: tf.gather(part, chosen), memory)
        return search.take(record, chosen), memory, tf.gather(lines, chosen), found

    start = search.start(inputs)
    if not row_counts:
        end = run_while(goes_on, lambda r: (search.step(r, inputs.memory),), (start,))[0]
        return search.finish(end)
    lines = tf.range(tf.size(start.done))
    first = (start, inputs.memory, lines, search.finish(start))
    found: SearchResult = run_while(
        lambda record, *_: goes_on(record), run_until_it_shrinks, first
    )[-1]
    return found


def stream(
    step: Callable[[Any], Any], record: Any, *, max_length: tf.Tensor | int
) -> Iterator[Any]:
    """Takes the steps of a search one at a time, from Python, and yields the record after each.

    Args:
        step: Takes a step: the `step` of a search, with the memory, or a graph of it.
        record: The record before the first step.
        max_length: Tokens of a hypothesis at most, EOS not counted.
    """
    while record.time <= max_length and not tf.reduce_all(record.done):
        record = step(record)
        yield record


def run_while(condition: Callable[..., tf.Tensor], body: Callable[..., Any], start: Any) -> Any:
    """Runs a while loop whose tensors keep their rank, but not the size of each axis."""
    shapes = tf.nest.map_structure(
        lambda part: tf.TensorShape([None, *part.shape[1:]]) if part.shape.rank else part.shape,
        start,
    )
    return tf.while_loop(condition, body, start, shape_invariants=shapes)


def _num_going_on(record: Any) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(~record.done, tf.int32))


def _rows_going_on(record: Any, count: tf.Tensor) -> tf.Tensor:
    """Returns the rows that are not done, as many as `count`.

    Missing rows are copies of the first unfinished line's: it gets the same result in each of its
    rows.
    """
    rows = tf.cast(tf.where(~record.done)[:, 0], tf.int32)
    fill = tf.fill([tf.maximum(count - tf.size(rows), 0)], tf.concat([rows, [0]], 0)[0])
    return tf.concat([rows, fill], 0)
