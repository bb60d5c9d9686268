"""Texts read piece by piece, against the network called once for each whole text."""

import keras
import numpy as np
import pytest
from reference import random_network

from seq2seq_kit.inference import reading
from seq2seq_kit.inference.reading import TextReader
from seq2seq_kit.model.networks import LanguageModel


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_network("language model", units=16, embedding_dim=12)


def losses_of_whole(model: LanguageModel, ids: list[int]) -> np.ndarray:
    logits = model({"decoder_input_ids": np.array([[2, *ids[:-1]]])})
    return keras.losses.sparse_categorical_crossentropy(
        np.array([ids]), logits, from_logits=True
    ).numpy()[0]


@pytest.mark.parametrize("tokens", [16, 48, 128])
def test_pieces_have_the_losses_of_one_pass(
    model: LanguageModel, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_TOKENS", tokens)
    monkeypatch.setattr(reading, "_TEXTS", 3)  # so that rows read several texts
    rng = np.random.default_rng(1)
    texts = [rng.integers(3, 500, size).tolist() for size in (40, 1, 100, 48, 7, 16, 130)]
    found = TextReader(model).read_texts(texts)
    assert [len(part) for part in found] == [len(text) for text in texts]
    for part, text in zip(found, texts, strict=True):
        np.testing.assert_allclose(part, losses_of_whole(model, text), rtol=1e-4, atol=1e-5)


def test_rows_have_the_losses_of_one_pass(model: LanguageModel) -> None:
    rows = np.random.default_rng(2).integers(3, 500, (2, 300)).astype(np.int32)
    found = TextReader(model).read_rows(rows)
    for part, row in zip(found, rows.tolist(), strict=True):
        np.testing.assert_allclose(part, losses_of_whole(model, row), rtol=1e-4, atol=1e-5)


def test_fewer_tokens_of_a_large_vocabulary_are_read_at_once(model: LanguageModel) -> None:
    reader = TextReader(model)
    assert reader.tokens_at_once == 128
    model.vocab_size, before = 500_000, model.vocab_size
    assert reader.tokens_at_once == 32
    model.vocab_size = before
