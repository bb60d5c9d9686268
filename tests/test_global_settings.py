"""What other code sets for the whole process changes nothing here, and stays as it was."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import NumberTokenizer, generator_of, random_lines, random_network, scorer_of
from trainers import make_trainer

from seq2seq_kit.archive import load_archive
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.training.losses import MaskedCrossEntropy
from seq2seq_kit.training.optimizer import FusedAdam


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    errors = np.geterr()
    with warnings.catch_warnings():
        yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    tf.config.run_functions_eagerly(False)
    np.seterr(**errors)


def set_policy(policy: str, floatx: str = "float32") -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def set_all_else() -> None:
    set_policy("mixed_bfloat16", "float16")
    tf.config.run_functions_eagerly(True)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    # TensorFlow's own, of its first setting above.
    warnings.filterwarnings("ignore", message="Even though the `tf.config.experimental_run_func")


def all_settings() -> list[Any]:
    return [
        keras.config.dtype_policy().name,
        keras.config.floatx(),
        tf.config.functions_run_eagerly(),
        np.geterr(),
        warnings.filters[:1],
    ]


NETWORKS: list[Callable[[], keras.Model]] = [
    lambda: EncoderDecoder(
        9, 8, embedding_dim=4, units=4, decoder_layers=2, attention_layer="first", dropout=0.1
    ),
    lambda: EncoderDecoder(9, embedding_dim=4, units=4, attention="multiplicative"),
    lambda: LanguageModel(9, embedding_dim=4, units=4, tie_embeddings=False),
]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(
    ("policy", "floatx"),
    [
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", "float16"),
        ("float64", "float64"),
        ("float16", "float32"),
    ],
)
def test_every_layer_has_an_explicit_dtype(
    build: Callable[[], keras.Model], policy: str, floatx: str
) -> None:
    set_policy(policy, floatx)
    model = build()
    model.build()
    model.compile(FusedAdam(0.1), MaskedCrossEntropy())
    model.optimizer.build(model.trainable_variables)
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert type(model.optimizer) is FusedAdam, "a scaled loss would be another training"
    variables = [*model.trainable_variables, *model.optimizer.variables]
    assert {variable.dtype for variable in variables} == {"float32", "int64"}
    assert model.loss.dtype == "float32"
    # A learning rate keeps the bits of float32 too.
    assert model.optimizer.learning_rate.numpy() == np.float32(0.1)


@pytest.mark.parametrize("change", [lambda: set_policy("float64", "float64"), set_all_else])
def test_training_has_the_same_bits(tmp_path: Path, change: Callable[[], None]) -> None:
    options: dict[str, Any] = {"warmup_steps": 3, "validate_every": 2}
    options["model"] = {"dropout": 0.1}
    make_trainer(tmp_path / "plain", **options).fit()
    change()
    settings = all_settings()
    make_trainer(tmp_path / "changed", **options).fit()
    assert all_settings() == settings
    plain, changed = (
        load_archive(tmp_path / name / "last.npz").arrays for name in ("plain", "changed")
    )
    assert plain.keys() == changed.keys()
    for name, array in plain.items():
        assert array.dtype == changed[name].dtype, name
        np.testing.assert_array_equal(changed[name], array)


def test_answers_and_scores_have_the_same_bits() -> None:
    def answers() -> list[Any]:
        network = random_network("additive")
        limits: dict[str, Any] = {"max_source_length": 20, "keep_end": False}
        tokenizers = NumberTokenizer(), NumberTokenizer()
        generator = generator_of(
            network, *tokenizers, defaults=DecodingConfig(max_length=10), **limits
        )
        scorer = scorer_of(network, *tokenizers, ends_with=3, **limits)
        lines = random_lines(5, longest=13)
        return [
            *generator.hypotheses(lines),
            *generator.hypotheses(lines, beam_size=1),
            *scorer.score(lines, lines),
        ]

    expected = answers()
    set_all_else()
    settings = all_settings()
    assert answers() == expected
    assert all_settings() == settings
