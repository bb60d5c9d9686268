"""The training loss: cross-entropy over real tokens only."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class CrossEntropy(NamedTuple):
    """Cross-entropy of each position, in nats."""

    loss: tf.Tensor
    """float32 `(batch, time)`. With label smoothing: what training minimises."""
    negative_log_likelihood: tf.Tensor
    """float32 `(batch, time)`. Without: what perplexity is made of."""


def cross_entropy(
    logits: tf.Tensor, target_ids: tf.Tensor, *, label_smoothing: float = 0.0
) -> CrossEntropy:
    """Returns the cross-entropy of each position; the caller weighs and sums.

    With smoothing `e` the target distribution is `1 - e` on the right token plus `e / vocab_size`
    on every token (Szegedy et al., 2016, section 7, https://arxiv.org/abs/1512.00567).

    Args:
        logits: float `(batch, time, vocab_size)`.
        target_ids: int32 `(batch, time)`.
        label_smoothing: The share `e`, at least 0 and below 1.

    Returns:
        Both kinds, float32 `(batch, time)`.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(
            f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
        )
    logits = tf.cast(logits, tf.float32)
    shape = tf.shape(target_ids)
    flat_logits = tf.reshape(logits, (-1, logits.shape[-1]))
    targets = tf.cast(tf.reshape(target_ids, [-1]), tf.int32)  # NumPy's own integers have 64 bits.
    loss, nll = _flat_cross_entropy(flat_logits, targets, label_smoothing)
    return CrossEntropy(tf.reshape(loss, shape), tf.reshape(nll, shape))


def _flat_cross_entropy(
    logits: tf.Tensor, targets: tf.Tensor, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropy of rows with the gradient written out.

    On a CPU the passes over `(rows, vocab_size)` cost as much as the product that made the
    logits; here it is one softmax forward and one multiply and a scatter backward, where automatic
    differentiation makes eight passes.
    """
    indices = tf.stack([tf.range(tf.shape(targets)[0]), targets], axis=1)

    @tf.custom_gradient
    def compute(
        logits: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        probabilities = tf.nn.softmax(logits)
        # log(sum(exp(logits))), from the largest probability because it cannot underflow.
        log_normalizer = tf.reduce_max(logits, axis=-1) - tf.math.log(
            tf.reduce_max(probabilities, axis=-1)
        )
        nll = log_normalizer - tf.gather_nd(logits, indices)
        loss = (1 - smoothing) * nll
        if smoothing:
            loss += smoothing * (log_normalizer - tf.reduce_mean(logits, axis=-1))

        def gradient(loss_grad: tf.Tensor, nll_grad: tf.Tensor) -> tf.Tensor:
            on_target = loss_grad * (1 - smoothing) + nll_grad
            gradient = probabilities * (loss_grad + nll_grad)[:, tf.newaxis]
            if smoothing:
                gradient -= (loss_grad * smoothing / logits.shape[-1])[:, tf.newaxis]
            return tf.tensor_scatter_nd_sub(gradient, indices, on_target)

        return (loss, nll), gradient

    return compute(logits)


@keras.saving.register_keras_serializable("seq2seq_kit")
class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over real tokens, for `keras.Model.compile`.

    Positions whose target is padding (id 0) count neither above nor below the line.

    Args:
        label_smoothing: As in `cross_entropy`.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "loss") -> None:
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def __call__(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        loss = cross_entropy(y_pred, y_true, label_smoothing=self.label_smoothing).loss
        weights = tf.cast(tf.not_equal(y_true, 0), tf.float32)
        if sample_weight is not None:
            weights *= tf.cast(sample_weight, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(loss * weights), tf.reduce_sum(weights))

    def get_config(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, "name": self.name}
