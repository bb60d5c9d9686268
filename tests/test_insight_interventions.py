"""Interventions, by what traces, scores and outputs show in the block and after it."""

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.insight import ForcedAttention, Intervention, interventions
from seq2seq_kit.insight.subject import lstm_layers
from seq2seq_kit.seq2seq import Seq2Seq

SEARCHES: list[dict[str, Any]] = [
    {"beam_size": 1},
    {"beam_size": 3},
    {"sample": True, "seed": 5},
]
LIMIT = 1e4  # Where sigmoid and tanh have reached their limits.


def held(part: str, value: float, **options: Any) -> Intervention:
    return Intervention(**{"layer": "decoder_0", "part": part, "value": value} | options)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    return untrained_writer(tmp_path_factory.mktemp("writer"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("forget_gate", 0.0),
        ("output_gate", 0.3),
        ("candidate", -1),
        ("cell", 2.5),
        ("hidden", 0.0),
    ],
)
@pytest.mark.parametrize("layer", ["encoder_backward_0", "decoder_1"])
def test_only_the_units_of_the_part_are_held(
    deep_model: Seq2Seq, layer: str, part: str, value: float
) -> None:
    usual = insight.trace(deep_model, "ab", "xy").layers
    with insight.intervene(deep_model, held(part, value, layer=layer, units=[0, 2])) as altered:
        # A trace compares what the layer gave with the equations.
        found = insight.trace(altered, "ab", "xy").layers
    array = getattr(found[layer], part)
    np.testing.assert_allclose(array[:, [0, 2]], value, atol=1e-6)
    others = [unit for unit in range(array.shape[1]) if unit not in (0, 2)]
    # At the first step that a layer reads, nothing else has changed.
    first = -1 if "backward" in layer else 0
    np.testing.assert_array_equal(array[first, others], getattr(usual[layer], part)[first, others])
    np.testing.assert_array_equal(found["encoder_forward_0"].cell, usual["encoder_forward_0"].cell)


def test_scaled_cell_is_what_the_equations_give(deep_model: Seq2Seq) -> None:
    usual = insight.trace(deep_model, "ab", "xy").layers["decoder_0"]
    scaled = Intervention(layer="decoder_0", part="cell", scale=0.5)
    with insight.intervene(deep_model, scaled) as altered:
        found = insight.trace(altered, "ab", "xy").layers["decoder_0"]
    np.testing.assert_allclose(found.cell[0], 0.5 * usual.cell[0], rtol=1e-5)
    by_hand = 0.5 * (
        found.forget_gate[1] * found.cell[0] + found.input_gate[1] * found.candidate[1]
    )
    np.testing.assert_allclose(found.cell[1], by_hand, rtol=1e-5)


@pytest.mark.parametrize("options", SEARCHES[1:])
def test_searches_write_what_weights_that_hold_the_gate_would(
    writer: Seq2Seq, options: dict[str, Any]
) -> None:
    # A gate can also be held by weights of zero and a bias before its activation.
    by_weights = writer.copy()
    cell = lstm_layers(by_weights.model)["decoder_0"].cell
    gate = slice(8, 16)  # Of eight units; Keras's order is input, forget, candidate, output.
    for weight, content in ((cell.kernel, 0.0), (cell.recurrent_kernel, 0.0), (cell.bias, -LIMIT)):
        changed = np.array(weight)
        changed[..., gate] = content
        weight.assign(changed)
    prompts = ["ab", "ba c", ""]
    with insight.intervene(writer, held("forget_gate", 0.0)) as altered:
        assert altered.generate(prompts, **options) == by_weights.generate(prompts, **options)
        if "sample" in options:  # Another graph.
            streamed = "".join(altered.stream("ab", **options))
            assert streamed == altered.generate(["ab"], **options)[0]
    assert altered.generate(prompts, **options) == writer.generate(prompts, **options)


@pytest.mark.parametrize("options", SEARCHES[:2])
def test_search_and_score_agree_under_interventions(
    deep_model: Seq2Seq, options: dict[str, Any]
) -> None:
    changes = (
        held("hidden", 0.0, units=[1, 5]),
        Intervention(layer="encoder_forward_1", part="forget_gate", scale=0.5),
        ForcedAttention(step=1, weights=[0.0, 3.0, 1.0, 0.0]),
    )
    ((usual,),) = deep_model.hypotheses(["ab"], max_length=30, **options)
    with insight.intervene(deep_model, *changes) as altered:
        ((best,),) = altered.hypotheses(["ab"], max_length=30, **options)
        (score,) = altered.scorer.score_ids(
            altered.inputs.encode_rows(["ab"]), [[*best.token_ids, *[3] * best.is_cut]]
        )
        seen = insight.trace(altered, "ab", best)
    assert best.log_prob == pytest.approx(score.log_prob, abs=1e-4)
    assert best.log_prob != pytest.approx(usual.log_prob, abs=1e-3)
    assert seen.attention is not None
    np.testing.assert_allclose(seen.attention[1], [0, 0.75, 0.25, 0], atol=1e-6)


def test_forced_attention_counts_the_tokens_of_a_prefix(deep_model: Seq2Seq) -> None:
    forced = ForcedAttention(step=2, weights=[1, 0, 0, 0])
    with insight.intervene(deep_model, forced) as altered:
        ((best,),) = altered.hypotheses(["ab"], prefixes="xy")
        seen = insight.trace(altered, "ab", best)
        ids = altered.inputs.encode_rows(["ab"])
        whole = [*best.token_ids, *[3] * best.is_cut]
        log_probs = altered.scorer.token_log_probs(ids[0], whole)
    assert seen.attention is not None
    np.testing.assert_array_equal(seen.attention[2], [1, 0, 0, 0])
    num_forced = len(deep_model.tokenizer.encode(["xy"])[0])
    assert best.log_prob == pytest.approx(log_probs[num_forced:].sum(), abs=1e-4)


def test_model_does_not_change_and_inner_interventions_come_last(deep_model: Seq2Seq) -> None:
    weights = deep_model.model.get_weights()
    usual = deep_model.score(["ab"], ["xy"])
    inner = held("forget_gate", 1.0, units=[3])
    with pytest.raises(KeyError), insight.intervene(deep_model, held("forget_gate", 0.0)) as outer:
        with insight.intervene(outer, inner) as both:
            assert both is outer
            gate = insight.trace(both, "ab", "xy").layers["decoder_0"].forget_gate
            np.testing.assert_array_equal(gate[0], np.arange(8) == 3)
            assert both.score(["ab"], ["xy"]) != usual
            assert deep_model.score(["ab"], ["xy"]) == usual
        gate = insight.trace(outer, "ab", "xy").layers["decoder_0"].forget_gate
        np.testing.assert_array_equal(gate, 0)
        raise KeyError
    assert outer.score(["ab"], ["xy"])[0].log_prob == pytest.approx(usual[0].log_prob)
    for before, after in zip(weights, deep_model.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_copy_follows_the_weights_of_its_model_and_goes_with_it(tmp_path: Path) -> None:
    model = untrained_writer(tmp_path)
    with insight.intervene(model):
        pass
    model.model.output_bias.assign(np.arange(model.tokenizer.vocab_size))
    with insight.intervene(model) as altered:
        (found,) = altered.score([""], ["ab"])
    assert found.log_prob == pytest.approx(model.score([""], ["ab"])[0].log_prob, rel=1e-5)
    number = len(interventions._copies)
    del model
    gc.collect()
    assert len(interventions._copies) == number - 1


def test_another_thread_waits_for_the_copy(writer: Seq2Seq) -> None:
    order: list[str] = []

    def use() -> None:
        with insight.intervene(writer):
            order.append("other thread")

    with insight.intervene(writer, held("forget_gate", 0.0)):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(timeout=0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other thread"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "forget"}, "`part` must be one of"),
        ({"value": 1.5}, "from 0 to 1"),
        ({"part": "candidate", "value": float("nan")}, "from -1 to 1"),
        ({"value": "0"}, "must be a number"),
        ({"scale": 2.0}, "and not both"),
        ({"value": None}, "needs `value` or `scale`"),
        ({"value": None, "scale": float("inf")}, "`scale` must be a number"),
        ({"layer": "decoder_2"}, "`layer` must be one of encoder_forward_0"),
        ({"units": [8]}, "whole numbers from 0 to 7"),
        ({"units": []}, "whole numbers from 0 to 7"),
    ],
)
def test_wrong_interventions_are_refused(
    deep_model: Seq2Seq, options: dict[str, Any], message: str
) -> None:
    with (
        pytest.raises(InputError, match=message),
        insight.intervene(deep_model, held(**{"part": "forget_gate", "value": 0.0} | options)),
    ):
        pass


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], ["a"], [[1]]])
def test_wrong_attention_is_refused(weights: list[Any]) -> None:
    with pytest.raises(InputError, match="`weights` must be numbers"):
        ForcedAttention(step=0, weights=weights)


def test_leave_out_refuses_forced_attention(deep_model: Seq2Seq) -> None:
    forced = ForcedAttention(step=0, weights=[1, 0, 0, 0])
    with (
        insight.intervene(deep_model, forced) as altered,
        pytest.raises(InputError, match="forced attention has too many weights"),
    ):
        insight.leave_out(altered, "ab", "xy")


def test_attention_that_does_not_fit_is_refused(deep_model: Seq2Seq, writer: Seq2Seq) -> None:
    with pytest.raises(InputError, match="`step` must be a whole number"):
        ForcedAttention(step=-1, weights=[1])
    forced = ForcedAttention(step=0, weights=[1, 0, 0, 0])
    with insight.intervene(deep_model, forced) as altered:
        for use in (altered.generate, lambda texts: insight.trace(altered, *texts, "xy")):
            with pytest.raises(InputError, match="4 tokens and the end, and attention is forced"):
                use(["abb"])
    other = ForcedAttention(step=1, weights=[1, 0])
    with pytest.raises(InputError, match="as many weights"):
        insight.intervene(deep_model, forced, other).__enter__()
    with pytest.raises(InputError, match="only in a translation model that has one"):
        insight.intervene(writer, forced).__enter__()
    assert deep_model.generate(["abb"])
