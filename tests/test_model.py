"""Both networks: steps against whole sequences, padding, cuDNN's conditions, Keras's methods."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from untrained import untrained_model, untrained_writer

from seq2seq_kit.config import ModelConfig
from seq2seq_kit.model.build import build_model
from seq2seq_kit.model.fast_lstm import FastLSTM
from seq2seq_kit.model.lstm import LSTMState
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, TokenModel
from seq2seq_kit.training.losses import MaskedCrossEntropy

VOCAB_SIZE = 20
SOURCES = np.array([[5, 6, 7, 3], [9, 3, 0, 0]], np.int32)
INPUTS = np.array([[2, 8, 9, 10], [2, 11, 12, 0]], np.int32)
TARGETS = np.array([[8, 9, 10, 3], [11, 12, 3, 0]], np.int32)
BATCH = {"source_ids": SOURCES, "decoder_input_ids": INPUTS}

ENCODER_DECODERS = [
    {"attention": "multiplicative"},
    {"attention": "additive", "encoder_layers": 2, "decoder_layers": 3},
    {"attention_layer": "first", "decoder_layers": 2, "tie_embeddings": False},
    {"source_vocab_size": 30, "encoder_layers": 3, "decoder_layers": 1},
    {
        "layer_normalization": True,
        "attention_layer": "first",
        "decoder_layers": 2,
        "embedding_dropout": 0.2,
    },
]
MODELS = [
    *((EncoderDecoder, options) for options in ENCODER_DECODERS),
    (LanguageModel, {"decoder_layers": 1}),
    (LanguageModel, {"decoder_layers": 3, "tie_embeddings": False}),
    (
        LanguageModel,
        {"decoder_layers": 2, "inner_units": 12, "layer_normalization": True, "weight_drop": 0.2},
    ),
]


def make_model(kind: type[TokenModel], options: dict[str, Any]) -> Any:
    keras.utils.set_random_seed(1)
    model = kind(VOCAB_SIZE, embedding_dim=6, units=8, init_scale=0.5, **options)
    model.build()
    return model


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_steps_give_the_logits_of_the_whole_sequence(
    kind: type[TokenModel], options: dict[str, Any]
) -> None:
    model = make_model(kind, options)
    logits = model(BATCH)
    # A language model starts from BOS, a prompt without text.
    start = model.start(SOURCES if kind is EncoderDecoder else INPUTS[:, :1])
    assert start.token_ids.numpy().tolist() == [2, 2]
    states = start.states
    for time in range(INPUTS.shape[1]):
        step = model.step(INPUTS[:, time], states, start.memory)
        states = step.state
        np.testing.assert_allclose(step.logits, logits[:, time], atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_vocabulary_weights_are_those_whose_shape_depends_on_a_vocabulary(
    kind: type[TokenModel], options: dict[str, Any]
) -> None:
    model = make_model(kind, options)
    found = {id(one.variable): one for one in model.vocabulary_weights()}
    config = model.get_config()
    sizes = {"target": "vocab_size", "source": "source_vocab_size"}
    for side, key in sizes.items():
        if config.get(key) is None:
            continue
        larger = kind.from_config(config | {key: config[key] + 1})
        larger.build()
        variables = zip(model.trainable_variables, larger.trainable_variables, strict=True)
        for one, other in variables:
            axes = [axis for axis, size in enumerate(one.shape) if size != other.shape[axis]]
            place = found.get(id(one))
            assert axes == ([place.axis] if place and place.side == side else [])


def test_a_language_model_starts_after_all_but_the_last_token_of_a_prompt() -> None:
    model = make_model(LanguageModel, {"decoder_layers": 2})
    logits = model({"decoder_input_ids": INPUTS})
    prompts = np.array([[2, 8, 9], [2, 11, 0], [2, 0, 0]], np.int32)
    start = model.start(prompts)
    assert start.token_ids.numpy().tolist() == [9, 11, 2]
    step = model.step(start.token_ids, start.states)
    expected = [logits[0, 2], logits[1, 1], logits[1, 0]]
    np.testing.assert_allclose(step.logits, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_more_padding_changes_no_logits(kind: type[TokenModel], options: dict[str, Any]) -> None:
    model = make_model(kind, options)
    wider = {name: np.pad(ids, [(0, 0), (0, 3)]) for name, ids in BATCH.items()}
    real = INPUTS != 0
    found = model(wider).numpy()[:, : INPUTS.shape[1]]
    np.testing.assert_allclose(found[real], model(BATCH).numpy()[real], atol=1e-5)


def test_logits_depend_on_earlier_tokens_only() -> None:
    changed = INPUTS.copy()
    changed[:, 2:] = 13
    for kind in (EncoderDecoder, LanguageModel):
        model = make_model(kind, {})
        before, after = (model(BATCH | {"decoder_input_ids": i}) for i in (INPUTS, changed))
        np.testing.assert_allclose(before[:, :2], after[:, :2], atol=1e-6)
        assert np.abs(before[:, 2] - after[:, 2]).max() > 1e-3


def test_decoder_layers_start_from_the_encoder_layers() -> None:
    model = make_model(EncoderDecoder, {"encoder_layers": 2, "decoder_layers": 3})
    _, states = model.encode(SOURCES)
    mask = SOURCES != 0
    _, finals = model.encoder(model.source_embedding(SOURCES), mask=mask)
    for state, layer in zip(states, (0, 1, 1), strict=True):
        np.testing.assert_array_equal(state, finals[layer])


def test_attention_weights_look_at_real_tokens_only() -> None:
    model = make_model(EncoderDecoder, {})
    weights = model.attention_weights(SOURCES, INPUTS).numpy()
    assert weights.shape == (2, 4, 4)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert not weights[1, :, 2:].any()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 20 * 6),
        ({"tie_embeddings": False}, 20 * 6 + 20 * 8),
        ({"source_vocab_size": 30}, 20 * 6 + 30 * 6),
        ({"source_vocab_size": 30, "tie_embeddings": False}, 20 * 6 + 30 * 6 + 20 * 8),
    ],
)
def test_tied_embeddings_are_one_matrix(options: dict[str, Any], size: int) -> None:
    model = make_model(EncoderDecoder, options)
    names = ("embedding", "output_kernel")
    found = {id(w): w for w in model.trainable_weights if any(name in w.path for name in names)}
    assert sum(np.prod(w.shape) for w in found.values()) == size


def test_an_untied_output_layer_reads_as_many_numbers_as_a_state_has() -> None:
    for kind in (EncoderDecoder, LanguageModel):
        model = make_model(kind, {"tie_embeddings": False})
        assert model.output_kernel.shape == (8, 20)
        assert model(BATCH).shape == (2, 4, 20)


def test_dropout_is_active_in_training_only() -> None:
    for kind in (EncoderDecoder, LanguageModel):
        plain, dropped = make_model(kind, {}), make_model(kind, {"dropout": 0.5})
        dropped.set_weights(plain.get_weights())
        np.testing.assert_array_equal(dropped(BATCH), plain(BATCH))
        assert np.abs(dropped(BATCH, training=True) - plain(BATCH)).max() > 1e-3


# ---- cuDNN


class Calls:
    """Keras LSTM layers, with the mask that each call got."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[keras.layers.LSTM, Any]] = []
        call = keras.layers.LSTM.call

        def note(
            layer: keras.layers.LSTM, inputs: Any, initial_state: Any = None, **kwargs: Any
        ) -> Any:
            self.found.append((layer, kwargs.get("mask")))
            return call(layer, inputs, initial_state, **kwargs)

        monkeypatch.setattr(keras.layers.LSTM, "call", note)


def run_everything(kind: type[TokenModel], options: dict[str, Any]) -> None:
    model = make_model(kind, {"dropout": 0.3, **options})
    model(BATCH, training=True)
    model(BATCH)
    model.start(SOURCES if kind is EncoderDecoder else np.array([[2, 8, 9], [2, 0, 0]]))


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_every_lstm_call_is_one_that_cudnn_takes(
    monkeypatch: pytest.MonkeyPatch, kind: type[TokenModel], options: dict[str, Any]
) -> None:
    calls = Calls(monkeypatch)
    run_everything(kind, options)
    assert calls.found
    for layer, mask in calls.found:
        cell = layer.cell
        assert (cell.activation, cell.recurrent_activation) == (
            keras.activations.tanh,
            keras.activations.sigmoid,
        )
        assert cell.use_bias and cell.recurrent_dropout == 0 and not layer.unroll
        assert layer.use_cudnn == "auto"
        if mask is not None:
            mask = np.asarray(mask)
            assert mask[:, 0].all()
            assert (mask[:, 1:] <= mask[:, :-1]).all()


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_no_lstm_of_an_export_may_use_cudnn(
    monkeypatch: pytest.MonkeyPatch, kind: type[TokenModel], options: dict[str, Any]
) -> None:
    calls = Calls(monkeypatch)
    run_everything(kind, options | {"use_cudnn": False})
    assert {layer.use_cudnn for layer, _ in calls.found} == {False}


@pytest.mark.parametrize("kind", [EncoderDecoder, LanguageModel])
def test_a_step_of_decoding_calls_no_lstm_layer(
    monkeypatch: pytest.MonkeyPatch, kind: type[TokenModel]
) -> None:
    model = make_model(kind, {})
    start = model.start(SOURCES)
    calls = Calls(monkeypatch)
    model.step(start.token_ids, start.states, start.memory)
    assert not calls.found


# ---- Keras


@pytest.mark.parametrize(("kind", "options"), MODELS)
def test_keras_saves_and_loads_a_model_safely(
    tmp_path: Path, kind: type[TokenModel], options: dict[str, Any]
) -> None:
    model = make_model(kind, {"dropout": 0.1, **options})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded) is kind
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded(BATCH), model(BATCH))


@pytest.mark.parametrize("kind", [EncoderDecoder, LanguageModel])
def test_keras_fits_a_model(kind: type[TokenModel]) -> None:
    model = make_model(kind, {})
    optimizer = keras.optimizers.Adam(0.05)
    model.compile(optimizer, loss=MaskedCrossEntropy(), jit_compile=False)
    losses = model.fit(BATCH, TARGETS.astype(np.int64), epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    model.summary(print_fn=lambda line: None)


@pytest.mark.parametrize(
    ("config", "source_vocab_size", "kind", "own_source"),
    [
        ({"architecture": "encoder_decoder"}, None, EncoderDecoder, False),
        ({"architecture": "encoder_decoder", "tie_embeddings": False}, None, EncoderDecoder, True),
        ({"architecture": "encoder_decoder"}, 30, EncoderDecoder, True),
        ({"architecture": "language_model", "decoder_layers": 3}, None, LanguageModel, None),
    ],
)
def test_build_model_follows_the_config(
    config: dict[str, Any], source_vocab_size: int | None, kind: type, own_source: bool | None
) -> None:
    sizes = {"units": 8, "embedding_dim": 6, "dropout": 0.25, "init_scale": 0.2}
    model = build_model(ModelConfig(**config, **sizes), VOCAB_SIZE, source_vocab_size)
    assert type(model) is kind
    assert model.built
    assert sizes.items() <= model.get_config().items()
    assert {layer.rate for layer in dropouts(model)} == {0.25}
    if own_source is None:
        assert model.lstm.num_layers == 3
    else:
        assert (model.source_embedding is not model.embedding) == own_source


OPTIONS = {
    "input_dropout": 0.15,
    "output_dropout": 0.35,
    "locked_dropout": True,
    "embedding_dropout": 0.1,
    "word_dropout": 0.2,
    "token_noise": 0.3,
    "weight_drop": 0.4,
    "layer_normalization": True,
}


@pytest.mark.parametrize("architecture", ["encoder_decoder", "language_model"])
def test_every_option_of_the_config_reaches_the_layers(architecture: str) -> None:
    config = ModelConfig(
        architecture=architecture,
        units=8,
        embedding_dim=6,
        dropout=0.25,
        encoder_layers=2,
        decoder_layers=2,
        **OPTIONS,
    )
    model = build_model(config, VOCAB_SIZE)
    assert OPTIONS.items() <= model.get_config().items()
    found = dropouts(model)
    assert {layer.rate for layer in found} == {0.15, 0.25, 0.35}
    assert {layer.noise_shape for layer in found} == {(None, 1, None)}
    layers = model._flatten_layers()
    drops = [layer.weight_drop for layer in layers if isinstance(layer, FastLSTM)]
    assert drops == [0.4] * (2 if architecture == "language_model" else 6)
    np.testing.assert_array_equal(model(BATCH), model(BATCH))
    assert np.abs(model(BATCH, training=True) - model(BATCH)).max() > 1e-3


@pytest.mark.parametrize("kind", [EncoderDecoder, LanguageModel])
def test_rates_change_neither_the_first_weights_nor_validation(
    kind: type[TokenModel],
) -> None:
    plain = make_model(kind, {"dropout": 0.3})
    # Both draw a seed for each layer of dropout; weight drop uses one that each LSTM has.
    same = make_model(kind, {"dropout": 0.3, "locked_dropout": True, "weight_drop": 0.5})
    for one, other in zip(plain.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain(BATCH), same(BATCH))


def dropouts(model: keras.Model) -> list[keras.layers.Dropout]:
    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.Dropout)]


def test_step_runs_in_a_graph_with_any_number_of_rows() -> None:
    model = make_model(LanguageModel, {})
    step = tf.function(lambda ids, states: model.step(ids, states).logits)
    for rows in (1, 3):
        states = (LSTMState(tf.zeros([rows, 8]), tf.zeros([rows, 8])),)
        assert step(tf.fill([rows], 5), states).shape == (rows, VOCAB_SIZE)


@pytest.mark.parametrize("kind", ["translator", "writer"])
def test_summary_shows_the_shapes_of_all_layers(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = untrained_model if kind == "translator" else untrained_writer
    make(tmp_path).summary()
    shown = capsys.readouterr().out
    assert "FastLSTM" in shown
    assert "?" not in shown
    assert ("AdditiveAttention" in shown) == (kind == "translator")
