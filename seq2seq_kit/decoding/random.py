"""A counter-based random generator: each draw is a pure function of a key and a counter.

Unlike TensorFlow's stateless random ops it has a key for each row, so that a row's draws do not
depend on the rows beside it, and it gives the same numbers on every platform: integer arithmetic
only. It is Threefry-2x32 with 20 rounds (Salmon et al., 2011, https://doi.org/10.1145/2063384.2063405),
which JAX uses too. Not for secrets.
"""

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF


def threefry(key: tf.Tensor, counter: tf.Tensor) -> tf.Tensor:
    """Returns 64 random bits for each key and counter.

    Args:
        key: int64 `(..., 2)`. Two words of 32 bits, each from 0 to 2**32 - 1.
        counter: int64 `(..., 2)`. Likewise.

    Returns:
        int64 `(..., 2)`. Likewise.

    Example:

    >>> [hex(word) for word in threefry(tf.zeros(2, tf.int64), tf.zeros(2, tf.int64)).numpy()]
    ['0x6b200159', '0x99ba4efe']
    """
    # int64 holds a sum of two words and a word that is shifted: both are then cut to 32 bits.
    first_key, second_key = tf.unstack(key, axis=-1)
    keys = (first_key, second_key, first_key ^ second_key ^ _PARITY)
    first, second = tf.unstack(counter, axis=-1)
    first, second = (first + keys[0]) & _MASK, (second + keys[1]) & _MASK
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = (first + second) & _MASK
            low = tf.bitwise.left_shift(second, tf.constant(rotation, tf.int64)) & _MASK
            high = tf.bitwise.right_shift(second, tf.constant(32 - rotation, tf.int64))
            second = (low | high) ^ first
        first = (first + keys[(group + 1) % 3]) & _MASK
        second = (second + keys[(group + 2) % 3] + group + 1) & _MASK
    return tf.stack([first, second], axis=-1)


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Returns a number from 0 up to, not including, 1 for each word of 32 bits.

    Args:
        bits: int64, any shape. Words from 0 to 2**32 - 1.

    Returns:
        float32, the same shape: a multiple of 2**-24, each of them equally likely.
    """
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.int64)), tf.float32) * 2.0**-24


def line_key(line_hashes: tf.Tensor, seed: tf.Tensor | int) -> tf.Tensor:
    """Returns the key of each line.

    Args:
        line_hashes: int64 `(lines,)`. A hash of each line's text, 0 or more.
        seed: From 0 to 2**32 - 1.

    Returns:
        int64 `(lines, 2)`.
    """
    high = tf.bitwise.right_shift(line_hashes, tf.constant(32, tf.int64))
    words = tf.stack([line_hashes & _MASK, high], axis=-1)
    seed = tf.cast(seed, tf.int64)
    return threefry(words, tf.broadcast_to(tf.stack([seed, 0]), tf.shape(words)))
