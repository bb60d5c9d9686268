"""Constraints against a plain way that looks at one hypothesis after the other."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.decoding import StepOutput, beam_search, greedy_search, repeats_ngram

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
    options = {"max_length": 9, "no_repeat_ngram": ngram, "eos_id": 0, "pad_id": -1}
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
