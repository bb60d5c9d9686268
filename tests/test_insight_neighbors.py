"""Nearest training examples, against distances between the states that traces show."""

from typing import Any

import numpy as np
import pytest

from seq2seq_kit import insight
from seq2seq_kit.errors import DataError, InputError
from seq2seq_kit.seq2seq import Seq2Seq

PAIRS = [("ab", "xy"), ("bbb", "zz"), ("aab", "yx"), ("ba", "z")]


def test_decoder_states_are_compared_by_their_angle(deep_model: Seq2Seq) -> None:
    index = insight.TrainingIndex(deep_model, pairs=PAIRS)
    found = index.nearest("abba", "xz", position=1, number=3)

    def hidden(source: str, target: str) -> np.ndarray:
        return insight.trace(deep_model, source, target).layers["decoder_1"].hidden

    wanted = hidden("abba", "xz")[1]
    expected = []
    for line, pair in enumerate(PAIRS, 1):
        states = hidden(*pair)
        norms = np.linalg.norm(states, axis=1) * np.linalg.norm(wanted)
        distances = 1 - states @ wanted / norms
        expected.append((float(distances.min()), line, int(distances.argmin())))
    expected.sort()
    assert [(one.line, one.position) for one in found] == [row[1:] for row in expected[:3]]
    np.testing.assert_allclose(
        [one.distance for one in found], [e[0] for e in expected[:3]], atol=2e-3
    )
    pieces = [*insight.trace(deep_model, *PAIRS[found[0].line - 1]).target_tokens]
    assert found[0].token == pieces[found[0].position]


@pytest.mark.parametrize("state", ["encoder", "decoder", "context"])
def test_an_example_of_the_index_is_nearest_to_itself(deep_model: Seq2Seq, state: Any) -> None:
    index = insight.TrainingIndex(deep_model, state=state, pairs=PAIRS)
    best, *_ = index.nearest("bbb", "zz", position=1)
    assert (best.source, best.target, best.position) == ("bbb", "zz", 1)
    assert best.distance == pytest.approx(0, abs=1e-3)
    tokens = {"encoder": ["▁", "b", "b", "b", "</s>"]}.get(state, ["▁", "z", "z", "</s>"])
    assert best.token == tokens[1]


def test_index_of_the_run_reads_its_training_data_and_is_cached(
    deep_model: Seq2Seq, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = insight.TrainingIndex(deep_model, max_lines=5)
    found = first.nearest("ab", "xy", number=9)
    assert len(found) == 5
    monkeypatch.setattr(insight.TrainingIndex, "_build", None)  # It would fail.
    again = insight.TrainingIndex(deep_model, max_lines=5)
    assert len(again) == len(first)
    assert again.nearest("ab", "xy", number=9) == found


def test_language_model_has_states_of_prompt_and_text(
    continuation_run: Any,
) -> None:
    writer = continuation_run.fitted
    index = insight.TrainingIndex(writer, max_lines=3)
    best, *_ = index.nearest("one two ", "three four five six seven", position=-1)
    assert best.target == "one two three four five six seven"
    with pytest.raises(InputError, match="states of a decoder only"):
        insight.TrainingIndex(writer, state="encoder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "cell"}, "`state` must be one of"),
        ({"max_lines": 0}, "`max_lines` must be"),
        ({"pairs": ["ab"]}, "pairs of texts"),
        ({"pairs": [("a", "")]}, "at least one text"),
    ],
)
def test_wrong_options_are_refused(
    deep_model: Seq2Seq, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        insight.TrainingIndex(deep_model, **options)


def test_missing_data_and_positions_are_refused(
    deep_model: Seq2Seq, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = insight.TrainingIndex(deep_model, pairs=PAIRS)
    with pytest.raises(InputError, match="from -4 to 3"):
        index.nearest("ab", "xy", position=4)
    gone = deep_model.config.data.train[0].files[0]
    hidden = gone.with_suffix(".hidden")
    gone.rename(hidden)
    try:
        with pytest.raises(DataError, match="Pass texts as `pairs`"):
            insight.TrainingIndex(deep_model)
    finally:
        hidden.rename(gone)
