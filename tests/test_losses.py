"""The loss, against Keras's loss and against gradients that TensorFlow derives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.model.networks import OutputLayer
from seq2seq_kit.training import losses
from seq2seq_kit.training.losses import (
    MaskedCrossEntropy,
    activation_penalty,
    consistent_cross_entropy,
    cross_entropy,
    projected_cross_entropy,
)

VOCAB_SIZE = 7


def random_logits(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape) * 3, tf.float32)


def random_targets(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).integers(0, VOCAB_SIZE, shape), tf.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_cross_entropy_equals_that_of_keras(smoothing: float) -> None:
    logits, targets = random_logits(3, 4, VOCAB_SIZE), random_targets(3, 4)
    found = cross_entropy(logits, targets, label_smoothing=smoothing)
    expected = keras.losses.categorical_crossentropy(
        tf.one_hot(targets, VOCAB_SIZE), logits, from_logits=True, label_smoothing=smoothing
    )
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    plain = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    np.testing.assert_allclose(found.negative_log_likelihood, plain, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("loss_weight", [0.0, 1.0])
@pytest.mark.parametrize("nll_weight", [0.0, 2.0])
def test_gradient_equals_that_of_log_probabilities(
    smoothing: float, loss_weight: float, nll_weight: float
) -> None:
    logits, targets = random_logits(3, 4, VOCAB_SIZE), random_targets(3, 4)
    weights = tf.constant(np.random.default_rng(1).random((3, 4)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        found = cross_entropy(logits, targets, label_smoothing=smoothing)
        log_probs = logits - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
        nll = -tf.gather(log_probs, targets, batch_dims=2)
        loss = (1 - smoothing) * nll - smoothing * tf.reduce_mean(log_probs, axis=-1)
        ours = loss_weight * found.loss + nll_weight * found.negative_log_likelihood
        theirs = loss_weight * loss + nll_weight * nll
        totals = [tf.reduce_sum(part * weights) for part in (ours, theirs)]
    found_gradient, expected = (tape.gradient(total, logits) for total in totals)
    np.testing.assert_allclose(found_gradient, expected, atol=1e-5)


@pytest.mark.parametrize("rows_at_once", [1, 5, 12, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_loss_in_parts_and_its_gradients_equal_those_of_keras(
    rows_at_once: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_ROWS_AT_ONCE", rows_at_once)
    random = np.random.default_rng(2)
    outputs = tf.constant(random.normal(size=(3, 4, 5)), tf.float32)
    layer = OutputLayer(random_logits(5, VOCAB_SIZE), random_logits(VOCAB_SIZE, seed=1))
    targets = random_targets(3, 4)
    weights = tf.constant(random.integers(0, 3, (3, 4)), tf.float32)

    @tf.function
    def both() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([outputs, layer])
            found = projected_cross_entropy(
                outputs, layer, targets, weights, label_smoothing=smoothing
            )
            each = keras.losses.categorical_crossentropy(
                tf.one_hot(targets, VOCAB_SIZE),
                tf.einsum("btd,dv->btv", outputs, layer.kernel) + layer.bias,
                from_logits=True,
                label_smoothing=smoothing,
            )
            expected = tf.reduce_sum(each * weights)
            # A loss is often but a part of what is minimised.
            totals = [3.0 * found, 3.0 * expected]
        parts = [outputs, *layer]
        return tuple(
            [loss, *tape.gradient(total, parts)]
            for loss, total in zip((found, expected), totals, strict=True)
        )

    for found, expected in zip(*both(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows_at_once", [2, 6, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_passes_and_their_gradients_equal_those_of_the_plain_formula(
    rows_at_once: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_ROWS_AT_ONCE", rows_at_once)
    random = np.random.default_rng(3)
    outputs = tf.constant(random.normal(size=(6, 4, 5)), tf.float32)
    layer = OutputLayer(random_logits(5, VOCAB_SIZE), random_logits(VOCAB_SIZE, seed=1))
    targets = random_targets(3, 4)
    weights = tf.constant(random.integers(0, 3, (3, 4)), tf.float32)
    inputs = [outputs, *layer]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        found = consistent_cross_entropy(
            outputs, layer, targets, weights, label_smoothing=smoothing, divergence_weight=3.0
        )
        log_probs = tf.split(tf.nn.log_softmax(layer.logits(outputs)), 2)
        nll = sum(
            keras.losses.categorical_crossentropy(
                tf.one_hot(targets, VOCAB_SIZE), one, from_logits=True, label_smoothing=smoothing
            )
            for one in log_probs
        )
        divergence = sum(
            tf.reduce_sum(tf.exp(p) * (p - q), axis=-1) for p, q in (log_probs, log_probs[::-1])
        )
        loss = tf.reduce_sum(weights * nll) / 2
        objective = loss + tf.reduce_sum(weights * divergence) * 3.0 / 4
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-5)
    for ours, theirs in zip(
        tape.gradient(found.objective, inputs), tape.gradient(objective, inputs), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_gradient_of_a_repeated_target_reaches_every_row() -> None:
    logits, targets = random_logits(1, 3, VOCAB_SIZE), tf.constant([[4, 4, 4]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(cross_entropy(logits, targets).loss)
    expected = tf.nn.softmax(logits) - tf.one_hot(targets, VOCAB_SIZE)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_logits_give_finite_loss_and_gradient(scale: float) -> None:
    logits = tf.constant([[[scale, 0.0, -scale]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(logits, tf.constant([[2]]), label_smoothing=0.1).loss
    gradient = tape.gradient(loss, logits)
    # Loss of the target: 2 * scale; smoothed: 0.9 of it and a tenth of the mean, scale.
    np.testing.assert_allclose(loss, [[1.9 * scale]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[[1 - 1 / 30, -1 / 30, -0.9 - 1 / 30]]], atol=1e-6)


def test_low_precision_logits_are_summed_in_float32() -> None:
    logits = tf.cast(random_logits(2, 3, VOCAB_SIZE), tf.bfloat16)
    found = cross_entropy(logits, random_targets(2, 3))
    expected = cross_entropy(tf.cast(logits, tf.float32), random_targets(2, 3))
    assert found.loss.dtype == tf.float32
    np.testing.assert_array_equal(found.loss, expected.loss)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"at least 0 and below 1.*{smoothing}"):
        cross_entropy(
            random_logits(1, 1, VOCAB_SIZE), random_targets(1, 1), label_smoothing=smoothing
        )
    with pytest.raises(ValueError, match=rf"at least 0 and below 1.*{smoothing}"):
        projected_cross_entropy(
            random_logits(1, 1, 5),
            OutputLayer(random_logits(5, VOCAB_SIZE), random_logits(VOCAB_SIZE)),
            random_targets(1, 1),
            tf.ones([1, 1]),
            label_smoothing=smoothing,
        )


def test_masked_loss_is_the_mean_over_real_tokens() -> None:
    logits = random_logits(2, 3, VOCAB_SIZE)
    targets = tf.constant([[4, 5, 3], [6, 0, 0]])
    nll = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    expected = (tf.reduce_sum(nll[0]) + nll[1, 0]) / 4
    np.testing.assert_allclose(MaskedCrossEntropy()(targets, logits), expected, rtol=1e-6)


def test_masked_loss_takes_sample_weights() -> None:
    logits, targets = random_logits(1, 2, VOCAB_SIZE), tf.constant([[4, 5]])
    nll = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    found = MaskedCrossEntropy()(targets, logits, sample_weight=tf.constant([[3.0, 1.0]]))
    np.testing.assert_allclose(found, (3 * nll[0, 0] + nll[0, 1]) / 4, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_more_padding_leaves_the_loss_as_it_is(smoothing: float) -> None:
    logits = random_logits(2, 5, VOCAB_SIZE)
    targets = tf.constant([[4, 5, 3, 0, 0], [6, 3, 0, 0, 0]])
    loss = MaskedCrossEntropy(smoothing)
    np.testing.assert_allclose(
        loss(targets, logits), loss(targets[:, :3], logits[:, :3]), rtol=1e-6
    )


def test_padding_alone_costs_nothing() -> None:
    assert MaskedCrossEntropy()(tf.zeros([1, 3], tf.int32), random_logits(1, 3, VOCAB_SIZE)) == 0.0


def test_loss_is_restored_from_its_config() -> None:
    loss = keras.losses.deserialize(keras.losses.serialize(MaskedCrossEntropy(0.3)))
    assert isinstance(loss, MaskedCrossEntropy)
    assert loss.label_smoothing == 0.3


def test_activation_penalty_sums_squares_of_outputs_and_of_their_changes() -> None:
    # Two rows of three positions with two features; the last position of the second is padding.
    outputs = np.array([[[1, 3], [2, 2], [0, 4]], [[1, 1], [3, 1], [9, 9]]], np.float32)
    weights = np.array([[0.5, 0.5, 0.5], [0.25, 0.25, 0.0]], np.float32)
    sizes = 0.5 * (5 + 4 + 8) + 0.25 * (1 + 5)
    changes = 0.5 * (1 + 4) + 0.25 * 2
    for activation, temporal in ((2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        found = activation_penalty(outputs, weights, activation, temporal)
        assert float(found) == pytest.approx(activation * sizes + temporal * changes)
