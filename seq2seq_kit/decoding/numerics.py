"""Arithmetic whose bits for a row do not depend on the other rows, and fast top-k.

On a CPU the last numbers of a tensor, those that do not fill a vector register, are computed one by
one and can differ in the last bit. Selecting the best of many logits is fastest in blocks. Both are
matters of the machine, and what a search means does not depend on them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

BLOCK = 64
"""Columns that are compared together; logits whose number is a multiple need no padding."""

REGISTER = 16
"""float32 numbers in the widest vector register, 512 bits."""


class Blocks(NamedTuple):
    """Logits in blocks of `BLOCK` columns; the last block is padded with -infinity."""

    values: tf.Tensor
    """float32 `(lines, beam, blocks, BLOCK)`."""
    largest: tf.Tensor
    """float32 `(lines, beam, blocks)`. The largest value of each block."""


class Best(NamedTuple):
    """The best entries of a line, the best first; the order of equal ones is not defined."""

    rows: tf.Tensor
    """int32 `(lines, count)`. The row of the line that holds each."""
    columns: tf.Tensor
    """int32 `(lines, count)`."""
    values: tf.Tensor
    """float32 `(lines, count)`."""


def in_own_registers(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """Returns a function of each value, with bits that do not depend on their positions."""
    # A product with ones takes one operation; `tf.repeat` takes ten.
    return function(values[..., tf.newaxis] * tf.ones([REGISTER], values.dtype))[..., 0]


def log_normalizer(logits: tf.Tensor) -> tf.Tensor:
    """Returns the log of the sum of the exponentials, float32 `(rows,)`.

    Logits minus this are log-probabilities. It is computed from the largest probability, which
    cannot underflow: softmax is the fastest of the operations that pass over all logits.
    """
    largest = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    return tf.reduce_max(logits, axis=-1) - in_own_registers(tf.math.log, largest)


def num_columns(logits: tf.Tensor) -> int | tf.Tensor:
    """Returns the static number of columns, or where there is none the one at run time."""
    static: int | None = logits.shape[-1]
    return tf.shape(logits)[-1] if static is None else static


def pad_to_blocks(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits `(rows, columns)` with -infinity in more columns, up to whole blocks."""
    columns = num_columns(logits)
    missing = -(-columns // BLOCK) * BLOCK - columns
    return tf.pad(logits, [[0, 0], [0, missing]], constant_values=-math.inf)


def in_blocks(logits: tf.Tensor, beam: int) -> Blocks:
    """Returns float32 `(lines * beam, columns)` in blocks."""
    num_blocks = -(-num_columns(logits) // BLOCK)
    values = tf.reshape(pad_to_blocks(logits), (-1, beam, num_blocks, BLOCK))
    return Blocks(values, tf.reduce_max(values, axis=-1))


def best_of_line(blocks: Blocks, added: tf.Tensor, taken_off: tf.Tensor, count: int) -> Best:
    """Returns the best entries of each line over all its rows.

    They are in the `count` blocks whose largest values are best, so the other columns need not be
    ordered, which would take many times as long.

    Args:
        blocks: The logits.
        added: float32 `(lines, beam)`. Added to all entries of a row.
        taken_off: float32 `(lines, beam)`. Subtracted from all entries of a row.
        count: Entries to return.
    """
    lines, beam = tf.shape(added)[0], added.shape[1]
    static: int | None = blocks.values.shape[2]
    num_blocks = tf.shape(blocks.values)[2] if static is None else static
    largest = added[..., tf.newaxis] + (blocks.largest - taken_off[..., tf.newaxis])
    smaller = min if isinstance(num_blocks, int) else tf.minimum
    num_chosen = smaller(count, beam * num_blocks)
    chosen = tf.math.top_k(tf.reshape(largest, (lines, beam * num_blocks)), num_chosen).indices

    rows = chosen // num_blocks
    before = tf.gather(added, rows, batch_dims=1)
    off = tf.gather(taken_off, rows, batch_dims=1)
    values = tf.reshape(blocks.values, (lines, beam * num_blocks, BLOCK))
    inside = tf.gather(values, chosen, batch_dims=1) - off[..., tf.newaxis]
    inside = tf.reshape(before[..., tf.newaxis] + inside, (lines, num_chosen * BLOCK))
    best, places = tf.math.top_k(inside, count)
    place_of_block, column = places // BLOCK, places % BLOCK
    block = tf.gather(chosen, place_of_block, batch_dims=1) % num_blocks
    return Best(tf.gather(rows, place_of_block, batch_dims=1), block * BLOCK + column, best)


def best_of_first_row(blocks: Blocks) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the column of the largest logit in each line's first row, and that logit.

    Returns:
        int32 `(lines,)` and float32 `(lines,)`.
    """
    block = tf.argmax(blocks.largest[:, 0], axis=-1, output_type=tf.int32)
    values = tf.gather(blocks.values[:, 0], block, batch_dims=1)
    column = tf.argmax(values, axis=-1, output_type=tf.int32)
    return block * BLOCK + column, tf.reduce_max(values, axis=-1)
