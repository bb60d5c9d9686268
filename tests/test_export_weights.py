"""Exports with compact weights: answers of the same weights in Python, a smaller file."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from untrained import untrained_model, untrained_writer

from seq2seq_kit.errors import InputError
from seq2seq_kit.export import saved_model
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.export.verify import FreshAnswers
from seq2seq_kit.pretrained.compact import Storage, compact, expand
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.training.checkpoint import variable_arrays

LINES = ["abc", "", "dd a"]


def rounded(model: Seq2Seq, weights: Storage) -> Seq2Seq:
    """The same model with weights as they are after storing them."""
    copy = model.copy()
    variables = copy.model.trainable_variables
    stored = dict(compact(variable_arrays(variables, "weights"), weights))
    for variable, array in zip(variables, expand(stored).values(), strict=True):
        variable.assign(array)
    return copy


def export(model: Seq2Seq, path: Path, **options: object) -> ExportedModel:
    with pytest.MonkeyPatch.context() as patch:
        # The tests compare it with the same model themselves.
        patch.setattr(saved_model, "verify_export", lambda *_: FreshAnswers([], "", {}))
        model.export(path, **options)
    return ExportedModel(path)


def test_an_export_with_int8_weights_answers_as_these_weights_do(tmp_path: Path) -> None:
    model = untrained_model(tmp_path)
    exported = export(model, tmp_path / "int8", weights="int8", beam_size=2)
    expected = [best for (best,) in rounded(model, "int8").hypotheses(LINES, beam_size=2)]
    for _ in range(2):  # The first call expands the weights.
        found = exported.generate(LINES)
        assert found.texts == [one.text for one in expected]
        np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-5)
    assert exported.metadata["weights"] == "int8"
    # What looks inside sees the rounded weights, too.
    for found, expected in zip(
        exported.rebuilt.model.get_weights(),
        rounded(model, "int8").model.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    stored = tf.train.load_checkpoint(str(tmp_path / "int8" / "variables" / "variables"))
    types = stored.get_variable_to_dtype_map()
    held = {str(types[n]): 0 for n in types}
    for name, shape in stored.get_variable_to_shape_map().items():
        held[str(types[name])] += int(np.prod(shape, dtype=int))
    matrices = [one for one in model.model.trainable_variables if len(one.shape) > 1]
    # Each matrix once, with fewer scales than a tenth of its numbers would be.
    assert held[str(tf.int8)] == sum(int(np.prod(one.shape)) for one in matrices)
    # Loaded by itself, each signature expands them first.
    for name, more in {
        "score": {"targets": tf.constant(LINES)},
        "sample": {"num_samples": tf.constant(1), "seed": tf.constant(3, tf.int64)},
    }.items():
        signatures = tf.saved_model.load(str(tmp_path / "int8")).signatures
        assert signatures[name](inputs=tf.constant(LINES), **more)["log_probs"].shape[0] == 3


def test_a_text_goes_on_with_compact_weights(tmp_path: Path) -> None:
    model = untrained_writer(tmp_path)
    options = {"sample": True, "seed": 4}
    exported = export(model, tmp_path / "half", weights="float16", **options)
    python = rounded(model, "float16")
    state, other = exported.read("abc"), python.read("abc", **options)
    for number in (3, 4):
        assert exported.write(state, number) == python.generate(state=other, max_length=number)[0]


def test_wrong_kinds_of_weights_are_refused(tmp_path: Path) -> None:
    model = untrained_model(tmp_path)
    with pytest.raises(InputError, match="`weights` must be one of float32, float16, bfloat16"):
        model.export(tmp_path / "new", weights="int4")
    with pytest.raises(InputError, match="`weights` must be float32, float16 or int8"):
        model.export(tmp_path / "new", weights="bfloat16", export_format="litert", beam_size=1)
