"""Log-probabilities of given texts, against the model called by hand and against the search."""

import math
import random
from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import (
    NETWORKS,
    NumberTokenizer,
    generator_of,
    random_lines,
    random_network,
    scorer_of,
)

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference import parallel
from seq2seq_kit.inference import scorer as scoring
from seq2seq_kit.inference.scorer import Score, Scorer, perplexity
from seq2seq_kit.model.networks import LanguageModel

SOURCES = random_lines(40, longest=13, seed=1)
TARGETS = random_lines(40, longest=13, seed=2)
PAIRS = list(zip(SOURCES, TARGETS, strict=True))


def make_scorer(kind: str, ends_with: int = 3) -> Scorer:
    tokenizer = NumberTokenizer()
    return scorer_of(
        random_network(kind),
        tokenizer,
        tokenizer,
        ends_with=ends_with,
        max_source_length=20,
        keep_end=True,
    )


@pytest.fixture(scope="module", params=NETWORKS)
def scorer(request: pytest.FixtureRequest) -> Scorer:
    return make_scorer(request.param)


def log_prob_by_hand(scorer: Scorer, source: str, target: str) -> float:
    """The sum over the target's tokens, from logits of this one row, unpadded."""
    source_ids, target_ids = scorer.tokenizer.encode([source, target])
    target_ids.append(scorer.ends_with)
    is_lm = isinstance(scorer.model, LanguageModel)
    before = [2, *source_ids] if is_lm else [2]
    logits = scorer.model(
        {
            "source_ids": np.array([[*source_ids, 3]]),
            "decoder_input_ids": np.array([[*before, *target_ids[:-1]]]),
        }
    )[:, len(before) - 1 :]
    losses = keras.losses.sparse_categorical_crossentropy(
        np.array([target_ids]), logits, from_logits=True
    )
    return -float(tf.reduce_sum(losses))


def test_score_is_the_sum_over_the_target_and_its_end(scorer: Scorer) -> None:
    found = scorer.score(SOURCES[:8], TARGETS[:8])
    for (source, target), score in zip(PAIRS[:8], found, strict=True):
        assert score.log_prob == pytest.approx(log_prob_by_hand(scorer, source, target), abs=1e-3)
        assert score.num_tokens == len(target.split()) + 1


def test_a_score_is_bit_for_bit_the_same_in_any_company(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dict(zip(PAIRS, scorer.score(SOURCES, TARGETS, threads=1), strict=True))
    assert len({score.log_prob for score in found.values()}) == len(PAIRS)
    for batch_size in (1, 2, 7, 32):
        pairs = random.Random(batch_size).sample(PAIRS, len(PAIRS))
        scores = scorer.score(*zip(*pairs, strict=True), batch_size=batch_size)
        assert dict(zip(pairs, scores, strict=True)) == found
    for source, target in PAIRS[:5]:
        assert scorer.score([source], [target]) == [found[source, target]]
    monkeypatch.setattr(parallel, "available_cores", lambda: 4)
    assert scorer.score(SOURCES, TARGETS, batch_size=2) == list(found.values())


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_hypothesis_has_the_score_of_its_tokens(scorer: Scorer, beam_size: int) -> None:
    generator = generator_of(
        scorer.model,
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(max_length=12),
        max_source_length=20,
        keep_end=False,
    )
    found = [best for (best,) in generator.hypotheses(SOURCES[:12], beam_size=beam_size)]
    sources = NumberTokenizer().encode(SOURCES[:12])
    # One that was cut is scored as a text that ends there.
    targets = [[*best.token_ids, 3] if best.is_cut else best.token_ids for best in found]
    assert len({best.is_cut for best in found}) == 2
    for best, score in zip(found, scorer.score_ids(sources, targets), strict=True):
        assert score.log_prob == pytest.approx(best.log_prob, abs=1e-4)
        assert score.num_tokens == len(best.token_ids) + best.is_cut


def test_an_empty_text_costs_its_end(scorer: Scorer) -> None:
    (score,) = scorer.score([""], [""])
    assert score.num_tokens == 1
    assert score.log_prob == pytest.approx(log_prob_by_hand(scorer, "", ""), abs=1e-4)


def test_running_text_ends_with_a_newline() -> None:
    scorer = make_scorer("language model", ends_with=7)
    (score,) = scorer.score([""], ["9 8"])
    assert score.log_prob == pytest.approx(log_prob_by_hand(scorer, "", "9 8"), abs=1e-4)


class LineTokenizer(NumberTokenizer):
    """A newline is the token 7."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return super().encode([text.replace("\n", " 7") for text in texts])


@pytest.mark.parametrize("has_separator", [False, True])
def test_a_line_of_running_text_is_scored_after_all_lines_before_it(has_separator: bool) -> None:
    model = random_network("language model", units=16, embedding_dim=12)
    tokenizer = LineTokenizer()
    options = {"reads_running_text": True, "has_separator": has_separator, "ends_with": 7}
    scorer = scorer_of(model, tokenizer, tokenizer, **options)
    lines = ["4 5", "", "6 8 9", "10", "", "", "11"]
    found = scorer.score_text(lines)
    if has_separator:
        texts = [[4, 5, 7, 3], [6, 8, 9, 7, 10, 7, 3], [11, 7, 3]]
        sizes = [4, 0, 4, 3, 0, 0, 3]
    else:
        texts = [[4, 5, 7, 7, 6, 8, 9, 7, 10, 7, 7, 7, 11, 7, 3]]
        sizes = [3, 1, 4, 2, 1, 1, 3]
    losses = []
    for ids in texts:
        logits = model({"decoder_input_ids": np.array([[2, *ids[:-1]]])})
        losses += (
            keras.losses.sparse_categorical_crossentropy(np.array(ids), logits[0], from_logits=True)
            .numpy()
            .tolist()
        )
    assert [score.num_tokens for score in found] == sizes
    for score, size in zip(found, sizes, strict=True):
        assert score.log_prob == pytest.approx(-sum(losses[:size]), abs=1e-4)
        del losses[:size]


def test_only_a_language_model_of_running_text_reads_lines_as_one_text() -> None:
    with pytest.raises(InputError, match="trained on running text"):
        make_scorer("language model").score_text(["4"])
    tokenizer = LineTokenizer()
    model = random_network("language model", units=16, embedding_dim=12)
    reader = scorer_of(model, tokenizer, tokenizer, ends_with=7, reads_running_text=True)
    with pytest.raises(InputError, match="at least one line"):
        reader.score_text([])


def test_prompt_tokens_are_not_scored() -> None:
    scorer = make_scorer("language model")
    whole, prompt, rest = (
        scorer.score_ids([source], [target])[0].log_prob
        for source, target in (([], [5, 6, 7, 3]), ([], [5, 6]), ([5, 6], [7, 3]))
    )
    assert whole == pytest.approx(prompt + rest, abs=1e-4)


def test_an_over_long_source_is_refused_or_cut(scorer: Scorer) -> None:
    # 21 tokens, one too many: the prompt of a language model keeps its end.
    source = " ".join(str(4 + place % 8) for place in range(21))
    with pytest.raises(InputError, match="Line 2 has 21 tokens; the model takes at most 20"):
        scorer.score(["4", source], ["5", "6"])
    (cut,) = scorer.score([source], ["5"], truncate=True)
    assert [cut] == scorer.score([source.partition(" ")[2]], ["5"])


def test_what_does_not_fit_into_memory_is_refused(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scorer.score(SOURCES, TARGETS)
    largest = 16 * (scorer.model.vocab_size + 16 * scorer.model.units)  # a row of 16 and 16 tokens
    monkeypatch.setattr(scoring, "_MAX_NUMBERS", 16 * largest)
    # Smaller batches, the same scores.
    assert scorer.score(SOURCES, TARGETS) == whole
    if isinstance(scorer.model, LanguageModel):  # It reads a long text in pieces.
        return
    with pytest.raises(InputError, match="Line 2 has about 1004 tokens to score"):
        scorer.score(["4", "4"], ["5", 1000 * "5 "])


def test_nothing_to_score_gives_nothing(scorer: Scorer) -> None:
    assert scorer.score([], []) == []


def test_each_source_needs_a_target(scorer: Scorer) -> None:
    with pytest.raises(InputError, match="2 sources, 1 targets"):
        scorer.score(["4", "5"], ["6"])


def test_perplexities_divide_by_their_units() -> None:
    scores = [Score(-6.0, 3), Score(-4.0, 2)]
    found = perplexity(scores, ["to be", "or"])
    # 10 nats over 5 tokens, 3 + 2 words and ends, 7 + 2 characters and ends.
    assert found.per_token == pytest.approx(math.exp(2))
    assert found.per_word == pytest.approx(math.exp(2))
    assert found.per_character == pytest.approx(math.exp(10 / 9))


def test_texts_without_spaces_between_words_have_no_perplexity_per_word() -> None:
    scores = [Score(-6.0, 3), Score(-4.0, 2)]
    assert perplexity(scores, ["春天到了", "万物复苏"]).per_word is None
    assert perplexity(scores, ["春天 到 了", "万物 复苏"]).per_word == pytest.approx(
        math.exp(10 / 7)
    )


def test_a_perplexity_too_large_for_a_float_is_finite() -> None:
    assert math.isfinite(perplexity([Score(-1e6, 1)], [""]).per_token)


def test_perplexity_of_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one line"):
        perplexity([], [])
