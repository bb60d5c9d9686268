"""In which numbers matrix products are computed.

Everything else (gates, states, softmax, losses, the optimizer, the weights themselves) stays
float32: that is what keeps training in bfloat16 as good as in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

_factors: ContextVar[tf.DType] = ContextVar("factors", default=tf.float32)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Rounds the float32 factors of all products traced in the body, and of their gradients.

    Products are summed up in float32 inside the processor.

    Args:
        precision: "float32" or "bfloat16": 8 bits of mantissa. Twice as fast on processors that
            have it (AVX-512 BF16, AMX), slow on others.
    """
    token = _factors.set(tf.as_dtype(precision))
    try:
        yield
    finally:
        _factors.reset(token)


def has_bfloat16() -> bool | None:
    """Whether this processor multiplies bfloat16 faster than float32; None where nobody tells."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return None
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def as_factor(values: tf.Tensor) -> tf.Tensor:
    """Returns a factor as `product` will take it: for one that is used again and again."""
    return tf.cast(values, _factors.get()) if values.dtype == tf.float32 else values


def product(left: tf.Tensor, right: tf.Tensor, **options: Any) -> tf.Tensor:
    """Returns the matrix product of all rows, in the dtype of `left`.

    Args:
        left: float `(..., depth)`: the rows of all leading axes make up one product.
        right: float `(depth, columns)`.
        **options: `transpose_a`, `transpose_b` of `tf.matmul`.

    Returns:
        float `(..., columns)`.
    """
    left = tf.convert_to_tensor(left)
    if left.shape.rank == 2:
        factor = as_factor(left)
        return tf.cast(tf.matmul(factor, tf.cast(right, factor.dtype), **options), left.dtype)
    rows = product(tf.reshape(left, [-1, left.shape[-1]]), right, **options)
    outputs = tf.reshape(rows, tf.concat([tf.shape(left)[:-1], tf.shape(rows)[1:]], axis=0))
    outputs.set_shape([*left.shape[:-1], rows.shape[-1]])
    return outputs


@keras.saving.register_keras_serializable("seq2seq_kit")
class Projection(keras.layers.Dense):
    """`keras.layers.Dense` with its product as `products_in` says."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = product(inputs, tf.convert_to_tensor(self.kernel))
        return self.activation(outputs + self.bias if self.use_bias else outputs)
