"""Probes, on features that the states hold and on one that they cannot hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.insight.probes import FEATURES
from seq2seq_kit.seq2seq import Seq2Seq

DRAWS = np.random.default_rng(3)
LINES = ["".join(DRAWS.choice(["0", "1"], 12)) for _ in range(24)]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    return untrained_writer(tmp_path_factory.mktemp("writer"))


def after_one(tokens: Any) -> list[float]:
    return [float(token.endswith("1")) for token in tokens]


def test_feature_of_the_last_token_is_found_and_so_is_its_control(writer: Seq2Seq) -> None:
    found = insight.probe(writer, LINES, after_one, num_units=2)
    assert found.score > 0.85 > 0.7 > found.baseline
    # Nothing but the token type is known: a control task is as easy.
    assert found.control_score > 0.8
    assert len(set(found.units)) == 2
    assert len(found.losses_without_random_units) == 5
    ids = [[*row, 3] for row in writer.tokenizer.encode(LINES[-6:])]
    ids = [[*row[:-1], writer.scorer.ends_with] for row in ids]
    scores = writer.scorer.score_ids([[]] * len(ids), ids)
    loss = -sum(one.log_prob for one in scores) / sum(map(len, ids))
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.loss_without_units != pytest.approx(loss, rel=1e-3)


def test_feature_that_no_state_can_hold_is_not_found(writer: Seq2Seq) -> None:
    draws = np.random.default_rng(1)
    found = insight.probe(
        writer, LINES, lambda tokens: draws.choice([0.0, 1.0], len(tokens)).tolist(), num_units=1
    )
    assert found.score < 0.7


def test_number_is_fitted_by_regression(writer: Seq2Seq) -> None:
    found = insight.probe(writer, LINES, "position", num_units=1)
    assert found.baseline <= 0
    assert found.score <= 1


@pytest.mark.parametrize(
    ("name", "tokens", "values"),
    [
        ("in_quotes", ("说", "：“", "好", "。”", "走"), [0, 1, 1, 0, 0]),
        ("in_quotes", ("「", "『", "』", "」"), [1, 1, 1, 0]),
        ("position", ("▁the", "▁cat"), [3, 6]),
    ],
)
def test_named_features(name: str, tokens: tuple[str, ...], values: list[float]) -> None:
    assert FEATURES[name](tokens) == values


@pytest.mark.parametrize(
    ("lines", "feature", "options", "message"),
    [
        (LINES, "subject", {}, "`feature` must be a function or one of in_quotes"),
        (LINES, "in_quotes", {}, "same value everywhere"),
        (LINES, lambda tokens: [1.0], {}, "a finite number for each"),
        (LINES[:3], after_one, {}, "four texts or more"),
        (LINES, after_one, {"layer": "decoder_1"}, "`layer` must be one of decoder_0"),
        (LINES, after_one, {"num_units": 5}, "from 1 to 4"),
    ],
)
def test_wrong_probes_are_refused(
    writer: Seq2Seq, lines: Any, feature: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        insight.probe(writer, lines, feature, **{"num_units": 2} | options)


def test_encoder_decoder_is_refused(deep_model: Seq2Seq, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Received an encoder-decoder"):
        insight.probe(deep_model, LINES, after_one, num_units=2)
