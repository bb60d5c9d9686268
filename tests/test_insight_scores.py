"""Surprise and omissions, against the logits of the network and the scores of changed texts."""

from pathlib import Path

import keras
import numpy as np
import pytest
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.special_ids import BOS_ID, EOS_ID


def test_surprise_is_the_negative_log_probability_of_each_token(deep_model: Seq2Seq) -> None:
    found = insight.surprise(deep_model, "abb", "xyz")
    source, target = (deep_model.tokenizer.encode([text])[0] for text in ("abb", "xyz"))
    inputs = {"source_ids": [[*source, EOS_ID]], "decoder_input_ids": [[BOS_ID, *target]]}
    logits = deep_model.model({name: np.array(ids) for name, ids in inputs.items()})
    log_probs = np.asarray(keras.ops.log_softmax(logits))[0]
    expected = -log_probs[range(len(target) + 1), [*target, EOS_ID]]
    assert found.tokens == ("▁", "x", "y", "z", "</s>")
    np.testing.assert_allclose(found.nats, expected, rtol=1e-5)
    (score,) = deep_model.score(["abb"], ["xyz"])
    assert -found.nats.sum() == pytest.approx(score.log_prob, rel=1e-6)


def test_prompt_of_a_language_model_is_not_surprising(
    tmp_path: Path,
) -> None:
    writer = untrained_writer(tmp_path)
    parts = insight.surprise(writer, "01", "10"), insight.surprise(writer, "", "0110")
    assert parts[0].tokens == parts[1].tokens[-len(parts[0].tokens) :]
    (score,) = writer.score(["01"], ["10"])
    assert -parts[0].nats.sum() == pytest.approx(score.log_prob, rel=1e-6)


def test_omission_compares_with_the_source_without_the_token(deep_model: Seq2Seq) -> None:
    found = insight.leave_out(deep_model, "aab", "xy")
    assert found.tokens == ("▁", "a", "a", "b")
    whole, without_a, without_b = deep_model.score(["aab", "ab", "aa"], 3 * ["xy"])
    a, b = without_a.log_prob - whole.log_prob, without_b.log_prob - whole.log_prob
    np.testing.assert_allclose(found.log_prob_changes[1:], [a, a, b], rtol=1e-6)
    assert abs(a - b) > 1e-3


def test_omission_from_an_empty_source_has_no_token(deep_model: Seq2Seq) -> None:
    found = insight.leave_out(deep_model, "", "x")
    assert found.tokens == ()
    assert found.log_prob_changes.shape == (0,)
