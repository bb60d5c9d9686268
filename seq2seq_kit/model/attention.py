"""Attention: how decoder states read from encoder outputs. Knows neither encoder nor decoder."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq_kit.model.alteration import AttentionOverride
from seq2seq_kit.model.lstm import uniform
from seq2seq_kit.model.matmul import Projection


class Memory(NamedTuple):
    """What attention reads, computed once for each source."""

    values: Any
    """float `(batch, source_time, features)`. The encoder outputs."""
    keys: Any
    """float `(batch, source_time, units)`. Their projection, which queries are compared with."""
    mask: Any
    """bool `(batch, source_time)`. True = real token."""


class Attention(keras.layers.Layer):
    """Base class of both kinds: keys, the masked softmax and the weighted sum.

    Args:
        units: Size of the keys.
        init_scale: Weights start uniform in +-init_scale.

    Call arguments:
        query: float `(batch, time, features)`.
        memory: A `Memory` made by `memorize`.

    Returns:
        The contexts, float `(batch, time, memory_features)`, and the attention weights, float
        `(batch, time, source_time)`: each row sums to 1 and is 0 at padding.
    """

    def __init__(self, units: int, *, init_scale: float = 0.1, **kwargs: Any) -> None:
        # Not the policy that other code in the process may have set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.units = units
        self.init_scale = init_scale
        self.key_projection = self._projection("key_projection")
        self.override: AttentionOverride | None = None
        """Replaces the weights of some steps, if `alter` was called."""

    def alter(self) -> AttentionOverride:
        """Returns the override of the weights, with which the layer computes from now on.

        Graphs that were traced before do not have it.
        """
        if self.override is None:
            self.override = AttentionOverride()
        return self.override

    def _projection(self, name: str) -> Projection:
        return Projection(
            self.units,
            use_bias=False,
            kernel_initializer=uniform(self.init_scale),
            dtype=self.dtype_policy.name,
            name=name,
        )

    def build(self, query_dim: int, values_dim: int) -> None:
        """Creates the weights for queries and memory values of the given sizes."""
        self.key_projection.build((None, None, values_dim))
        self.built = True

    def compute_output_shape(self, query_dim: int, values_dim: int) -> tuple[int | None, ...]:
        # Of the contexts alone: what a summary shows.
        return (None, None, values_dim)

    def memorize(self, values: Any, mask: Any) -> Memory:
        """Returns the `Memory` of encoder outputs `(batch, source_time, features)`."""
        return Memory(values, self.key_projection(values), mask)

    def call(self, query: Any, memory: Memory) -> tuple[Any, Any]:
        scores = _masked(self.score(query, memory.keys), memory.mask)
        weights = ops.softmax(scores, axis=-1)
        if self.override is not None:
            weights = self.override(weights, tf.range(tf.shape(weights)[1]))
        return ops.matmul(ops.cast(weights, memory.values.dtype), memory.values), weights

    def step(self, query: Any, memory: Memory, steps: Any = None) -> tuple[Any, Any]:
        """Computes what a call does, faster for few queries of each source, as in decoding.

        Each query is multiplied alone. oneDNN, which computes the products and the softmax of a
        call, needs 30 microseconds to start on all cores before it computes anything.

        Args:
            query: float `(batch, rows, features)`.
            memory: A `Memory` made by `memorize`.
            steps: int32 `(batch, rows)`. The step of each row; only an override needs it.

        Returns:
            As a call does, for `rows` instead of `time`.
        """
        scores = _masked(self.score_each(query, memory.keys), memory.mask)
        exps = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
        weights = exps / tf.reduce_sum(exps, axis=-1, keepdims=True)
        if self.override is not None:
            weights = self.override(weights, steps)
        values = memory.values[:, None]
        context = _product_each(tf.expand_dims(ops.cast(weights, values.dtype), 2), values)
        return context[:, :, 0], weights

    def score(self, query: Any, keys: Any) -> Any:
        """Returns how well each query fits each key, float `(batch, time, source_time)`."""
        raise NotImplementedError

    def score_each(self, query: Any, keys: Any) -> Any:
        """Computes what `score` does, with a product for each query."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("seq2seq_kit")
class MultiplicativeAttention(Attention):
    """Compares a query `q` with a key `k = W v` by their product, `q . k`.

    Cheap, one matrix product; `units` must be the size of the query. Arguments as in `Attention`.

    Reference: Luong et al., 2015, section 3.1 ("general"), https://arxiv.org/abs/1508.04025
    """

    def build(self, query_dim: int, values_dim: int) -> None:
        if query_dim != self.units:
            raise ValueError(
                f"Multiplicative attention needs `units` equal to the size of the query. "
                f"Received: units={self.units}, query size {query_dim}. Use AdditiveAttention "
                f"for queries of another size."
            )
        super().build(query_dim, values_dim)

    def score(self, query: Any, keys: Any) -> Any:
        return ops.einsum("btu,bsu->bts", query, keys)

    def score_each(self, query: Any, keys: Any) -> Any:
        return _product_each(query[:, :, None, :], keys[:, None], adj_y=True)[:, :, 0]


@keras.saving.register_keras_serializable("seq2seq_kit")
class AdditiveAttention(Attention):
    """Compares a query `q` with a key `k = W v` by a small network, `u . tanh(Q q + k)`.

    Costs `time * source_time * units` hyperbolic tangents. Arguments as in `Attention`.

    Reference: Bahdanau et al., 2015, appendix A.1.2, https://arxiv.org/abs/1409.0473
    """

    def __init__(self, units: int, *, init_scale: float = 0.1, **kwargs: Any) -> None:
        super().__init__(units, init_scale=init_scale, **kwargs)
        self.query_projection = self._projection("query_projection")

    def build(self, query_dim: int, values_dim: int) -> None:
        self.query_projection.build((None, None, query_dim))
        self.score_vector = self.add_weight(
            shape=(self.units,), initializer=uniform(self.init_scale), name="score_vector"
        )
        super().build(query_dim, values_dim)

    def score(self, query: Any, keys: Any) -> Any:
        return ops.einsum("btsu,u->bts", self._hidden(query, keys), self.score_vector)

    def score_each(self, query: Any, keys: Any) -> Any:
        vector = ops.convert_to_tensor(self.score_vector)[:, None]
        return _product_each(self._hidden(query, keys), vector)[..., 0]

    def _hidden(self, query: Any, keys: Any) -> Any:
        """Returns the hidden layer of the network, float `(batch, time, source_time, units)`."""
        # (batch, time, 1, units) + (batch, 1, source_time, units)
        return ops.tanh(self.query_projection(query)[:, :, None, :] + keys[:, None, :, :])


def _masked(scores: Any, mask: Any) -> Any:
    """Returns float32 scores `(batch, time, source_time)`, so low at padding that it is ignored."""
    # A finite "minus infinity": a row of padding alone gives equal weights, not NaN.
    return ops.where(mask[:, None, :], ops.cast(scores, "float32"), -1e9)


def _product_each(left: Any, right: Any, **options: Any) -> Any:
    """Returns the matrix products of a batch, by the op that TensorFlow computes without oneDNN."""
    return tf.raw_ops.BatchMatMulV3(x=left, y=right, Tout=left.dtype, **options)
