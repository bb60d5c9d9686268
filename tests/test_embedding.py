"""Noise on the inputs of a network: what is dropped, how often, and what stays."""

import keras
import numpy as np
import pytest

from seq2seq_kit.model.embedding import TokenEmbedding

VOCAB_SIZE, DIM = 200, 5
# Rows of BOS, words, EOS and padding.
IDS = np.random.default_rng(0).integers(4, VOCAB_SIZE, (60, 50)).astype(np.int32)
IDS[:, 0], IDS[:, 40], IDS[:, 41:] = 2, 3, 0
IS_WORD = IDS >= 4


def make_embedding(**options: float) -> TokenEmbedding:
    keras.utils.set_random_seed(1)
    embedding = TokenEmbedding(VOCAB_SIZE, DIM, **options)
    embedding.build()
    # The first number of an embedding is its id.
    weights = np.random.default_rng(1).normal(size=(VOCAB_SIZE, DIM)).astype(np.float32)
    weights[:, 0] = np.arange(VOCAB_SIZE)
    embedding.set_weights([weights])
    return embedding


def embed(embedding: TokenEmbedding, *, training: bool = True) -> np.ndarray:
    return np.asarray(embedding(IDS, training=training))


def close_to(share: float, number: int) -> pytest.approx:
    """Within four standard deviations of a share of a number of draws."""
    return pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / number))


ALL = {"embedding_dropout": 0.3, "word_dropout": 0.2, "token_noise": 0.2}


def test_without_training_embeddings_are_looked_up() -> None:
    embedding = make_embedding(**ALL)
    np.testing.assert_array_equal(
        embed(embedding, training=False), embedding.embeddings.numpy()[IDS]
    )


def test_without_rates_training_changes_nothing_and_draws_nothing() -> None:
    embedding = make_embedding()
    np.testing.assert_array_equal(embed(embedding), embedding.embeddings.numpy()[IDS])
    assert len(embedding.variables) == 1


def test_embedding_dropout_takes_words_out_of_the_whole_batch() -> None:
    embedding = make_embedding(embedding_dropout=0.3)
    found, plain = embed(embedding), embedding.embeddings.numpy()[IDS]
    is_zero = (found == 0).all(axis=-1)
    by_id = {number: set(is_zero[number == IDS].tolist()) for number in np.unique(IDS)}
    assert all(len(values) == 1 for values in by_id.values())
    assert np.mean([True in values for values in by_id.values()]) == close_to(0.3, VOCAB_SIZE)
    np.testing.assert_allclose(found[~is_zero], plain[~is_zero] / 0.7, rtol=1e-6)


def test_word_dropout_makes_single_tokens_unknown() -> None:
    found = embed(make_embedding(word_dropout=0.2))[..., 0]
    changed = found != IDS
    assert (found[changed] == 1).all()
    assert not changed[~IS_WORD].any()
    assert changed[IS_WORD].mean() == close_to(0.2, IS_WORD.sum())


def test_token_noise_puts_words_of_the_batch_in_their_place() -> None:
    found = embed(make_embedding(token_noise=0.4))[..., 0]
    changed = found != IDS
    assert not changed[~IS_WORD].any()
    assert set(found[changed]) <= set(IDS[IS_WORD].tolist())
    # A drawn word is now and then the same.
    assert changed[IS_WORD].mean() == close_to(0.4 * (1 - 1 / (VOCAB_SIZE - 4)), IS_WORD.sum())


def test_noise_is_drawn_by_frequency() -> None:
    ids = np.where(np.random.default_rng(2).random((100, 100)) < 0.9, 7, 8).astype(np.int32)
    found = np.asarray(make_embedding(token_noise=0.5)(ids, training=True))[..., 0]
    assert (found[ids == 8] == 7).mean() == close_to(0.45, (ids == 8).sum())


def test_a_batch_without_words_stays_as_it_is() -> None:
    ids = np.array([[2, 3, 0]], np.int32)
    embedding = make_embedding(token_noise=0.9)
    np.testing.assert_array_equal(np.asarray(embedding(ids, training=True))[..., 0], ids)


def test_each_call_draws_other_noise_and_a_saved_seed_repeats_it() -> None:
    embedding = make_embedding(**ALL)
    seed = embedding.seed_generator.state.numpy()
    first, second = embed(embedding), embed(embedding)
    assert (first != second).any()
    embedding.seed_generator.state.assign(seed)
    np.testing.assert_array_equal(embed(embedding), first)


def test_embedding_is_restored_from_its_config() -> None:
    embedding = make_embedding(**ALL)
    restored = keras.layers.deserialize(keras.layers.serialize(embedding))
    assert restored.get_config() == embedding.get_config()
    assert ALL.items() <= restored.get_config().items()
