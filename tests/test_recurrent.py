"""Cells that are simpler than an LSTM's, and decoders without attention: layers and whole runs."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_config import write_texts
from untrained import untrained_model, untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.config import ModelConfig, load_config
from seq2seq_kit.errors import ConfigError, InputError
from seq2seq_kit.insight import Intervention
from seq2seq_kit.model.build import build_model
from seq2seq_kit.model.memory import count_weights
from seq2seq_kit.model.recurrent import GRULayer, SimpleRNNLayer
from seq2seq_kit.seq2seq import Seq2Seq

LAYERS: Any = {"gru": GRULayer, "simple_rnn": SimpleRNNLayer}
STOCK = {"gru": keras.layers.GRU, "simple_rnn": keras.layers.SimpleRNN}


def make_layer(cell: str) -> Any:
    layer = LAYERS[cell](5, return_sequences=True, return_state=True)
    layer.build((None, None, 3))
    for weight in layer.trainable_variables:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    return layer


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(4, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("cell", LAYERS)
def test_layer_computes_what_the_stock_layer_and_single_steps_do(
    cell: str, inputs: np.ndarray
) -> None:
    layer = make_layer(cell)
    stock = STOCK[cell](5, return_sequences=True, return_state=True)
    stock.build((None, None, 3))
    stock.set_weights(layer.get_weights())
    mask = np.arange(6) < np.array([[6], [2], [4], [1]])
    hidden, kept = np.full((4, 5), 0.3, np.float32), np.full((4, 5), 0.7, np.float32)
    outputs, last, cell_after = layer(inputs, initial_state=[hidden, kept], mask=mask)
    expected = stock(inputs, initial_state=[hidden], mask=mask)
    for found, wanted in zip((outputs, last), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_array_equal(cell_after, kept)
    state: Any = (tf.constant(hidden), tf.constant(kept))
    for time in range(6):
        stepped, *state = layer.step(tf.constant(inputs[:, time]), *state)
        np.testing.assert_allclose(stepped[0], outputs[0, time], atol=1e-5)
    # An alteration that changes nothing.
    layer.alter()
    for found, wanted in zip(
        layer(inputs, initial_state=[hidden, kept], mask=mask)[:2], expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", *LAYERS])
@pytest.mark.parametrize("attention", ["none", "additive"])
def test_weights_are_counted_before_they_are_made(cell: str, attention: str) -> None:
    config = ModelConfig.model_validate(
        {
            "cell": cell,
            "attention": attention,
            "units": 8,
            "embedding_dim": 6,
            "decoder_layers": 2,
            "encoder_layers": 2,
            "architecture": "encoder_decoder",
        }
    )
    model = build_model(config, 11)
    assert count_weights(config, 11, None) == model.count_params()


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    """A translator with GRUs and without attention."""
    layers = {"cell": "gru", "attention": "none", "encoder_layers": 2, "decoder_layers": 2}
    return untrained_model(tmp_path_factory.mktemp("plain"), model=layers)


def test_outputs_are_equal_in_batches_and_match_their_scores(plain_model: Seq2Seq) -> None:
    lines = ["ab", "bbaa", "", "a", "baab ba"]
    together = [best for (best,) in plain_model.hypotheses(lines, beam_size=3, min_length=3)]
    alone = [next(plain_model.hypotheses([line], beam_size=3, min_length=3))[0] for line in lines]
    assert together == alone
    assert len({best.text for best in together}) > 1
    ids = [[*best.token_ids, *[3] * best.is_cut] for best in together if best.token_ids]
    sources = plain_model.inputs.encode_rows([line for line in lines if line])
    scores = plain_model.scorer.score_ids(sources, ids)
    assert [one.log_prob for one in scores] == pytest.approx(
        [best.log_prob for best in together if best.token_ids], abs=1e-4
    )


def test_gates_are_traced_and_held_and_attention_is_refused(plain_model: Seq2Seq) -> None:
    seen = insight.trace(plain_model, "ab", "xy")
    layer = seen.layers["decoder_1"]
    assert seen.attention is None
    assert layer.forget_gate.size == layer.cell.size == 0
    by_hand = (
        layer.update_gate[1] * layer.hidden[0] + (1 - layer.update_gate[1]) * layer.candidate[1]
    )
    np.testing.assert_allclose(layer.hidden[1], by_hand, atol=1e-6)
    held = Intervention(layer="decoder_1", part="update_gate", value=1.0)
    with insight.intervene(plain_model, held) as altered:
        kept = insight.trace(altered, "ab", "xy").layers["decoder_1"]
    np.testing.assert_allclose(kept.hidden, np.broadcast_to(kept.initial_hidden, kept.hidden.shape))
    assert insight.plot_gates(seen, "decoder_1", units=[0, 3]).axes
    wrong: list[Any] = [
        lambda: insight.plot_attention(seen),
        lambda: insight.Aligner(plain_model),
        lambda: insight.TrainingIndex(plain_model, state="context"),
        lambda: insight.intervene(
            plain_model, Intervention(layer="decoder_0", part="forget_gate", value=0.0)
        ).__enter__(),
        lambda: insight.intervene(
            plain_model, insight.ForcedAttention(step=0, weights=[1])
        ).__enter__(),
    ]
    for refused in wrong:
        with pytest.raises(InputError, match=r"attention|`part` of decoder_0 must be one of"):
            refused()


def test_language_model_keeps_its_state_and_streams(tmp_path: Path) -> None:
    writer = untrained_writer(tmp_path, cell="simple_rnn", decoder_layers=2)
    (whole,) = writer.generate(["ab"], max_length=8)
    assert "".join(writer.stream("ab", max_length=8)) == whole
    state = writer.read("ab")
    state.save(tmp_path / "one.state")
    parts = writer.generate(state=state, max_length=4)
    again = writer.load_state(tmp_path / "one.state")
    assert writer.generate(state=again, max_length=4) == parts
    assert list(insight.trace(writer, "ab", "xy").layers) == ["decoder_0", "decoder_1"]


@pytest.mark.slow
def test_gru_without_attention_learns_resumes_and_exports(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    config = translation_config | {
        "model": translation_config["model"] | {"cell": "gru", "attention": "none"},
        "training": translation_config["training"] | {"epochs": 2},
    }
    model = Seq2Seq.fit(config, run_dir=tmp_path / "whole")
    assert model.history[-1]["val_loss"] < model.history[0]["val_loss"]
    Seq2Seq.fit(config, run_dir=tmp_path / "parts", overrides=["training.epochs=1"])
    more = Seq2Seq.fit(config, run_dir=tmp_path / "parts", resume=True)
    for one, other in zip(model.model.get_weights(), more.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.export(tmp_path / "export", beam_size=2)  # Verified against the model.
    with pytest.raises((ConfigError, InputError), match=r"model\.cell"):
        Seq2Seq.fit(config, run_dir=tmp_path / "parts", resume=True, overrides=["model.cell=lstm"])


@pytest.mark.slow
def test_simple_cell_without_attention_learns_and_loads(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    config = translation_config | {
        "model": translation_config["model"] | {"cell": "simple_rnn", "attention": "none"},
        "training": translation_config["training"] | {"epochs": 1, "validate_every": 10},
    }
    model = Seq2Seq.fit(config, run_dir=tmp_path / "run")
    assert model.history[-1]["val_loss"] < model.history[0]["val_loss"]
    words = ["abc", "e", "ddca"]
    assert Seq2Seq.load(tmp_path / "run").score(words, words) == model.score(words, words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gru", "weight_drop": 0.1}, "is for `cell: lstm` only, here gru"),
        ({"attention": "none", "attention_layer": "first"}, "no meaning with `attention: none`"),
    ],
)
def test_contradictory_keys_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_texts(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_config({"data": {"train": {"tsv": str(tmp_path / "pairs.tsv")}}, "model": options})
