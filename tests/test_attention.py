"""Attention, against formulas in NumPy and an example worked by hand."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import reference

from seq2seq_kit.model.attention import (
    AdditiveAttention,
    Attention,
    Memory,
    MultiplicativeAttention,
)

KINDS = [MultiplicativeAttention, AdditiveAttention]
WAYS = [Attention.__call__, Attention.step]
UNITS, FEATURES = 4, 6
LENGTHS = np.array([5, 3, 1])
MASK = np.arange(5) < LENGTHS[:, None]


def make_attention(kind: type[Attention]) -> Attention:
    attention = kind(UNITS)
    attention.build(UNITS, FEATURES)
    rng = np.random.default_rng(0)
    attention.set_weights([rng.normal(size=w.shape) for w in attention.get_weights()])
    return attention


def random_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Queries of two steps, and values."""
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(3, 2, UNITS)).astype(np.float32)
    return queries, rng.normal(size=(3, 5, FEATURES)).astype(np.float32)


def plain_scores(attention: Attention, queries: np.ndarray, values: np.ndarray) -> np.ndarray:
    keys = values @ attention.key_projection.kernel.numpy()
    if isinstance(attention, MultiplicativeAttention):
        return queries @ keys.swapaxes(1, 2)
    projected = queries @ attention.query_projection.kernel.numpy()
    hidden = np.tanh(projected[:, :, None, :] + keys[:, None, :, :])
    return hidden @ attention.score_vector.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_attention_equals_its_formula(kind: type[Attention], way: Callable[..., Any]) -> None:
    attention, (queries, values) = make_attention(kind), random_inputs()
    contexts, weights = way(attention, queries, attention.memorize(values, MASK))
    scores = plain_scores(attention, queries, values)
    expected_contexts, expected_weights = reference.attend(scores, values, MASK)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    np.testing.assert_allclose(contexts, expected_contexts, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_weights_sum_to_one_and_are_zero_at_padding(
    kind: type[Attention], way: Callable[..., Any]
) -> None:
    attention, (queries, values) = make_attention(kind), random_inputs()
    weights = way(attention, queries, attention.memorize(values, MASK))[1].numpy()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert not weights[~np.broadcast_to(MASK[:, None, :], weights.shape)].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_values_at_padding_change_nothing(
    kind: type[Attention], way: Callable[..., Any]
) -> None:
    attention, (queries, values) = make_attention(kind), random_inputs()
    contexts, _ = way(attention, queries, attention.memorize(values, MASK))
    other = np.where(MASK[:, :, None], values, 1e3).astype(np.float32)
    wider = np.pad(other, [(0, 0), (0, 4), (0, 0)], constant_values=-7)
    mask = np.pad(MASK, [(0, 0), (0, 4)])
    found, _ = way(attention, queries, attention.memorize(wider, mask))
    np.testing.assert_allclose(found, contexts, atol=1e-5)


def test_multiplicative_attention_worked_by_hand() -> None:
    attention = MultiplicativeAttention(2)
    attention.build(2, 2)
    attention.set_weights([np.eye(2)])
    values = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    query = np.array([[[np.log(3.0), 0.0]]], np.float32)
    # Scores log 3 and 0, so weights 3 : 1.
    contexts, weights = attention(query, attention.memorize(values, np.array([[True, True]])))
    np.testing.assert_allclose(weights, [[[0.75, 0.25]]], rtol=1e-6)
    np.testing.assert_allclose(contexts, [[[0.75, 0.25]]], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_memory_of_padding_alone_gives_numbers(
    kind: type[Attention], way: Callable[..., Any]
) -> None:
    attention, (queries, values) = make_attention(kind), random_inputs()
    contexts, _ = way(attention, queries, attention.memorize(values, np.zeros_like(MASK)))
    assert np.isfinite(contexts).all()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_keeps_values_and_mask_with_the_keys(kind: type[Attention]) -> None:
    attention, (_, values) = make_attention(kind), random_inputs()
    memory = attention.memorize(values, MASK)
    assert isinstance(memory, Memory)
    assert memory.values is values
    assert memory.mask is MASK
    assert memory.keys.shape == (3, 5, UNITS)


def test_multiplicative_attention_refuses_queries_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"units=4, query size 5\. Use AdditiveAttention"):
        MultiplicativeAttention(4).build(5, FEATURES)


def test_additive_attention_takes_queries_of_another_size() -> None:
    attention = AdditiveAttention(4)
    attention.build(9, FEATURES)
    contexts, _ = attention(
        np.ones((3, 2, 9), np.float32), attention.memorize(random_inputs()[1], MASK)
    )
    assert contexts.shape == (3, 2, FEATURES)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_restored_from_its_config(kind: type[Attention]) -> None:
    attention = kind(UNITS, init_scale=0.3, name="one")
    restored = keras.layers.deserialize(keras.layers.serialize(attention))
    assert type(restored) is kind
    assert restored.get_config() == attention.get_config()
