"""Products in bfloat16: the factors are rounded, gradients too, and nothing else."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TrainedRun

from seq2seq_kit.config import Config
from seq2seq_kit.model.fast_lstm import FastLSTM
from seq2seq_kit.model.matmul import (
    Projection,
    WeightCache,
    has_bfloat16,
    matmul_precision,
    product,
    weight_operand,
)
from seq2seq_kit.model.networks import OutputLayer
from seq2seq_kit.seq2seq import Seq2Seq

RNG = np.random.default_rng(0)
LEFT = RNG.normal(size=(6, 32)).astype("float32")
RIGHT = RNG.normal(size=(32, 16)).astype("float32")


def rounded(values: np.ndarray) -> np.ndarray:
    """Values cut to bfloat16 by hand: to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def test_factors_are_rounded_and_the_sum_only_at_its_end() -> None:
    with matmul_precision("bfloat16"):
        found = product(LEFT, RIGHT)
    expected = rounded(LEFT).astype(float) @ rounded(RIGHT).astype(float)
    assert found.dtype == tf.float32
    # The result has 8 bits of mantissa; a sum in bfloat16 would be off by far more.
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-6)
    assert np.abs(found - LEFT @ RIGHT).max() > 1e-4


def test_outside_nothing_is_rounded() -> None:
    with matmul_precision("bfloat16"):
        pass
    np.testing.assert_allclose(product(LEFT, RIGHT), LEFT @ RIGHT, rtol=1e-5, atol=1e-5)


def test_constant_weights_are_rounded_before_a_loop_and_not_in_it() -> None:
    weight = keras.Variable(RIGHT)

    @tf.function(autograph=False)
    def loop() -> tf.Tensor:
        with matmul_precision("bfloat16", WeightCache()):
            step = lambda total: (total + tf.reduce_sum(product(LEFT, weight_operand(weight))),)  # noqa: E731
            return tf.while_loop(lambda total: total < 100.0, step, (tf.constant(0.0),))[0]

    graph = loop.get_concrete_function().graph.as_graph_def()
    body = next(f for f in graph.library.function if "while_body" in f.signature.name)
    # The other factor is a constant here: it is rounded in the loop.
    rounds = [node for node in body.node_def if node.op == "Cast"]
    assert len(rounds) == 2  # of the left factor and of the product
    assert "ReadVariableOp" not in {node.op for node in body.node_def}


@pytest.mark.parametrize("keep", [True, False])
def test_weights_are_cached_only_on_request(keep: bool) -> None:
    upper, lower = keras.Variable(RIGHT[:20]), keras.Variable(RIGHT[20:])
    kept = WeightCache(keep=True)

    @tf.function(autograph=False)
    def multiply() -> tf.Tensor:
        with matmul_precision("bfloat16", kept if keep else WeightCache()):
            return product(LEFT, weight_operand(upper, lower))

    before = multiply()
    np.testing.assert_allclose(before, rounded(LEFT) @ rounded(RIGHT), rtol=2**-8, atol=1e-6)
    lower.assign(np.zeros_like(lower))
    after = before if keep else rounded(LEFT)[:, :20] @ rounded(RIGHT)[:20]
    np.testing.assert_allclose(multiply(), after, rtol=2**-8, atol=1e-6)
    assert [v.dtype for v in kept.variables] == [tf.bfloat16] * keep


def test_functions_that_keep_operands_are_traced_once() -> None:
    weight, kept, traces = keras.Variable(RIGHT), WeightCache(keep=True), []

    def multiply(left: tf.Tensor) -> tf.Tensor:
        traces.append(left)
        with matmul_precision("float32", kept):
            return product(left, weight_operand(weight))

    spec = tf.TensorSpec([None, 32])
    found = tf.function(multiply, input_signature=[spec], autograph=False)
    outputs = found.get_concrete_function()(tf.constant(LEFT))
    assert len(traces) == len(kept.variables) == 1
    np.testing.assert_allclose(outputs, LEFT @ RIGHT, rtol=1e-4, atol=1e-5)


def test_gradients_are_products_of_rounded_factors() -> None:
    left, right = tf.constant(LEFT), tf.constant(RIGHT)
    with matmul_precision("bfloat16"), tf.GradientTape() as tape:
        tape.watch([left, right])
        total = tf.reduce_sum(product(left, right) * 0.5)
    for_left, for_right = tape.gradient(total, [left, right])
    half = np.full((6, 16), 0.5)
    np.testing.assert_allclose(for_left, half @ rounded(RIGHT).T, rtol=2**-8, atol=1e-6)
    np.testing.assert_allclose(for_right, rounded(LEFT).T @ half, rtol=2**-8, atol=1e-6)
    assert for_left.dtype == for_right.dtype == tf.float32


def test_all_leading_axes_are_rows() -> None:
    inputs = RNG.normal(size=(2, 3, 5, 32)).astype("float32")
    np.testing.assert_allclose(product(inputs, RIGHT), inputs @ RIGHT, rtol=1e-5, atol=1e-5)
    spec = tf.TensorSpec([None, 3, None, 32], tf.float32)
    graph = tf.function(lambda x: product(x, RIGHT), input_signature=[spec])
    assert graph.get_concrete_function().output_shapes.as_list() == [None, 3, None, 16]
    np.testing.assert_allclose(graph(inputs), inputs @ RIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_bias": False, "activation": "tanh"}])
def test_a_projection_is_a_dense_layer(options: dict[str, object]) -> None:
    inputs = RNG.normal(size=(2, 7, 5)).astype("float32")
    ours, stock = Projection(4, **options), keras.layers.Dense(4, **options)
    ours(inputs), stock(inputs)
    ours.set_weights([weight + 0.1 for weight in stock.get_weights()])
    stock.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(inputs), stock(inputs), rtol=1e-5, atol=1e-6)


def test_an_lstm_comes_out_nearly_the_same() -> None:
    layer = FastLSTM(24, return_sequences=True)
    inputs = tf.constant(RNG.normal(size=(3, 9, 8)), tf.float32)
    weights = tf.constant(RNG.normal(size=(3, 9, 24)), tf.float32)

    def run() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            total = tf.reduce_sum(outputs * weights)
        gradients = tape.gradient(total, layer.trainable_variables)
        return [outputs.numpy(), *(part.numpy() for part in gradients)]

    exact = run()
    with matmul_precision("bfloat16"):
        rough = run()
    for one, other in zip(rough, exact, strict=True):
        assert 0 < np.abs(one - other).max() < 0.03 * np.abs(other).max()


def test_logits_are_float32() -> None:
    with matmul_precision("bfloat16"):
        assert OutputLayer(RIGHT, np.zeros(16, "float32")).logits(LEFT).dtype == tf.float32


def test_a_training_in_bfloat16_learns_as_much(translation_run: TrainedRun, tmp_path: Path) -> None:
    before: Config = translation_run.fitted.config
    training = before.training.model_copy(update={"precision": "bfloat16"})
    config = before.model_copy(update={"training": training})
    fitted = Seq2Seq.fit(config, run_dir=tmp_path / "run")
    exact = translation_run.fitted.results["validation_loss"]
    assert fitted.results["validation_loss"] != exact
    assert fitted.results["validation_loss"] < 1.25 * exact + 0.02
    weights = np.load(tmp_path / "run" / "best.npz")
    assert {weights[name].dtype for name in weights.files if name != "__facts__"} == {
        np.dtype("float32")
    }
    assert "bfloat16" in (tmp_path / "run" / "config.yaml").read_text()
    assert json.loads(str(weights["__facts__"]))["val_loss"] == fitted.results["validation_loss"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 avx512_bf16 fma", True), ("avx2 amx_bf16", True), ("avx2 fma avx512f", False)],
)
def test_the_processor_is_asked_for_bfloat16(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor : 0\nflags\t: {flags}\n")
    assert has_bfloat16() is expected


def test_other_platforms_do_not_report_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert has_bfloat16() is None
