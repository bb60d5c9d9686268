"""Samples against the exact distribution, computed a second way, and laws of a draw."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from searches import greedy_search, sample

from seq2seq_kit.decoding import MINUS_INFINITY, Filters, StepOutput
from seq2seq_kit.decoding import sampling as sampling_module
from seq2seq_kit.decoding.random import line_key, threefry, uniform
from seq2seq_kit.decoding.sampling import draw

EOS = 3


def exact_distribution(logits: np.ndarray, filters: Filters) -> np.ndarray:
    """The filters one after the other, each on a distribution that is normalized again."""
    probabilities = np.exp(logits.astype(float) / filters.temperature)
    probabilities /= probabilities.sum()
    order = sorted(range(len(logits)), key=lambda token: -probabilities[token])
    if filters.top_k:
        probabilities[order[filters.top_k :]] = 0
        probabilities /= probabilities.sum()
    kept, mass = [], 0.0
    for token in order:
        if mass < filters.top_p:
            kept.append(token)
        mass += probabilities[token]
    probabilities[[token for token in order if token not in kept]] = 0
    probabilities[probabilities < filters.min_p * probabilities.max()] = 0
    return probabilities / probabilities.sum()


def many_numbers(count: int, seed: int = 0) -> tf.Tensor:
    counters = tf.stack([tf.range(count, dtype=tf.int64), tf.zeros(count, tf.int64)], axis=-1)
    keys = tf.tile(line_key(tf.constant([5], tf.int64), seed), (count, 1))
    return uniform(threefry(keys, counters)[:, 0])


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(temperature=0.6),
        Filters(temperature=1.7),
        Filters(top_k=4),
        Filters(top_k=1),
        Filters(top_p=0.8),
        Filters(top_p=0.01),
        Filters(min_p=0.2),
        Filters(temperature=1.5, top_k=8, top_p=0.9, min_p=0.05),
    ],
    ids=str,
)
@pytest.mark.parametrize("vocab_size", [12, 300])
def test_frequencies_are_those_of_the_exact_distribution(filters: Filters, vocab_size: int) -> None:
    logits = np.random.default_rng(1).normal(0, 2, vocab_size).astype(np.float32)
    count = 20_000
    tokens = draw(tf.tile(logits[None], (count, 1)), many_numbers(count), filters).numpy()
    expected = exact_distribution(logits, filters) * count
    observed = np.bincount(tokens, minlength=vocab_size)
    assert not observed[expected == 0].any()
    # Pearson's statistic over tokens that are expected often enough, the rest in one cell.
    often = expected >= 20
    cells = [*zip(observed[often], expected[often], strict=True)]
    cells.append((observed[~often].sum(), expected[~often].sum()))
    statistic = sum((o - e) ** 2 / e for o, e in cells if e > 0)
    freedom = sum(e > 0 for _, e in cells) - 1
    # Its mean is the degrees of freedom and its variance twice that: five deviations are enough.
    assert statistic <= freedom + 5 * np.sqrt(2 * freedom) + 1e-9


def test_a_set_larger_than_the_first_sorted_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(2).normal(0, 0.3, (64, 200)).astype(np.float32)
    numbers = many_numbers(64)
    filters = Filters(top_p=0.9)
    found = draw(tf.constant(logits), numbers, filters).numpy()
    monkeypatch.setattr(sampling_module, "_SORTED_FIRST", 4)
    np.testing.assert_array_equal(draw(tf.constant(logits), numbers, filters), found)


def test_forbidden_tokens_are_never_drawn_and_the_last_number_draws_the_last_token() -> None:
    logits = np.array([[0.0, MINUS_INFINITY, 1.0, MINUS_INFINITY]], np.float32)
    numbers = tf.constant(np.linspace(0, 1 - 2**-24, 1001), tf.float32)
    tokens = draw(tf.tile(logits, (1001, 1)), numbers, Filters()).numpy()
    assert set(tokens) == {0, 2}
    assert (tokens[0], tokens[-1]) == (0, 2)


def step(token_ids: tf.Tensor, state: tf.Tensor, _memory: Any) -> StepOutput:
    rng = np.random.default_rng(3)
    table = tf.constant(rng.normal(0, 1.5, (9, 9)), tf.float32)
    return StepOutput(tf.gather(table, token_ids) + tf.sin(state), state + 1.0)


def samples(
    lines: Sequence[int], *, seed: int = 1, number: int = 1, **options: Any
) -> list[list[tuple[int, ...]]]:
    """The samples of lines, each given as its hash."""
    found = sample(
        step,
        tf.fill([len(lines)], 2),
        tf.zeros([len(lines), 9]),
        line_keys=line_key(tf.constant(lines, tf.int64), seed),
        num_hypotheses=number,
        max_length=12,
        **options,
    )
    return [
        [tuple(row[:length].tolist()) for row, length in zip(rows, lengths, strict=True)]
        for rows, lengths in zip(found.token_ids.numpy(), found.lengths.numpy(), strict=True)
    ]


def test_a_sample_depends_on_line_seed_and_number_alone() -> None:
    alone = samples([7], number=3)[0]
    assert len(set(alone)) == 3
    for lines in ([7, 8], [8, 7, 7], [1, 2, 3, 7, 5]):
        together = samples(lines, number=3)
        assert all(together[place] == alone for place, line in enumerate(lines) if line == 7)
        assert together[0] != alone or lines[0] == 7
    assert samples([7], number=1)[0] == alone[:1]
    assert samples([7], number=3, seed=2)[0] != alone
    assert samples([7, 1, 2], number=2, row_counts=(1, 2)) == samples([7, 1, 2], number=2)


def test_top_k_of_one_is_greedy_search() -> None:
    lines = list(range(20))
    found = samples(lines, filters=Filters(top_k=1))
    greedy = greedy_search(step, tf.fill([20], 2), tf.zeros([20, 9]), max_length=12)
    expected = greedy.token_ids.numpy()[:, 0]
    for (row,), ids in zip(found, expected, strict=True):
        assert list(row) == ids[: len(row)].tolist()


def test_whole_samples_have_the_probability_of_their_tokens() -> None:
    # Two tokens at most: all texts and their probabilities can be listed.
    number = 4000
    found = sample(
        step,
        tf.fill([1], 2),
        tf.zeros([1, 9]),
        line_keys=line_key(tf.constant([7], tf.int64), 1),
        num_hypotheses=number,
        max_length=1,
        close_at_limit=False,
    )
    firsts = found.token_ids.numpy()[0, :, 0]
    logits = step(tf.constant([2]), tf.zeros([1, 9]), ()).logits.numpy()[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    expected = probabilities * number
    observed = np.bincount(firsts, minlength=9)
    assert ((observed - expected) ** 2 / expected).sum() < 8 + 5 * 4
    log_probs = found.log_probs.numpy()[0]
    for token, is_cut, log_prob in itertools.islice(
        zip(firsts, found.is_cut.numpy()[0], log_probs, strict=True), 50
    ):
        if is_cut or token == EOS:
            np.testing.assert_allclose(log_prob, np.log(probabilities[token]), rtol=1e-4)
