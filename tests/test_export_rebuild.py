"""What looks inside a model finds the same in an export as in the run that it was made from."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TrainedRun

from seq2seq_kit import insight
from seq2seq_kit.config import ModelConfig
from seq2seq_kit.errors import DataError, InputError, RunError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.export.stored_weights import Stored, read_weight
from seq2seq_kit.model.build import build_model
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.seq2seq import Seq2Seq

Pair = tuple[Seq2Seq, ExportedModel]


@pytest.fixture(scope="module")
def translators(translation_run: TrainedRun, translation_export: Path) -> Pair:
    return translation_run.fitted, ExportedModel(translation_export)


def assert_same(found: Any, expected: Any) -> None:
    """Two results of `insight` are equal, array by array."""
    if is_dataclass(expected):
        assert type(found) is type(expected)
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


LOOKS = {
    "trace": lambda model: insight.trace(model, "abc", "ab"),
    "surprise": lambda model: insight.surprise(model, "abc", "ba"),
    "leave_out": lambda model: insight.leave_out(model, "abc", "ba"),
    "alternatives": lambda model: insight.alternatives(model, "abc", "ba", step=1),
    "Aligner": lambda model: insight.Aligner(model)("abc", "ba"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_into_an_export_finds_what_one_into_its_run_does(
    look: str, translators: Pair
) -> None:
    run, export = translators
    assert_same(LOOKS[look](export), LOOKS[look](run))


def test_a_trace_of_an_export_agrees_with_its_graph(translators: Pair) -> None:
    _, export = translators
    (score,) = export.score(["abc"], ["cba"])
    nats = insight.surprise(export, "abc", "cba").nats
    assert -nats.sum() == pytest.approx(score.log_prob, abs=1e-4)
    assert len(nats) == score.num_tokens


def test_gates_of_an_export_are_held_in_a_copy(translators: Pair) -> None:
    _, export = translators
    before = insight.trace(export, "ab", "ba")
    shut = insight.Intervention(layer="decoder_0", part="forget_gate", value=0.0)
    with insight.intervene(export, shut) as changed:
        np.testing.assert_array_equal(
            insight.trace(changed, "ab", "ba").layers["decoder_0"].forget_gate, 0.0
        )
    assert_same(insight.trace(export, "ab", "ba"), before)


def test_an_export_has_no_training_examples_of_its_own(translators: Pair) -> None:
    _, export = translators
    with pytest.raises(DataError, match=r"does not hold the texts.*`pairs`"):
        insight.TrainingIndex(export)


def described(export: ExportedModel, **changed: Any) -> ExportedModel:
    """The same export, not yet rebuilt, with another description."""
    other = ExportedModel.__new__(ExportedModel)
    vars(other).update({k: v for k, v in vars(export).items() if k not in ("rebuilt", "config")})
    other.metadata = {k: v for k, v in (export.metadata | changed).items() if v is not None}
    return other


def test_an_export_of_an_earlier_version_is_refused_with_the_reason(translators: Pair) -> None:
    older = described(translators[1], stored_weights=None)
    with (
        pytest.raises(InputError, match=r"made by an earlier version.* Export the run again"),
    ):
        insight.trace(older, "ab")


@pytest.mark.parametrize(
    "changed",
    [
        {"stored_weights": []},
        {"stored_weights": [{"variable": 999}]},
        {"stored_weights": [{}]},
        {"corpora": [{"kind": "nothing", "separator": None}]},
        {"model": {"units": 34}},
        {"decoding": {"beam_sise": 2}},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(
    translators: Pair, changed: dict[str, Any]
) -> None:
    other = described(translators[1], **changed)
    with pytest.raises((RunError, InputError), match=r"does not fit its graph|kind"):
        insight.trace(other, "ab")


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gru", "attention": "none", "encoder_layers": 2, "decoder_layers": 2},
        {"cell": "simple_rnn", "tie_embeddings": False, "layer_normalization": True},
        {"cell": "gru", "architecture": "language_model"},
    ],
    ids=str,
)
def test_weights_of_every_kind_of_layer_are_found_in_what_its_graph_reads(
    options: dict[str, Any],
) -> None:
    config = ModelConfig(units=8, embedding_dim=6, **{"architecture": "encoder_decoder"} | options)
    network = build_model(config, 11, use_cudnn=False)
    cache = WeightCache(keep=True)

    def search(ids: tf.Tensor) -> tf.Tensor:
        with matmul_precision("float32", cache):
            start = network.start(ids)
            return network.step(start.token_ids, start.states, start.memory).logits

    graph = tf.function(search, autograph=False).get_concrete_function(
        tf.TensorSpec([None, None], tf.int32)
    )
    read = {id(tensor) for tensor in graph.captured_inputs}
    weights = network.trainable_variables
    candidates = [*(weight.value for weight in weights), *cache.variables]
    stored = Stored(weights, [v for v in candidates if id(v.handle) in read], cache.operands, {})
    # No weight is stored a second time.
    assert len(stored.variables) == sum(id(v.handle) in read for v in candidates)
    for weight, place in zip(weights, stored.places, strict=True):
        found = read_weight(place, stored.variables)
        np.testing.assert_array_equal(found, keras.ops.convert_to_numpy(weight))


def test_a_weight_that_no_graph_reads_is_stored_beside_the_others() -> None:
    read, unread = (keras.Variable(np.full((2, 3), value, np.float32)) for value in (1, 2))
    stored = Stored([unread, read], [read.value], {}, {})
    assert stored.places == [{"variable": 1}, {"variable": 0}]
    assert read_weight(stored.places[0], stored.variables).tolist() == [[2, 2, 2]] * 2


def test_stacked_and_transposed_weights_are_read_back() -> None:
    first, second = (
        keras.Variable(np.arange(size * 3, dtype=np.float32).reshape(size, 3)) for size in (2, 4)
    )
    cache = WeightCache(keep=True)
    with matmul_precision("float32", cache):
        cache.get(
            (True, id(first), id(second)), lambda: tf.transpose(tf.concat([first, second], 0))
        )
    stored = Stored([first, second], cache.variables, cache.operands, {})
    assert stored.places == [
        {"variable": 0, "transposed": True, "rows": [0, 2]},
        {"variable": 0, "transposed": True, "rows": [2, 6]},
    ]
    for weight, place in zip((first, second), stored.places, strict=True):
        np.testing.assert_array_equal(read_weight(place, stored.variables), weight.value.numpy())
