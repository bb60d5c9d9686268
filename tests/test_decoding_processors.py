"""Processors against a plain way that looks at one hypothesis after the other."""

import numpy as np
import pytest
import tensorflow as tf
from searches import beam_search, greedy_search

from seq2seq_kit.decoding import (
    MINUS_INFINITY,
    ForbiddenTokens,
    History,
    LogitsProcessor,
    MinLength,
    NoLoop,
    NoRepeatedNgram,
    RepetitionPenalty,
    StepOutput,
)
from seq2seq_kit.decoding import processors as processors_module
from seq2seq_kit.decoding.processors import BannedTexts, ban_texts, repeats_ngram
from seq2seq_kit.errors import InputError

VOCAB_SIZE = 6


def forbidden_tokens(row: list[int], ngram: int) -> list[bool]:
    """A second plain way: append each token and look for the last n-gram before the end."""
    forbidden = []
    for token in range(VOCAB_SIZE):
        longer = [*row, token]
        grams = [tuple(longer[i : i + ngram]) for i in range(len(longer) - ngram + 1)]
        forbidden.append(bool(grams) and grams[-1] in grams[:-1])
    return forbidden


@pytest.mark.parametrize("ngram", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 12])
def test_repeats_ngram_agrees_with_looking_at_each_token(ngram: int, length: int) -> None:
    rows = np.random.default_rng(length).integers(0, 3, (40, 12)).astype("int32")
    found = repeats_ngram(
        tf.constant(rows), tf.constant(length), ngram=ngram, vocab_size=VOCAB_SIZE
    )
    expected = [forbidden_tokens(row[:length].tolist(), ngram) for row in rows]
    assert found.numpy().tolist() == expected


def likes_to_repeat(token_ids: tf.Tensor, state: tf.Tensor, _memory: tuple[()]) -> StepOutput:
    """Prefers the token before most, so that free search repeats it for ever."""
    return StepOutput(tf.one_hot(token_ids, VOCAB_SIZE) * 3 + tf.range(6.0) / 10, state)


@pytest.mark.parametrize("ngram", [1, 2, 3])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_hypothesis_contains_an_ngram_twice(ngram: int, beam_size: int) -> None:
    options = {"max_length": 9, "processors": [NoRepeatedNgram(ngram)], "eos_id": 0, "pad_id": -1}
    start, state = tf.constant([4, 5]), tf.zeros([2])
    if beam_size == 1:
        found = greedy_search(likes_to_repeat, start, state, **options)
    else:
        found = beam_search(
            likes_to_repeat, start, state, beam_size=beam_size, num_hypotheses=3, **options
        )
    for line, lengths in zip(found.token_ids.numpy(), found.lengths.numpy(), strict=True):
        for row, length in zip(line, lengths, strict=True):
            grams = [tuple(row[i : i + ngram]) for i in range(length - ngram + 1)]
            assert len(grams) == len(set(grams))
            assert length > 0


def test_without_the_constraint_the_same_search_repeats() -> None:
    found = greedy_search(
        likes_to_repeat, tf.constant([4]), tf.zeros([1]), max_length=5, eos_id=0, pad_id=-1
    )
    assert found.token_ids.numpy()[0, 0].tolist() == [4] * 5 + [-1]


def loops(row: list[int], num_characters: list[int], max_characters: int) -> bool:
    """A second plain way: for each period, walks back from the end while tokens repeat."""

    def count(tokens: list[int]) -> int:
        return sum(num_characters[token] for token in tokens)

    for period in range(1, len(row)):
        start = len(row)
        while start - 1 - period >= 0 and row[start - 1] == row[start - 1 - period]:
            start -= 1
        repeated, stretch = count(row[start:]), count(row[-period:])
        if repeated >= max_characters and repeated >= stretch + min(stretch, max_characters):
            return True
    return False


@pytest.mark.parametrize("max_characters", [1, 4, 9])
@pytest.mark.parametrize("num_characters", [[1] * 6, [0, 1, 2, 5, 1, 3], [0, 1, 0, 0, 1, 1]])
def test_the_end_of_a_loop_agrees_with_walking_back(
    num_characters: list[int], max_characters: int
) -> None:
    rng = np.random.default_rng(7)
    rows, length = 60, 24
    processor = NoLoop(tf.constant(num_characters), max_characters)
    # Few different tokens, and stretches said again and again.
    stretches = [rng.integers(1, 4, rng.integers(1, 8)).tolist() for _ in range(rows)]
    token_ids = np.array(
        [(3 * rng.integers(1, 4, 3).tolist() + 24 * s)[:length] for s in stretches]
    )
    token_ids = np.where(rng.random(token_ids.shape) < 0.02, 5, token_ids)
    logits = rng.normal(size=(rows, VOCAB_SIZE)).astype(np.float32)
    state = processor.start(rows, length - 1)
    found, expected = [], []
    for time in range(length):
        seen = np.where(np.arange(length) < time, token_ids, 4)
        lowered, state = processor(
            logits, History(tf.constant(seen, tf.int32), tf.constant(time)), state
        )
        found.append(lowered.numpy())
        expected.append(
            [
                [
                    MINUS_INFINITY
                    if loops([*row[:time], token], num_characters, max_characters)
                    else logits[index, token]
                    for token in range(VOCAB_SIZE)
                ]
                for index, row in enumerate(token_ids.tolist())
            ]
        )
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert np.mean(np.array(found) == MINUS_INFINITY) > 0.001


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_search_leaves_a_loop_after_the_characters_it_may_repeat(beam_size: int) -> None:
    processor = NoLoop(tf.constant([0, 1, 1, 1, 1, 1]), 3)
    options = {"max_length": 9, "processors": [processor], "eos_id": 0, "pad_id": -1}
    start, state = tf.constant([4, 5]), tf.zeros([2])
    if beam_size == 1:
        found = greedy_search(likes_to_repeat, start, state, **options)
    else:
        found = beam_search(likes_to_repeat, start, state, beam_size=beam_size, **options)
    ones = [0, 1, 1, 1, 1, 1]
    for row, length in zip(found.token_ids.numpy()[:, 0], found.lengths.numpy()[:, 0], strict=True):
        assert length > 0
        assert not any(loops(row[:end].tolist(), ones, 3) for end in range(2, length + 1))
    if beam_size == 1:  # The token fed first is the prompt's and does not count.
        assert found.token_ids.numpy()[0, 0].tolist() == [4, 4, 4, 5, 5, 5, 4, 4, 4, -1]


SURFACES = [b"", b"", b"", b"", *(text.encode() for text in ("a", "b", "ab", "ba", "aab", "春"))]
SURFACES += [bytes([byte]) for byte in "春".encode()]


@pytest.mark.parametrize(
    "texts", [["ab"], ["aba", "bb"], ["abab", "bab", "b"], ["春"], ["a春", "aaa", "春春"]]
)
def test_banned_tokens_are_those_that_complete_a_text(texts: list[str]) -> None:
    banned = [text.encode() for text in texts]
    processor = BannedTexts(ban_texts(SURFACES, banned))
    rng = np.random.default_rng(len(texts))
    rows, length = 60, 7
    token_ids = rng.integers(4, len(SURFACES), (rows, length)).astype(np.int32)
    state = processor.start(tf.constant(rows), length)
    for time in range(length):
        history = History(tf.constant(token_ids), tf.constant(time))
        found, state = processor(tf.zeros([rows, len(SURFACES)]), history, state)
        for row, lowered in zip(token_ids, found.numpy(), strict=True):
            before = b"".join(SURFACES[token] for token in row[:time])
            for token, surface in enumerate(SURFACES):
                # A text that ends within this token's bytes, by looking at each place.
                ends = range(len(before) + 1, len(before) + len(surface) + 1)
                whole = before + surface
                expected = any(whole[:end].endswith(text) for end in ends for text in banned)
                assert (lowered[token] == MINUS_INFINITY) == expected


def test_banned_texts_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors_module, "MAX_BAN_ENTRIES", 5 * len(SURFACES))
    ban_texts(SURFACES, [b"abca"])
    with pytest.raises(InputError, match=r"at most 5 bytes .* Received: 5"):
        ban_texts(SURFACES, [b"abcab"])


def test_the_repetition_penalty_divides_and_multiplies_tokens_of_the_output() -> None:
    logits = tf.constant([[2.0, -2.0, 1.0, -1.0]] * 2)
    history = History(tf.constant([[0, 1, 9], [2, 2, 9]]), tf.constant(2))
    found, _ = RepetitionPenalty(2.0)(logits, history, ())
    np.testing.assert_allclose(found, [[1.0, -4.0, 1.0, -1.0], [2.0, -2.0, 0.5, -1.0]])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_log_probs_stay_those_of_the_decoder_under_a_penalty(beam_size: int) -> None:
    options = {"max_length": 6, "processors": [RepetitionPenalty(1.5)], "eos_id": 0, "pad_id": -1}
    start, state = tf.constant([4, 5]), tf.zeros([2])
    if beam_size == 1:
        found = greedy_search(likes_to_repeat, start, state, **options)
    else:
        found = beam_search(
            likes_to_repeat, start, state, beam_size=beam_size, num_hypotheses=3, **options
        )
    for first, lines, lengths, log_probs, cuts in zip(
        start.numpy(),
        found.token_ids.numpy(),
        found.lengths.numpy(),
        found.log_probs.numpy(),
        found.is_cut.numpy(),
        strict=True,
    ):
        for row, length, log_prob, is_cut in zip(lines, lengths, log_probs, cuts, strict=True):
            tokens = [int(first), *row[:length].tolist(), *([0] if is_cut else [])]
            logits = likes_to_repeat(tf.constant(tokens[:-1]), (), ()).logits
            of_tokens = tf.nn.log_softmax(logits).numpy()[np.arange(len(tokens) - 1), tokens[1:]]
            np.testing.assert_allclose(log_prob, of_tokens.sum(), rtol=1e-5)
    assert (found.scores.numpy() < found.log_probs.numpy() - 0.1).any()


@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_output_is_shorter_than_the_minimum(beam_size: int) -> None:
    def likes_to_end(token_ids: tf.Tensor, state: tf.Tensor, _memory: tuple[()]) -> StepOutput:
        return StepOutput(tf.tile([[9.0, 0, 1, 0, 0, 0]], (tf.size(token_ids), 1)), state)

    options = {"max_length": 6, "processors": [MinLength(4, 0)], "eos_id": 0, "pad_id": -1}
    start, state = tf.constant([4, 5]), tf.zeros([2])
    if beam_size == 1:
        found = greedy_search(likes_to_end, start, state, **options)
    else:
        found = beam_search(likes_to_end, start, state, beam_size=beam_size, **options)
    assert found.lengths.numpy().tolist() == [[5], [5]]


ALL = [
    ForbiddenTokens((0, 2)),
    MinLength(5, 0),
    RepetitionPenalty(1.5),
    NoRepeatedNgram(2),
    NoLoop(tf.ones([VOCAB_SIZE], tf.int32), 2),
    BannedTexts(ban_texts([b"", b"a", b"b", b"ab", b"c", b"ca"], [b"ab", b"bc"])),
]


@pytest.mark.parametrize("processor", ALL, ids=lambda one: type(one).__name__)
def test_a_processor_never_raises_a_logit_and_reads_no_more_tokens_than_it_declares(
    processor: LogitsProcessor,
) -> None:
    rng = np.random.default_rng(1)
    ids = tf.constant(rng.integers(0, 3, (20, 9)), tf.int32)
    state = processor.start(tf.constant(20), 8)
    has_effect = False
    for length in range(8):
        logits = tf.constant(rng.normal(0, 3, (20, VOCAB_SIZE)), tf.float32)
        changed, after = processor(logits, History(ids, tf.constant(length)), state)
        assert not np.any(changed > logits)
        has_effect |= bool(np.any(changed < logits))
        if processor.num_past_tokens is not None:
            kept = min(length, processor.num_past_tokens)
            recent = History(ids[:, length - kept :], tf.constant(kept))
            np.testing.assert_array_equal(processor(logits, recent, state)[0], changed)
        state = after
    assert has_effect
