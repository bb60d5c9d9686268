"""Traces, against the steps of the network, stock Keras layers, and the equations by hand."""

import math
from typing import Any

import keras
import numpy as np
import pytest
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.special_ids import BOS_ID, EOS_ID


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    folder = tmp_path_factory.mktemp("writer")
    return untrained_writer(folder, decoder_layers=2, inner_units=10)


def test_decoder_states_and_attention_are_those_of_the_steps(deep_model: Seq2Seq) -> None:
    seen = insight.trace(deep_model, "abba", "xyzx")
    source_ids = [*deep_model.tokenizer.encode(["abba"])[0], EOS_ID]
    target_ids = deep_model.tokenizer.encode(["xyzx"])[0]
    assert seen.source_tokens == ("▁", "a", "b", "b", "a", "</s>")
    assert seen.input_tokens == ("<s>", "▁", "x", "y", "z", "x")
    assert seen.target_tokens == ("▁", "x", "y", "z", "x", "</s>")
    network = deep_model.model
    _, states, memory = network.start(np.array([source_ids]))
    for time, token_id in enumerate([BOS_ID, *target_ids]):
        _, states, attention = network.step(np.array([token_id]), states, memory)
        np.testing.assert_allclose(seen.attention[time], attention[0], atol=1e-5)
        for index, state in enumerate(states):
            layer = seen.layers[f"decoder_{index}"]
            np.testing.assert_allclose(layer.hidden[time], state.hidden[0], atol=1e-5)
            np.testing.assert_allclose(layer.cell[time], state.cell[0], atol=1e-5)


def test_attention_is_that_of_the_network(deep_model: Seq2Seq) -> None:
    seen = insight.trace(deep_model, "ab", "zy")
    ids = [deep_model.tokenizer.encode([text])[0] for text in ("ab", "zy")]
    inputs = [np.array([[*ids[0], EOS_ID]]), np.array([[BOS_ID, *ids[1]]])]
    np.testing.assert_array_equal(seen.attention, deep_model.model.attention_weights(*inputs)[0])
    np.testing.assert_allclose(seen.attention.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("backward", [False, True])
def test_encoder_states_are_those_of_stock_layers(deep_model: Seq2Seq, backward: bool) -> None:
    name = "encoder_backward_0" if backward else "encoder_forward_0"
    found = insight.trace(deep_model, "abaab", "x").layers[name]
    encoder = deep_model.model.encoder
    (layer,) = (encoder.backward_layers if backward else encoder.forward_layers)[0].layers
    stock = keras.layers.LSTM(
        layer.units, return_sequences=True, go_backwards=backward, use_cudnn=False
    )
    ids = [*deep_model.tokenizer.encode(["abaab"])[0], EOS_ID]
    embedded = deep_model.model.source_embedding(np.array([ids]))
    stock.build(embedded.shape)
    stock.set_weights(layer.get_weights())
    expected = np.asarray(stock(embedded))[0]
    np.testing.assert_allclose(found.hidden, expected[::-1] if backward else expected, atol=1e-5)


def test_language_model_reads_prompt_and_text(writer: Seq2Seq) -> None:
    seen = insight.trace(writer, "01", "10")
    assert seen.source_tokens == ()
    assert seen.attention is None
    assert seen.input_tokens == ("<s>", "0", "1", "1", "0")
    assert seen.target_tokens == ("0", "1", "1", "0", "\n")
    assert list(seen.layers) == ["decoder_0", "decoder_1"]
    states = writer.model.lstm.zero_state(1)
    for time, token_id in enumerate([BOS_ID, *writer.tokenizer.encode(["0110"])[0]]):
        _, states, _ = writer.model.step(np.array([token_id]), states)
        for index, state in enumerate(states):
            layer = seen.layers[f"decoder_{index}"]
            np.testing.assert_allclose(layer.hidden[time], state.hidden[0], atol=1e-5)
            np.testing.assert_allclose(layer.cell[time], state.cell[0], atol=1e-5)


def test_gates_of_a_layer_worked_by_hand(writer: Seq2Seq) -> None:
    cell = writer.model.lstm.layers[0].cell
    weights = [np.array(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    try:
        # Without inputs, the gates are the activations of their biases.
        cell.kernel.assign(np.zeros_like(weights[0]))
        cell.recurrent_kernel.assign(np.zeros_like(weights[1]))
        biases = [math.log(1 / 3), 0.0, math.atanh(0.8), math.log(3)]
        cell.bias.assign(np.repeat(biases, cell.units))
        found = insight.trace(writer, "", "01").layers["decoder_0"]
    finally:
        for weight, before in zip(
            (cell.kernel, cell.recurrent_kernel, cell.bias), weights, strict=True
        ):
            weight.assign(before)
    gates = {"input_gate": 0.25, "forget_gate": 0.5, "candidate": 0.8, "output_gate": 0.75}
    for name, value in gates.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-6)
    # Half of the cell is kept, and 0.25 * 0.8 comes in.
    np.testing.assert_allclose(found.cell[:, 0], [0.2, 0.3, 0.35], rtol=1e-6)
    np.testing.assert_allclose(found.hidden[:, 0], 0.75 * np.tanh([0.2, 0.3, 0.35]), rtol=1e-6)


@pytest.mark.parametrize("name", ["encoder_backward_1", "decoder_1"])
def test_cell_and_hidden_follow_from_the_gates(deep_model: Seq2Seq, name: str) -> None:
    found = insight.trace(deep_model, "ba", "xx").layers[name]
    order = slice(None, None, -1 if "backward" in name else 1)
    before = np.concatenate([found.initial_cell[np.newaxis], found.cell[order][:-1]])[order]
    kept, entered = found.forget_gate * before, found.input_gate * found.candidate
    np.testing.assert_allclose(found.cell, kept + entered, atol=1e-6)
    np.testing.assert_allclose(found.hidden, found.output_gate * np.tanh(found.cell), atol=1e-6)
    assert (np.abs(found.initial_cell).max() > 0) == name.startswith("decoder")


def test_best_output_is_traced_without_a_target(deep_model: Seq2Seq) -> None:
    ((best,),) = deep_model.hypotheses(["ab"])
    pieces = deep_model.tokenizer.pieces
    found = insight.trace(deep_model, "ab")
    assert found.target_tokens == tuple(pieces[token] for token in best.token_ids)
    given = insight.trace(deep_model, "ab", best)
    np.testing.assert_array_equal(found.attention, given.attention)


def test_an_empty_input_has_only_the_end_to_trace(deep_model: Seq2Seq) -> None:
    found = insight.trace(deep_model, "")
    assert (found.source_tokens, found.target_tokens) == (("</s>",), ("</s>",))
    np.testing.assert_array_equal(found.attention, [[1]])


def test_a_layer_with_other_equations_is_refused(writer: Seq2Seq) -> None:
    cell = writer.model.lstm.layers[1].cell
    cell.activation = keras.activations.relu
    try:
        with pytest.raises(RunError, match="decoder_1 does not compute"):
            insight.trace(writer, "0", "1")
    finally:
        cell.activation = keras.activations.tanh


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (3, "x", "Expected texts"),
        ("a", 3, "`target` must be a text"),
        ("a" * 200, "x", "takes at most"),
    ],
)
def test_wrong_texts_are_refused(
    deep_model: Seq2Seq, source: Any, target: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        insight.trace(deep_model, source, target)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"Expected a model that `Seq2Seq\.load`"):
        insight.trace(object(), "a", "b")  # type: ignore[arg-type]
