"""Matrix products, and the precision of their operands.

Everything else (gates, states, softmax, losses, the optimizer, the weights themselves) stays
float32: that is what keeps training in bfloat16 as good as in float32.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class WeightCache:
    """Operands made from weights that do not change: rounded, stacked or transposed only once.

    Args:
        keep: Whether the weights never change again, as in an export: the operands are then kept
            as variables. Otherwise the weights stay the same within one graph, and the operands are
            computed in it before any of its loops.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.variables: list[tf.Variable] = []
        """The operands that are kept."""
        self._graph = None if keep else tf.compat.v1.get_default_graph()
        self._operands: dict[tuple[Any, ...], Any] = {}

    @property
    def operands(self) -> dict[tuple[Any, ...], tf.Variable]:
        """The operands that are kept, by their keys.

        Those of `weight_operand` are: whether it is transposed, and the identities of its weights.
        """
        return {} if self._graph is not None else self._operands

    def get(self, key: tuple[Any, ...], make: Callable[[], tf.Tensor]) -> tf.Tensor:
        """Returns the operand that is cached under this key, or makes it."""
        if key not in self._operands:
            if self._graph is not None:
                with self._graph.as_default():
                    self._operands[key] = make()
            else:
                with tf.init_scope():
                    operand = make()
                self._operands[key] = _make_variable(operand)
                self.variables.append(self._operands[key])
        return tf.convert_to_tensor(self._operands[key])


def _make_variable(value: tf.Tensor) -> tf.Variable:
    """Returns a variable that a function which is being traced does not take for one of its own.

    After a trace that has made variables, `tf.function` traces a second time, to be sure that it
    makes none at each call. Which thread is tracing is a matter of threads, so that another one
    makes a variable unnoticed.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(tf.Variable, value, trainable=False).result()


class _Settings(NamedTuple):
    dtype: tf.DType  # that float32 operands are rounded to
    cache: WeightCache | None  # None where weights may change


_EXACT = _Settings(tf.float32, None)
_settings = ContextVar("settings", default=_EXACT)


@contextmanager
def matmul_precision(precision: str, cache: WeightCache | None = None) -> Iterator[None]:
    """Rounds the float32 operands of all products traced in the body, and of their gradients.

    The processor sums up the products in float32.

    Args:
        precision: "float32" or "bfloat16": 8 bits of mantissa. Twice as fast on processors with
            instructions for it (AVX-512 BF16, AMX), slow on others.
        cache: For a search, in which weights do not change: the cache of their operands.
    """
    token = _settings.set(_Settings(tf.as_dtype(precision), cache))
    try:
        yield
    finally:
        _settings.reset(token)


def has_bfloat16() -> bool | None:
    """Whether this processor multiplies bfloat16 faster than float32; None if it is unknown."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return None
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def as_operand(value: Any) -> tf.Tensor:
    """Returns a tensor in the dtype in which `product` reads it, to round it once for many uses."""
    operand = tf.convert_to_tensor(value)
    return tf.cast(operand, _settings.get().dtype) if operand.dtype == tf.float32 else operand


def weight_operand(*weights: keras.Variable, transpose: bool = False) -> tf.Tensor:
    """Returns weights as an operand of `product`: in a search rounded, and cached.

    Elsewhere, in training, they are not rounded here, so that their gradients are not either.

    Args:
        *weights: float `(rows, columns)`. Several are stacked, one below the other.
        transpose: Whether to transpose them.
    """

    def make() -> tf.Tensor:
        tensors = [tf.convert_to_tensor(weight) for weight in weights]
        whole = tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)
        return tf.transpose(whole) if transpose else whole

    cache = _settings.get().cache
    if cache is None:
        return make()
    return cache.get((transpose, *map(id, weights)), lambda: as_operand(make()))


def product(left: tf.Tensor, right: Any, **options: Any) -> tf.Tensor:
    """Returns the matrix product of all rows, in the dtype of `left`.

    Args:
        left: float `(..., depth)`: the rows of all leading axes are multiplied at once.
        right: float `(depth, columns)`: a tensor or a variable.
        **options: `transpose_a`, `transpose_b` of `tf.matmul`.

    Returns:
        float `(..., columns)`.
    """
    left = tf.convert_to_tensor(left)
    if left.shape.rank == 2:
        operand = as_operand(left)
        right = tf.cast(as_operand(right), operand.dtype)
        return tf.cast(tf.matmul(operand, right, **options), left.dtype)
    rows = product(tf.reshape(left, [-1, left.shape[-1]]), right, **options)
    outputs = tf.reshape(rows, tf.concat([tf.shape(left)[:-1], tf.shape(rows)[1:]], axis=0))
    outputs.set_shape([*left.shape[:-1], rows.shape[-1]])
    return outputs


@keras.saving.register_keras_serializable("seq2seq_kit")
class Projection(keras.layers.Dense):
    """`keras.layers.Dense` with its product in the precision of `matmul_precision`."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = product(inputs, weight_operand(self.kernel))
        return self.activation(outputs + self.bias if self.use_bias else outputs)
