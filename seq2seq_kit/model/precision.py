"""In which numbers matrix products are computed.

Everything else (gates, states, softmax, losses, the optimizer, the weights themselves) stays
float32: that is what keeps training in bfloat16 as good as in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class PreparedWeights:
    """What is made of weights that do not change, once: rounded, stacked, turned round.

    Args:
        keep: Whether the weights never change again, as in an export: what is made is then kept as
            variables. Otherwise they stay as they are in one graph, in which it is made before any
            loop of it.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.variables: list[tf.Variable] = []
        """What is kept."""
        self._graph = None if keep else tf.compat.v1.get_default_graph()
        self._made: dict[tuple[Any, ...], Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], tf.Tensor]) -> tf.Tensor:
        """Returns what was made under this key, or makes it."""
        if key not in self._made:
            if self._graph is not None:
                with self._graph.as_default():
                    self._made[key] = make()
            else:
                with tf.init_scope():
                    self._made[key] = tf.Variable(make(), trainable=False)
                self.variables.append(self._made[key])
        return tf.convert_to_tensor(self._made[key])


class _Factors(NamedTuple):
    dtype: tf.DType  # what float32 factors are rounded to
    prepared: PreparedWeights | None  # None where weights may change


_EXACT = _Factors(tf.float32, None)
_factors = ContextVar("factors", default=_EXACT)


@contextmanager
def products_in(precision: str, prepared: PreparedWeights | None = None) -> Iterator[None]:
    """Rounds the float32 factors of all products traced in the body, and of their gradients.

    Products are summed up in float32 inside the processor.

    Args:
        precision: "float32" or "bfloat16": 8 bits of mantissa. Twice as fast on processors that
            have it (AVX-512 BF16, AMX), slow on others.
        prepared: Where weights stay as they are, in a search: what it makes of them.
    """
    token = _factors.set(_Factors(tf.as_dtype(precision), prepared))
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


def as_factor(value: Any) -> tf.Tensor:
    """Returns a factor as `product` will take it: for one that is used again and again."""
    factor = tf.convert_to_tensor(value)
    return tf.cast(factor, _factors.get().dtype) if factor.dtype == tf.float32 else factor


def weight_factor(*weights: keras.Variable, transpose: bool = False) -> tf.Tensor:
    """Returns weights for `product`: in a search as it will take them, made once.

    Elsewhere, in training, they are as they are: their gradients are not to be rounded.

    Args:
        *weights: float `(rows, columns)`. Several are stacked, one below the other.
        transpose: Turn the rows to columns.
    """

    def make() -> tf.Tensor:
        tensors = [tf.convert_to_tensor(weight) for weight in weights]
        whole = tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)
        return tf.transpose(whole) if transpose else whole

    prepared = _factors.get().prepared
    if prepared is None:
        return make()
    return prepared.get((transpose, *map(id, weights)), lambda: as_factor(make()))


def product(left: tf.Tensor, right: Any, **options: Any) -> tf.Tensor:
    """Returns the matrix product of all rows, in the dtype of `left`.

    Args:
        left: float `(..., depth)`: the rows of all leading axes make up one product.
        right: float `(depth, columns)`: a tensor or a variable.
        **options: `transpose_a`, `transpose_b` of `tf.matmul`.

    Returns:
        float `(..., columns)`.
    """
    left = tf.convert_to_tensor(left)
    if left.shape.rank == 2:
        factor = as_factor(left)
        right = tf.cast(as_factor(right), factor.dtype)
        return tf.cast(tf.matmul(factor, right, **options), left.dtype)
    rows = product(tf.reshape(left, [-1, left.shape[-1]]), right, **options)
    outputs = tf.reshape(rows, tf.concat([tf.shape(left)[:-1], tf.shape(rows)[1:]], axis=0))
    outputs.set_shape([*left.shape[:-1], rows.shape[-1]])
    return outputs


@keras.saving.register_keras_serializable("seq2seq_kit")
class Projection(keras.layers.Dense):
    """`keras.layers.Dense` with its product as `products_in` says."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = product(inputs, weight_factor(self.kernel))
        return self.activation(outputs + self.bias if self.use_bias else outputs)
