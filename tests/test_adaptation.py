"""Adaptation at test time: against equations written out in NumPy, and hand-worked examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import random_network

from seq2seq_kit.config import AdaptationConfig
from seq2seq_kit.inference import adaptation
from seq2seq_kit.inference.adaptation import AdaptiveReader, NeuralCache, restored_weights
from seq2seq_kit.inference.reading import TextReader
from seq2seq_kit.model.networks import LanguageModel


@pytest.fixture
def model() -> LanguageModel:
    return random_network("language model", units=8, embedding_dim=6, decoder_layers=1)


@pytest.fixture(autouse=True)
def _short_text_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_OWN_ROWS", 2)
    monkeypatch.setattr(adaptation, "_OWN_SEGMENTS", 2)


TEXT = np.random.default_rng(5).integers(4, 40, 50).tolist()


def segment_loss(model: LanguageModel, ids: list[int], start: int, stop: int) -> tf.Tensor:
    """The losses of a segment: the network reads the text before it with today's weights."""
    logits = model({"decoder_input_ids": np.array([[2, *ids[: stop - 1]]])})[0, start:]
    return keras.losses.sparse_categorical_crossentropy(
        np.array(ids[start:stop]), logits, from_logits=True
    )


def test_without_rate_and_cache_the_losses_are_those_of_a_plain_reader(
    model: LanguageModel,
) -> None:
    reader = AdaptiveReader(model, AdaptationConfig(rate=0.0, segment=7))
    found = reader.read_texts([TEXT, TEXT[:9]])
    expected = TextReader(model).read_texts([TEXT, TEXT[:9]])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_weights_move_as_the_equation_says(model: LanguageModel) -> None:
    config = AdaptationConfig(rate=0.05, decay=0.7, segment=10)
    variables = model.trainable_variables
    saved = [variable.numpy() for variable in variables]
    reader = AdaptiveReader(model, config)
    squares = [np.zeros_like(value) for value in saved]
    for text in reader._write(2, 20).numpy().tolist():
        for start in (0, 10):
            for total, gradient in zip(squares, _gradients(model, text, start), strict=True):
                total += gradient**2
    rms = [np.sqrt(total / 4) for total in squares]
    mean = sum(part.sum() for part in rms) / sum(part.size for part in rms)
    (losses,) = reader.read_texts([TEXT[:10]])
    moved = [variable.numpy() for variable in variables]
    gradients = _gradients(model, TEXT, 0)  # With the weights that have moved.
    reader.read_texts([TEXT[:10]])
    for variable, before, value, gradient, scale in zip(
        variables, saved, moved, gradients, rms, strict=True
    ):
        step = -0.05 * np.clip((gradient / mean) / (scale / mean + 0.1), -10, 10)
        back = np.minimum(0.7 * scale / mean, 1.0) * (before - value)
        np.testing.assert_allclose(variable.numpy(), value + step + back, atol=1e-4)
    # The first time, with the saved weights, there was no way back.
    for variable, value in zip(variables, saved, strict=True):
        variable.assign(value)
    np.testing.assert_allclose(losses, segment_loss(model, TEXT, 0, 10), rtol=1e-4)
    gradients = _gradients(model, TEXT, 0)
    for value, before, gradient, scale in zip(moved, saved, gradients, rms, strict=True):
        step = -0.05 * np.clip((gradient / mean) / (scale / mean + 0.1), -10, 10)
        np.testing.assert_allclose(value, before + step, atol=1e-4)


def _gradients(model: LanguageModel, ids: list[int], start: int) -> list[np.ndarray]:
    """Gradients of a segment of ten, with a state that is a constant."""
    states = model.lstm.zero_state(1)
    inputs = np.array([[2, *ids]])
    if start:
        _, states, _ = model.read(inputs[:, :start], states)
    with tf.GradientTape() as tape:
        outputs, _, _ = model.read(inputs[:, start : start + 10], states)
        logits = model.output_layer().logits(outputs)[0]
        losses = keras.losses.sparse_categorical_crossentropy(
            np.array(ids[start : start + 10]), logits, from_logits=True
        )
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def test_a_text_that_repeats_itself_becomes_likelier(model: LanguageModel) -> None:
    text = 8 * TEXT[:20]
    config = AdaptationConfig(rate=0.01, segment=10)
    with restored_weights(model):
        before = [variable.numpy() for variable in model.trainable_variables]
        (losses,) = AdaptiveReader(model, config).read_texts([text])
        after = [variable.numpy() for variable in model.trainable_variables]
    assert losses[-20:].mean() < 0.6 * losses[:20].mean()
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_cache_counts_what_followed_on_similar_outputs() -> None:
    cache = NeuralCache(size=3, sharpness=1.0)
    # Scores of a place are 1 for the same direction and 0 for the other.
    one, other = [1.0, 0.0], [0.0, 1.0]
    found = cache.read(np.array([one, other, one]), np.array([7, 8, 7]))
    assert np.isnan(found[0])
    # The second sees a 7 after `one`; the third 7 after `one`, score 1, and 8 after `other`.
    np.testing.assert_allclose(found[1:], [0.0, np.e / (np.e + 1)])
    # The memory is full: [7, 8, 7]. The next forgets the first 7.
    found = cache.read(np.array([other, other]), np.array([7, 8]))
    np.testing.assert_allclose(found, [2 / (2 + np.e), np.e / (1 + 2 * np.e)])


def test_a_cache_mixes_with_the_model(model: LanguageModel) -> None:
    config = AdaptationConfig(rate=0.0, segment=7, cache_weight=0.25, cache_size=20)
    (found,) = AdaptiveReader(model, config).read_texts([TEXT])
    (plain,) = TextReader(model).read_texts([TEXT])
    outputs = model.decoder_outputs({"decoder_input_ids": np.array([[2, *TEXT[:-1]]])})[0].numpy()
    for place, token in enumerate(TEXT):
        first = max(0, place - 20)
        scores = np.exp(0.3 * outputs[first:place] @ outputs[place])
        share = sum(s for s, t in zip(scores, TEXT[first:place], strict=True) if t == token)
        expected = np.exp(-plain[place])
        if place:
            expected = 0.75 * expected + 0.25 * share / scores.sum()
        assert found[place] == pytest.approx(-np.log(expected), abs=1e-4)
