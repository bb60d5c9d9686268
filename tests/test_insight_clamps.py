"""Clamped gates, by what traces and scores show in the body and after it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.insight.subject import lstm_layers
from seq2seq_kit.seq2seq import Seq2Seq


@pytest.mark.parametrize(
    ("gate", "value"),
    [
        ("forget_gate", 0.0),
        ("input_gate", 1.0),
        ("output_gate", 0.3),
        ("candidate", -1),
        ("candidate", 0.25),
    ],
)
@pytest.mark.parametrize("layer", ["encoder_backward_0", "decoder_1"])
def test_only_the_gate_of_the_layer_is_held(
    deep_model: Seq2Seq, layer: str, gate: str, value: float
) -> None:
    usual = insight.trace(deep_model, "ab", "xy").layers
    with insight.clamped(deep_model, layer, gate, value, units=[0, 2]):
        found = insight.trace(deep_model, "ab", "xy").layers
    held = getattr(found[layer], gate)
    np.testing.assert_allclose(held[:, [0, 2]], value, atol=1e-6)
    others = [unit for unit in range(held.shape[1]) if unit not in (0, 2)]
    # At the first step that a layer reads, nothing else has changed.
    first = -1 if "backward" in layer else 0
    np.testing.assert_array_equal(held[first, others], getattr(usual[layer], gate)[first, others])
    np.testing.assert_array_equal(found["encoder_forward_0"].cell, usual["encoder_forward_0"].cell)


def test_outputs_and_scores_change_in_the_body_only(deep_model: Seq2Seq) -> None:
    weights = deep_model.model.get_weights()
    usual = deep_model.score(["ab"], ["xy"]), deep_model.generate(["ab", "bbaa"])
    with insight.clamped(deep_model, "decoder_0", "output_gate", 0.0):
        held = insight.trace(deep_model, "ab", "xy").layers["decoder_0"]
        np.testing.assert_array_equal(held.hidden, 0)
        changed = deep_model.score(["ab"], ["xy"]), deep_model.generate(["ab", "bbaa"])
    assert changed[0] != usual[0]
    assert changed[1] != usual[1]
    assert usual == (deep_model.score(["ab"], ["xy"]), deep_model.generate(["ab", "bbaa"]))
    for before, after in zip(weights, deep_model.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_are_restored_after_an_error_and_from_nested_clamps(deep_model: Seq2Seq) -> None:
    cell = lstm_layers(deep_model.model)["decoder_0"].cell
    before = np.array(cell.bias)
    with (
        pytest.raises(KeyError),
        insight.clamped(deep_model, "decoder_0", "forget_gate", 0.0),
        insight.clamped(deep_model, "decoder_0", "forget_gate", 1.0, units=[3]),
    ):
        held = insight.trace(deep_model, "ab", "xy").layers["decoder_0"].forget_gate
        np.testing.assert_array_equal(held[0], np.arange(8) == 3)
        raise KeyError
    np.testing.assert_array_equal(cell.bias, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("decoder_2", "forget_gate", 0.0), "`layer` must be one of encoder_forward_0"),
        (("decoder_0", "forget", 0.0), "`gate` must be one of"),
        (("decoder_0", "forget_gate", 1.5), "from 0 to 1 for `forget_gate`"),
        (("decoder_0", "candidate", float("nan")), "from -1 to 1"),
        (("decoder_0", "candidate", "0"), "must be a number"),
        (("decoder_0", "candidate", 0.0, [8]), "whole numbers from 0 to 7"),
        (("decoder_0", "candidate", 0.0, []), "whole numbers from 0 to 7"),
    ],
)
def test_wrong_clamps_are_refused(
    deep_model: Seq2Seq, arguments: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message), insight.clamped(deep_model, *arguments):
        pass
