"""Plain NumPy versions of what the layers compute, and networks with random weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from seq2seq_kit.config import DecodingConfig, ModelConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.scorer import Scorer
from seq2seq_kit.model.build import build_model
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.text.normalization import TextRules


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def lstm(
    inputs: np.ndarray, weights: Sequence[np.ndarray], state: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Runs one layer over `(batch, time, features)`; gates in Keras's order: i, f, c, o."""
    kernel, recurrent_kernel, bias = weights
    hidden, cell = state
    outputs = []
    for time in range(inputs.shape[1]):
        gates = inputs[:, time] @ kernel + hidden @ recurrent_kernel + bias
        i, f, c, o = np.split(gates, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs, axis=1), (hidden, cell)


def lstm_stack(
    inputs: np.ndarray,
    weights: Sequence[np.ndarray],
    states: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Runs layers on top of each other, with a residual connection from the second on."""
    finals = []
    for layer, state in enumerate(states):
        outputs, final = lstm(inputs, weights[3 * layer : 3 * layer + 3], state)
        inputs = outputs + inputs if layer else outputs
        finals.append(final)
    return inputs, finals


def zeros(batch: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((batch, units)), np.zeros((batch, units))


def attend(
    scores: np.ndarray, values: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns contexts and weights for `(batch, time, source_time)` scores."""
    weights = softmax(np.where(mask[:, None, :], scores, -np.inf))
    return np.einsum("bts,bsf->btf", weights, values), weights


VOCAB_SIZE = 500


class NumberTokenizer:
    """A tokenizer of texts that name their tokens: "7 12" is the ids 7 and 12."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[int(word) for word in text.split()] for text in texts]

    lossless = True
    text_rules = TextRules("none", escapes=False)
    surfaces = tuple(f" {token}".encode() for token in range(VOCAB_SIZE))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(str(token) for token in row if token > 3) for row in ids]


NETWORKS = {
    "multiplicative": {"architecture": "encoder_decoder", "attention": "multiplicative"},
    "additive": {"architecture": "encoder_decoder", "attention": "additive"},
    "untied": {"architecture": "encoder_decoder", "tie_embeddings": False},
    "language model": {"architecture": "language_model"},
}
"""The kinds of network, as keys of `ModelConfig`."""


def random_network(kind: str, **sizes: int) -> EncoderDecoder | LanguageModel:
    """A network with weights so large that its outputs differ much, and end now and then."""
    keras.utils.set_random_seed(3)
    config = ModelConfig(
        **NETWORKS[kind],
        **{"embedding_dim": 96, "units": 128, "decoder_layers": 2} | sizes,
        init_scale=0.5,
    )
    model = build_model(config, VOCAB_SIZE)
    bias = np.zeros(VOCAB_SIZE, np.float32)
    bias[EOS_ID] = 4.0
    model.output_bias.assign(bias)
    return model


def random_lines(number: int, longest: int, seed: int = 0) -> list[str]:
    """Texts for `NumberTokenizer`, of 1 to `longest` tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, number)
    return [" ".join(map(str, rng.integers(4, VOCAB_SIZE, length))) for length in lengths]


def small_shortlist() -> Shortlist:
    """Some translations of each token of `random_network`, and four frequent tokens."""
    translations = np.full((VOCAB_SIZE, 3), EOS_ID, np.int32)
    translations[4:] = np.random.default_rng(2).integers(4, VOCAB_SIZE, (VOCAB_SIZE - 4, 3))
    return Shortlist(np.array([7, 8, 9, 10], np.int32), translations)


def input_encoder_of(
    model: EncoderDecoder | LanguageModel,
    tokenizer: Any,
    *,
    max_source_length: int = 20,
    keep_end: bool = False,
    heals: bool = False,
) -> InputEncoder:
    """The inputs of a network; they are prompts with `keep_end`, whatever the network."""
    return InputEncoder(
        tokenizer,
        reads_prompt=isinstance(model, LanguageModel),
        max_length=max_source_length,
        keep_end=keep_end,
        answers_empty=keep_end,
        marks_spaces=heals,
    )


def generator_of(
    model: EncoderDecoder | LanguageModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    *,
    defaults: DecodingConfig,
    max_source_length: int = 20,
    keep_end: bool = False,
    heals: bool = False,
    shortlist: Shortlist | None = None,
) -> Generator:
    """A generator without a run; outputs continue prompts with `keep_end`."""
    inputs = input_encoder_of(
        model,
        source_tokenizer,
        max_source_length=max_source_length,
        keep_end=keep_end,
        heals=heals,
    )
    return Generator(
        model,
        inputs,
        target_tokenizer,
        defaults=defaults,
        continues=keep_end,
        heals=heals,
        shortlist=shortlist,
    )


def scorer_of(
    model: EncoderDecoder | LanguageModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    *,
    ends_with: int,
    max_source_length: int = 20,
    keep_end: bool = False,
    **options: bool,
) -> Scorer:
    """A scorer without a run."""
    inputs = input_encoder_of(
        model, source_tokenizer, max_source_length=max_source_length, keep_end=keep_end
    )
    return Scorer(model, inputs, target_tokenizer, ends_with=ends_with, **options)
