"""Texts in, texts out: above all that a line's answer depends on nothing but the line."""

import random
from typing import Any

import numpy as np
import pytest
from conftest import TrainedRun
from reference import NETWORKS, NumberTokenizer, generator_of, random_lines, random_network

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.special_ids import EOS_ID

LINES = random_lines(24, longest=13)


def make_generator(kind: str, *, keep_end: bool = False, longest: int = 20) -> Generator:
    return generator_of(
        random_network(kind),
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(max_length=10),
        max_source_length=longest,
        keep_end=keep_end,
    )


@pytest.fixture(scope="module", params=NETWORKS)
def generator(request: pytest.FixtureRequest) -> Generator:
    return make_generator(request.param)


@pytest.fixture(scope="module")
def translator() -> Generator:
    return make_generator("multiplicative")


@pytest.fixture(scope="module")
def continuer() -> Generator:
    return make_generator("language model", keep_end=True)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 5, "num_hypotheses": 2},
        {"beam_size": 3, "max_loop_characters": 5},
    ],
)
def test_an_answer_is_bit_for_bit_the_same_in_any_company(
    generator: Generator, options: dict[str, Any]
) -> None:
    found = dict(zip(LINES, generator.hypotheses(LINES, **options), strict=True))
    assert len({line[0].text for line in found.values()}) > len(LINES) / 3
    for batch_size in (1, 2, 7, 32):
        lines = random.Random(batch_size).sample(LINES, len(LINES))
        again = generator.hypotheses(lines, batch_size=batch_size, **options)
        assert dict(zip(lines, again, strict=True)) == found
    for line in LINES[:5]:
        assert list(generator.hypotheses([line], **options)) == [found[line]]


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("additive", {"units": 36}),
        ("additive", {"units": 36, "layer_normalization": True}),
        ("language model", {"units": 32, "inner_units": 44, "layer_normalization": True}),
    ],
)
def test_widths_that_fill_no_registers_change_nothing(kind: str, sizes: dict[str, int]) -> None:
    network = random_network(kind, embedding_dim=10, **sizes)
    generator = generator_of(
        network,
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(max_length=10),
        max_source_length=20,
        keep_end=kind == "language model",
    )
    found = list(generator.hypotheses(LINES, beam_size=3))
    for batch_size in (1, 5):
        assert list(generator.hypotheses(LINES, beam_size=3, batch_size=batch_size)) == found


def test_bfloat16_answers_nearly_the_same_and_in_any_company(generator: Generator) -> None:
    # But for the precision, options of which there is a graph already.
    options: dict[str, Any] = {"beam_size": 3, "max_loop_characters": 5}
    exact = [one for (one,) in generator.hypotheses(LINES, **options)]
    options["precision"] = "bfloat16"
    found = [one for (one,) in generator.hypotheses(LINES, **options)]
    assert [one.score for one in found] != [one.score for one in exact]
    # These random networks exaggerate: a rounded factor changes many a choice.
    same = [a.score for a, b in zip(found, exact, strict=True) if a.text == b.text]
    expected = [b.score for a, b in zip(found, exact, strict=True) if a.text == b.text]
    assert len(same) > len(LINES) / 3
    np.testing.assert_allclose(same, expected, rtol=0.1, atol=0.1)
    alone = [one for (one,) in generator.hypotheses(LINES, batch_size=1, **options)]
    assert alone == found


def test_answers_beyond_one_graph_call_come_in_order(translator: Generator) -> None:
    lines = [LINES[place % 7] for place in range(50)]
    few = list(translator.hypotheses(LINES[:7], beam_size=2))
    many = list(translator.hypotheses(lines, beam_size=2, batch_size=2))
    assert many == [few[place % 7] for place in range(50)]


def test_generation_can_start_again_after_a_change_of_weights() -> None:
    generator = make_generator("multiplicative")
    before = list(generator.hypotheses(LINES[:4], beam_size=1))
    for variable in generator.model.trainable_variables:
        variable.assign(-variable)
    assert list(generator.hypotheses(LINES[:4], beam_size=1)) != before


def test_an_unknown_precision_is_refused(translator: Generator) -> None:
    with pytest.raises(InputError, match=r"'float32' or 'bfloat16'\. Received: 'int8'"):
        next(translator.hypotheses(LINES, precision="int8"))


def test_hypotheses_are_ranked_and_differ(translator: Generator) -> None:
    for hypotheses in translator.hypotheses(LINES[:8], beam_size=5, num_hypotheses=5):
        assert len({one.token_ids for one in hypotheses}) == 5
        scores = [one.score for one in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for one in hypotheses:
            assert one.is_cut == (len(one.token_ids) == 10 and 3 not in one.token_ids)


@pytest.mark.parametrize("beam_size", [2, 5])
def test_more_hypotheses_never_change_the_best_one(translator: Generator, beam_size: int) -> None:
    alone = [best for (best,) in translator.hypotheses(LINES[:16], beam_size=beam_size)]
    for number in {2, beam_size}:
        found = translator.hypotheses(LINES[:16], beam_size=beam_size, num_hypotheses=number)
        assert [best for best, *_ in found] == alone


def test_more_hypotheses_than_the_configured_beam_holds_are_refused(translator: Generator) -> None:
    too_many = translator.defaults.beam_size + 1
    with pytest.raises(InputError, match=f"num_hypotheses={too_many}, .* Enlarge the beam"):
        next(translator.hypotheses(["7"], num_hypotheses=too_many))


def test_score_is_the_log_prob_under_the_length_penalty(translator: Generator) -> None:
    for penalty in (0.0, 0.5, 2.0):
        for (one,) in translator.hypotheses(LINES[:8], beam_size=5, length_penalty=penalty):
            length = len(one.token_ids) + one.is_cut
            expected = one.log_prob / ((5 + length) / 6) ** penalty
            np.testing.assert_allclose(one.score, expected, rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 5])
def test_max_length_bounds_the_tokens_before_eos(translator: Generator, beam_size: int) -> None:
    found = list(translator.hypotheses(LINES, beam_size=beam_size, max_length=3))
    lengths = [len([i for i in one.token_ids if i != 3]) for (one,) in found]
    assert max(lengths) == 3


@pytest.mark.parametrize("beam_size", [1, 5])
def test_padding_unknown_and_bos_are_never_generated(beam_size: int) -> None:
    generator = make_generator("multiplicative")
    bias = np.zeros(500, np.float32)
    bias[:3] = 9.0
    generator.model.output_bias.assign(bias)
    for (one,) in generator.hypotheses(LINES, beam_size=beam_size):
        assert not {0, 1, 2} & set(one.token_ids)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_an_empty_line_is_translated_to_nothing(translator: Generator, beam_size: int) -> None:
    options = {"beam_size": beam_size, "num_hypotheses": beam_size}
    alone, empty, _ = translator.hypotheses([LINES[0], "", LINES[1]], **options)
    assert empty == [Hypothesis("", (), 0.0, 0.0)] * beam_size
    assert [alone] == list(translator.hypotheses([LINES[0]], **options))


@pytest.mark.parametrize("kind", ["multiplicative", "language model"])
def test_an_empty_prompt_is_continued(kind: str) -> None:
    generator = make_generator(kind, keep_end=True)
    alone = list(generator.hypotheses([""], beam_size=2))
    assert alone[0][0].token_ids
    assert list(generator.hypotheses([LINES[0], "", LINES[1]], beam_size=2))[1:2] == alone


def test_no_text_gives_no_answer(translator: Generator) -> None:
    assert list(translator.hypotheses([])) == []


def test_inputs_end_with_eos_and_prompts_begin_with_bos(
    translator: Generator, continuer: Generator
) -> None:
    ids, lengths, *_ = translator.inputs.encode(["7 8", "", "9"])
    assert (ids.tolist(), lengths.tolist()) == ([[7, 8, 3], [3, 0, 0], [9, 3, 0]], [3, 1, 2])
    ids, lengths, *_ = continuer.inputs.encode(["7 8", ""])
    assert (ids.tolist(), lengths.tolist()) == ([[2, 7, 8], [2, 0, 0]], [3, 1])


def test_a_long_line_is_refused_by_its_number(translator: Generator) -> None:
    lines = ["7"] * 70 + ["7 " * 21]
    message = r"Line 81 has 21 tokens; the model takes at most 20.*truncate"
    with pytest.raises(InputError, match=message):
        list(translator.hypotheses(lines, beam_size=1, batch_size=1, first_line=11))


def test_truncation_keeps_the_beginning_of_a_source_and_the_end_of_a_prompt(
    translator: Generator, continuer: Generator
) -> None:
    line = " ".join(map(str, range(4, 34)))
    assert translator.inputs.encode([line], truncate=True)[0].tolist() == [[*range(4, 24), 3]]
    assert continuer.inputs.encode([line], truncate=True)[0].tolist() == [[2, *range(14, 34)]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "`beam_size` must be 1 or more. Received: 0"),
        ({"batch_size": -1}, "`batch_size` must be 1 or more. Received: -1"),
        ({"num_hypotheses": 0}, "`num_hypotheses` must be a whole number"),
        ({"num_hypotheses": 3, "beam_size": 2}, "num_hypotheses=3, beam_size=2"),
        ({"beam_size": "3"}, "`beam_size` must be a whole number. Received: '3'"),
        ({"beam_size": 1_000_000}, "`beam_size` must be 10000 or less. Received: 1000000"),
        ({"max_length": 4294967296}, "`max_length` must be 1000000 or less. Received: 4294967296"),
        ({"max_length": 2**31}, "`max_length` must be 1000000 or less"),
        ({"batch_size": 10**12}, "`batch_size` must be 10000000 or less"),
        ({"num_hypotheses": 10**9}, "`num_hypotheses` must be a whole number from 1 to 10000"),
        ({"num_hypotheses": 6}, "num_hypotheses=6, beam_size=5"),
        ({"num_hypotheses": 10**5000}, "Received: a whole number of about 5000 digits"),
        ({"temperature": 0.5}, "`temperature` has an effect only with `sample: true`"),
        ({"sample": True, "beam_size": 2}, "`beam_size` must be 1 where `sample` is true"),
        ({"min_length": 50}, "`min_length` contradicts .* 50 is more than max_length 10"),
        ({"sample": True, "temperature": 0.0}, "`temperature` must be more than 0.0"),
        ({"length_penalty": 1e300}, "`length_penalty` must be 5.0 or less"),
        ({"length_penalty": -0.5}, "`length_penalty` must be 0.0 or more. Received: -0.5"),
        ({"beamsize": 3}, "`beamsize` is an unknown option. Did you mean `beam_size`?"),
        ({"truncated": True}, "`truncated` is an unknown option. Did you mean `truncate`?"),
    ],
)
def test_options_out_of_range_are_refused(
    translator: Generator, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(translator.hypotheses(["7"], **options))


def test_texts_come_from_anything_that_has_them(translator: Generator) -> None:
    expected = list(translator.hypotheses(["7", "12"]))
    for texts in (("7", "12"), iter(["7", "12"]), np.array(["7", "12"])):
        assert list(translator.hypotheses(texts)) == expected


@pytest.mark.parametrize("texts", ["7", None, 7])
def test_what_holds_no_texts_is_refused(translator: Generator, texts: Any) -> None:
    with pytest.raises(InputError, match="Expected a list of texts"):
        list(translator.hypotheses(texts))


def test_options_left_out_come_from_the_config(translator: Generator) -> None:
    given = {"beam_size": 5, "max_length": 10, "length_penalty": 1.0, "batch_size": 64}
    plain = list(translator.hypotheses(LINES[:5]))
    assert plain == list(translator.hypotheses(LINES[:5], **given))
    assert plain == list(translator.hypotheses(LINES[:5], decoding=DecodingConfig(beam_size=5)))
    decoding = DecodingConfig(max_length=3)
    assert plain == list(translator.hypotheses(LINES[:5], decoding=decoding, max_length=10))


def test_outputs_have_at_least_min_length_tokens(translator: Generator) -> None:
    options = {"beam_size": 1, "max_length": 8}

    def lengths(**more: int) -> list[int]:
        found = translator.hypotheses(LINES, **options, **more)
        return [sum(token != EOS_ID for token in best.token_ids) for (best,) in found]

    assert min(length for length in lengths() if length) < 6
    assert all(length >= 6 for length in lengths(min_length=6) if length)


def test_other_numbers_need_no_new_graph(
    translator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"max_length": 9, "length_penalty": 0.3, "batch_size": 8}
    list(translator.hypotheses(LINES[:2], beam_size=2))
    # Python runs the search only to trace it.
    monkeypatch.delattr(ModelSearch, "__call__")
    for name, value in given.items():
        list(translator.hypotheses(LINES[:2], beam_size=2, **{name: value}))


@pytest.mark.parametrize("odd", ["a\0b", "\0", "春天", "😀 a", "a\tb", " ", "a" * 12, "\u2028"])
def test_odd_lines_have_an_answer_and_disturb_nobody(translation_run: TrainedRun, odd: str) -> None:
    generate = translation_run.fitted.generate
    before, answer, after = generate(["ab", odd, "cd"])
    assert [before, after] == generate(["ab", "cd"])
    assert [answer] == generate([odd])
