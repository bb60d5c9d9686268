"""Weights of an export in compact form, which are expanded once, at the first call.

The file holds float16, bfloat16, or int8 with scales; in memory there are float32 operands, so that
searching is as fast as with float32 weights. Variables that are empty in the file receive them. It
is all within the graph: a loader needs to know nothing of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.pretrained.compact import scales_of


class _Matrix(NamedTuple):
    """A weight in both forms."""

    weight: keras.Variable
    stored: tf.Variable  # as in the file
    scales: tf.Variable | None  # float32; None where the form has none
    expanded: "_Late"

    def expand(self) -> tf.Tensor:
        """Returns the float32 values, computed from what is stored."""
        values = tf.cast(self.stored, tf.float32)
        return values if self.scales is None else values * self.scales


class _Late:
    """A variable that has no rows until the first call.

    Args:
        shape: Its shape from then on.
        dtype: Its type.
    """

    def __init__(self, shape: Sequence[int], dtype: tf.DType) -> None:
        self._shape = tuple(shape)
        self.variable = tf.Variable(
            tf.zeros([0, *shape[1:]], dtype), shape=[None, *shape[1:]], trainable=False
        )

    def read(self) -> tf.Tensor:
        """Returns the value, with its shape."""
        return tf.ensure_shape(self.variable.read_value(), self._shape)


class CompactWeights:
    """The matrices of a network in compact form.

    Args:
        weights: The trainable variables of the network.
        arrays: What `compact` made of them.
        precision: As in `matmul_precision`, of the operands.
    """

    def __init__(
        self,
        weights: Sequence[keras.Variable],
        arrays: Mapping[str, np.ndarray],
        precision: str,
    ) -> None:
        self._precision = precision
        self._matrices = [
            _matrix(weight, arrays, f"weights/{place}")
            for place, weight in enumerate(weights)
            if len(weight.shape) > 1
        ]
        self._is_ready = tf.Variable(False, trainable=False)
        self.cache = _LateCache(self._matrices)
        """The operands of products; its graphs read them from variables without rows."""

    def in_graph(self) -> keras.StatelessScope:
        """Returns a scope in which the network reads the expanded matrices, to trace graphs in."""
        return _Reading({id(one.weight): one.expanded for one in self._matrices})

    @property
    def stored(self) -> dict[int, tuple[tf.Variable, tf.Variable | None]]:
        """Each matrix as in the file, with its scales, by the identity of the weight."""
        return {id(one.weight): (one.stored, one.scales) for one in self._matrices}

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables that graphs may read."""
        stored = [
            part
            for one in self._matrices
            for part in (one.stored, one.scales, one.expanded.variable)
            if part is not None
        ]
        return [*stored, self._is_ready]

    def ready(self, functions: Sequence[Any]) -> Callable[[], tf.Tensor]:
        """Returns what expands, within a graph, all weights that functions read.

        Args:
            functions: Traced functions.
        """
        read = {id(tensor) for function in functions for tensor in function.captured_inputs}

        def expand() -> tf.Tensor:
            values = [(one.weight, one.expand()) for one in self._matrices]
            assigned = []
            for one, (_, value) in zip(self._matrices, values, strict=True):
                if id(one.expanded.variable.handle) in read:
                    assigned.append(one.expanded.variable.assign(value, read_value=False))
            with keras.StatelessScope(values), matmul_precision(self._precision):
                for late, make in self.cache.made:
                    assigned.append(late.variable.assign(make(), read_value=False))
            # The last one: another thread that sees it finds all weights.
            with tf.control_dependencies(assigned):
                return tf.group(self._is_ready.assign(True, read_value=False))

        return lambda: tf.cond(self._is_ready.read_value(), tf.no_op, expand)


class _Reading(keras.StatelessScope):
    """A scope in which some Keras variables have the values of others.

    Args:
        late: Those, by the identity of the variable.
    """

    def __init__(self, late: Mapping[int, _Late]) -> None:
        super().__init__()
        self._late = late

    def get_current_value(self, variable: keras.Variable) -> tf.Tensor | None:
        """Returns the value, read in the graph that asks for it; None for other variables."""
        late = self._late.get(id(variable))
        return None if late is None else late.read()


class _LateCache(WeightCache):
    """A cache whose operands are computed from the expanded weights at the first call."""

    def __init__(self, matrices: Sequence[_Matrix]) -> None:
        super().__init__(keep=True)
        self._matrices = matrices
        self._late: dict[tuple[Any, ...], _Late] = {}
        self.made: list[tuple[_Late, Callable[[], tf.Tensor]]] = []
        """Each operand, and what computes it from the weights."""

    def get(self, key: tuple[Any, ...], make: Callable[[], tf.Tensor]) -> tf.Tensor:
        """Returns the operand that is cached under this key."""
        if key not in self._late:
            values = [(one.weight, one.weight._value) for one in self._matrices]
            with tf.init_scope(), keras.StatelessScope(values):
                operand = make()
                late = _Late(operand.shape.as_list(), operand.dtype)
            self._late[key] = late
            self.made.append((late, make))
            self.variables.append(late.variable)
        return self._late[key].read()


def _matrix(weight: keras.Variable, arrays: Mapping[str, np.ndarray], name: str) -> _Matrix:
    array = arrays[name]
    if array.dtype == np.uint16:  # The bits of bfloat16.
        array = array.view(tf.bfloat16.as_numpy_dtype)
    scales = scales_of(name, arrays) if array.dtype == np.int8 else None
    return _Matrix(
        weight,
        tf.Variable(array, trainable=False),
        None if scales is None else tf.Variable(scales, trainable=False),
        _Late(array.shape, tf.float32),
    )
