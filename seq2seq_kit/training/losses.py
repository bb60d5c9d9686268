"""The training loss: cross-entropy over real tokens only, and penalties on activations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq_kit.model.matmul import as_operand, product
from seq2seq_kit.model.networks import OutputLayer

_ROWS_AT_ONCE = 512  # Even: the two passes of R-Drop are in adjacent rows.
"""Positions whose logits are in memory at the same time: 16 MB for 8,000 tokens. Each further part
costs one more pass over the kernel's gradient."""


class CrossEntropy(NamedTuple):
    """Cross-entropy of each position, in nats."""

    loss: tf.Tensor
    """float32 `(batch, time)`. With label smoothing: training minimises this."""
    negative_log_likelihood: tf.Tensor
    """float32 `(batch, time)`. Without label smoothing: perplexity is computed from this."""


class ProjectedLoss(NamedTuple):
    """Weighted sums over all positions, in nats."""

    objective: tf.Tensor
    """float32, one number. What training lowers."""
    loss: tf.Tensor
    """float32, one number. The cross-entropy alone, with label smoothing; it has no gradient where
    the objective is more than that."""


def cross_entropy(
    logits: tf.Tensor, target_ids: tf.Tensor, *, label_smoothing: float = 0.0
) -> CrossEntropy:
    """Returns the cross-entropy of each position, neither weighted nor summed.

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
    _check_smoothing(label_smoothing)
    logits = tf.cast(logits, tf.float32)
    shape = tf.shape(target_ids)
    flat_logits = tf.reshape(logits, (-1, logits.shape[-1]))
    targets = tf.cast(
        tf.reshape(target_ids, [-1]), tf.int32
    )  # NumPy's default integers have 64 bits.
    losses, _ = _losses_and_probabilities(flat_logits, targets, label_smoothing)
    return CrossEntropy(*(tf.reshape(part, shape) for part in losses))


def projected_cross_entropy(
    outputs: tf.Tensor,
    output_layer: OutputLayer,
    target_ids: tf.Tensor,
    weights: tf.Tensor,
    *,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Returns the weighted sum of the cross-entropies of all positions, which training lowers.

    The same as `cross_entropy` of `output_layer.logits(outputs)`, with less memory: logits, losses
    and, in the forward pass already, gradients are computed for a part of the positions at a time.

    Args:
        outputs: float `(batch, time, output_dim)`. The inputs of the output layer.
        output_layer: The layer that computes the logits.
        target_ids: int32 `(batch, time)`.
        weights: float32 `(batch, time)`. 0 where a position does not count. They get no
            gradient.
        label_smoothing: As in `cross_entropy`.

    Returns:
        float32, one number, in nats.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """
    return _project(
        outputs, output_layer, target_ids, weights, _PartLoss(label_smoothing)
    ).objective


def consistent_cross_entropy(
    outputs: tf.Tensor,
    output_layer: OutputLayer,
    target_ids: tf.Tensor,
    weights: tf.Tensor,
    *,
    label_smoothing: float = 0.0,
    divergence_weight: float,
) -> ProjectedLoss:
    """Returns the loss of two passes over the same batch, which training also makes agree: R-Drop.

    With the distributions `p` and `q` that the passes give a position, its objective is the mean of
    both cross-entropies plus `divergence_weight / 4 * (KL(p || q) + KL(q || p))`: half of the loss
    in Liang et al., 2021, equation 4 (https://arxiv.org/abs/2106.14448), with their `alpha`.

    Args:
        outputs: float `(2 * batch, time, output_dim)`. As in `projected_cross_entropy`: all rows of
            the first pass, then those of the second one.
        output_layer: As there.
        target_ids: int32 `(batch, time)`.
        weights: float32 `(batch, time)`.
        label_smoothing: As in `cross_entropy`.
        divergence_weight: The weight of the divergence, at least 0.

    Returns:
        Both sums over all positions; only the objective has a gradient.

    Raises:
        ValueError: If `label_smoothing` is out of range.
    """
    time, output_dim = tf.shape(outputs)[1], outputs.shape[-1]
    # (2 * batch, time, features) -> (batch, time, 2, features): both passes over a position are
    # adjacent, so that a part of the positions has both.
    paired = tf.transpose(tf.reshape(outputs, (2, -1, time, output_dim)), (1, 2, 0, 3))
    targets, halves = (tf.repeat(tf.reshape(part, [-1]), 2) for part in (target_ids, weights / 2))
    part_loss = _PartLoss(label_smoothing, divergence_weight)
    return _project(paired, output_layer, targets, halves, part_loss)


def _project(
    outputs: tf.Tensor,
    output_layer: OutputLayer,
    target_ids: tf.Tensor,
    weights: tf.Tensor,
    part_loss: "_PartLoss",
) -> ProjectedLoss:
    """Returns what the part losses of all positions sum up to; arguments of any equal shape."""
    _check_smoothing(part_loss.smoothing)
    targets = tf.reshape(target_ids, [-1])
    weights = tf.reshape(weights, [-1])

    @tf.custom_gradient
    def compute(
        rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
    ) -> tuple[ProjectedLoss, Callable[..., tuple[tf.Tensor, ...]]]:
        layer = OutputLayer(as_operand(kernel), bias)
        sums, *grads = _sum_over_parts(rows, layer, targets, weights, part_loss)
        loss = ProjectedLoss(*tf.unstack(sums))
        return loss, lambda objective_grad, _: tuple(part * objective_grad for part in grads)

    rows = tf.reshape(outputs, [-1, outputs.shape[-1]])
    return ProjectedLoss(*compute(rows, output_layer.kernel, output_layer.bias))


def _sum_over_parts(
    rows: tf.Tensor,
    layer: OutputLayer,
    targets: tf.Tensor,
    weights: tf.Tensor,
    part_loss: "_PartLoss",
) -> tuple[tf.Tensor, ...]:
    """Returns the weighted loss of rows, and its gradients: of the rows, the kernel and the bias.

    Args:
        rows: float `(rows, output_dim)`.
        layer: The output layer.
        targets: int32 `(rows,)`.
        weights: float32 `(rows,)`.
        part_loss: Computes the loss and gradients of some rows.
    """
    num_rows = tf.size(targets)

    def part_from(first: tf.Tensor | int) -> tuple[tf.Tensor, ...]:
        here = slice(first, first + _ROWS_AT_ONCE)
        return part_loss(rows[here], layer, targets[here], weights[here])

    loss, rows_grad, *layer_grads = part_from(0)
    rows_grads = tf.TensorArray(
        rows_grad.dtype,
        size=-(-num_rows // _ROWS_AT_ONCE),
        element_shape=[None, rows.shape[1]],
        infer_shape=False,
    ).write(0, rows_grad)

    def add_part(first: tf.Tensor, rows_grads: tf.TensorArray, *sums: tf.Tensor) -> Any:
        loss, rows_grad, *layer_grads = part_from(first)
        rows_grads = rows_grads.write(first // _ROWS_AT_ONCE, rows_grad)
        parts = zip(sums, (loss, *layer_grads), strict=True)
        return first + _ROWS_AT_ONCE, rows_grads, *(total + part for total, part in parts)

    _, rows_grads, loss, *layer_grads = tf.while_loop(
        lambda first, *_: first < num_rows,
        add_part,
        (_ROWS_AT_ONCE, rows_grads, loss, *layer_grads),
        parallel_iterations=1,  # Two parts at a time would need twice the memory.
    )
    return loss, rows_grads.concat(), *layer_grads


class _PartLoss(NamedTuple):
    """Computes `_sum_over_parts` for rows whose logits fit into memory."""

    smoothing: float
    """The share `e` of `cross_entropy`."""
    divergence_weight: float | None = None
    """As in `consistent_cross_entropy`, whose passes are in rows by turns; None for one pass."""

    def __call__(
        self, rows: tf.Tensor, layer: OutputLayer, targets: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        logits = layer.logits(rows)
        losses, probabilities = _losses_and_probabilities(logits, targets, self.smoothing)
        logits_grad = _logits_gradient(probabilities, targets, self.smoothing)
        loss = objective = tf.reduce_sum(losses.loss * weights)
        if self.divergence_weight is not None:
            divergences, divergence_grad = _divergences(logits, probabilities)
            factor = self.divergence_weight / 2
            objective += factor * tf.reduce_sum(divergences * weights)
            logits_grad += factor * divergence_grad
        # Weights are applied to small tensors: a pass over the logits costs as much as a product.
        by_row = weights[:, tf.newaxis]
        return (
            tf.stack([objective, loss]),
            product(logits_grad, layer.kernel, transpose_b=True) * by_row,
            product(rows * by_row, logits_grad, transpose_a=True),
            tf.linalg.matvec(logits_grad, weights, transpose_a=True),
        )


def _divergences(logits: tf.Tensor, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how far each row's distribution is from that of the other pass.

    Args:
        logits: float32 `(rows, vocab_size)`. Rows 0 and 1 are the passes over a position, rows 2
            and 3 those over the next one.
        probabilities: The softmax of the logits.

    Returns:
        `KL(p || q)` of each row's distribution `p` from the other's, `q`, float32 `(rows,)`; and
        for each row the gradient, of its logits, of `KL(p || q) + KL(q || p)`.
    """

    def swap(values: tf.Tensor) -> tf.Tensor:
        pairs = tf.reverse(tf.reshape(values, (-1, 2, values.shape[-1])), [1])
        return tf.reshape(pairs, tf.shape(values))

    log_probs = tf.nn.log_softmax(logits)
    log_ratios = log_probs - swap(log_probs)
    divergences = tf.reduce_sum(probabilities * log_ratios, axis=-1)
    gradient = probabilities * (log_ratios + 1.0 - divergences[:, tf.newaxis])
    return divergences, gradient - swap(probabilities)


def activation_penalty(
    outputs: tf.Tensor, weights: tf.Tensor, activation_rate: float, temporal_rate: float
) -> tf.Tensor:
    """Returns a penalty on large outputs of an LSTM layer, and on large changes of them.

    With the weight `w` of a position and means over features, it is the sum over all positions of
    `activation_rate * w * mean(outputs ** 2)`, and over all but the first of each row of
    `temporal_rate * w * mean((outputs - outputs before) ** 2)`.

    Args:
        outputs: float `(batch, time, units)`.
        weights: float32 `(batch, time)`. 0 where a position does not count.
        activation_rate: 0 or more.
        temporal_rate: 0 or more.

    Returns:
        float32, one number.

    Reference: Merity et al., 2017, https://arxiv.org/abs/1708.01009, with squared norms as in their
    code, and before dropout.
    """
    outputs = tf.cast(outputs, tf.float32)
    sizes = tf.reduce_mean(tf.square(outputs), axis=-1)
    changes = tf.reduce_mean(tf.square(outputs[:, 1:] - outputs[:, :-1]), axis=-1)
    return activation_rate * tf.reduce_sum(weights * sizes) + temporal_rate * tf.reduce_sum(
        weights[:, 1:] * changes
    )


def _check_smoothing(label_smoothing: float) -> None:
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(
            f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
        )


def _losses_and_probabilities(
    logits: tf.Tensor, targets: tf.Tensor, smoothing: float
) -> tuple[CrossEntropy, tf.Tensor]:
    """Returns both cross-entropies of rows, `(rows,)`, and the softmax `(rows, vocab_size)`.

    Args:
        logits: float32 `(rows, vocab_size)`.
        targets: int32 `(rows,)`.
        smoothing: The share `e` of `cross_entropy`.
    """
    probabilities = tf.nn.softmax(logits)
    # log(sum(exp(logits))), computed from the largest probability, which cannot underflow.
    log_normalizer = tf.reduce_max(logits, axis=-1) - tf.math.log(
        tf.reduce_max(probabilities, axis=-1)
    )
    nll = log_normalizer - tf.gather(logits, targets, batch_dims=1)
    loss = nll
    if smoothing:
        loss = (1 - smoothing) * nll + smoothing * (
            log_normalizer - tf.reduce_mean(logits, axis=-1)
        )
    return CrossEntropy(loss, nll), probabilities


def _logits_gradient(probabilities: tf.Tensor, targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Returns the gradient of each row's loss, `(rows, vocab_size)`.

    This is the softmax minus the target distribution, computed in the softmax's memory; automatic
    differentiation would pass over the logits eight times.
    """
    indices = tf.stack([tf.range(tf.shape(targets)[0]), targets], axis=1)
    if smoothing:
        probabilities -= smoothing / probabilities.shape[-1]
    on_target = tf.fill([tf.shape(targets)[0]], 1 - smoothing)
    return tf.tensor_scatter_nd_sub(probabilities, indices, on_target)


@keras.saving.register_keras_serializable("seq2seq_kit")
class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over real tokens, for `keras.Model.compile`.

    `TrainingSteps` computes the same loss with `projected_cross_entropy`, in less memory.

    Positions whose target is padding (id 0) count neither in the sum nor in the number of tokens.

    Args:
        label_smoothing: As in `cross_entropy`.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "loss") -> None:
        super().__init__(name=name, dtype="float32")
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
