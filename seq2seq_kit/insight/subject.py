"""The model that is looked at, and the ids of a text as it reads and writes them."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, Self, TypeVar

from seq2seq_kit.config import Config, ModelConfig
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.scorer import Scorer
from seq2seq_kit.model.ensemble import Ensemble
from seq2seq_kit.model.lstm import RecurrentLayer
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.tokens.tokenizer import Tokenizer


class TextModel(Hashable, Protocol):
    """What is needed here of a `Seq2Seq`, or of the model that is rebuilt from an export."""

    model: EncoderDecoder | LanguageModel
    tokenizer: Tokenizer
    source_tokenizer: Tokenizer
    config: Config
    inputs: InputEncoder
    generator: Generator
    scorer: Scorer

    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text."""

    def copy(self) -> Self:
        """Returns the same model with weights that can be changed without changing these."""


AnyModel = TypeVar("AnyModel", bound=TextModel)
"""Of what a function returns a model of the same class."""


def text_model(model: TextModel | ExportedModel) -> TextModel:
    """Returns a model to look inside: of an export, the one that is rebuilt from it.

    Raises:
        InputError: If it is something else, or an export of an earlier version.
        RunError: If a file of the export is damaged.
    """
    if isinstance(model, ExportedModel):
        return model.rebuilt
    if not hasattr(model, "scorer"):
        raise InputError(
            f"Expected a model that `Seq2Seq.load` or `Seq2Seq.fit` returned, or an "
            f"`ExportedModel`. Received: {shorten(model)}."
        )
    if isinstance(model.model, Ensemble):
        raise InputError(
            "Expected a single model to look into. Received: an ensemble. Load its runs one by one."
        )
    return model


def source_ids_of(model: TextModel, source: str) -> list[int]:
    """Returns the ids of an input, without special tokens.

    Raises:
        InputError: If it is no text or over-long.
    """
    return model.inputs.encode_rows([source])[0]


def target_ids_of(model: TextModel, source: str, target: str | Hypothesis | None) -> list[int]:
    """Returns the ids that the model is to predict after a source, the end included.

    Args:
        model: The model.
        source: The input.
        target: A text, or an output of the model; None for the best output for the source.

    Raises:
        InputError: If `target` is of another type.
    """
    if target is None:
        ((target, *_),) = model.hypotheses([source])
    if isinstance(target, Hypothesis):
        # The tokens that the search chose, not those of its text: a text can have several
        # spellings. Those after a prompt may spell its end again, so there its text counts.
        ids = list(target.token_ids)
        if model.config.joins_texts:
            (ids,) = model.tokenizer.encode([target.text])
        return ids or [model.scorer.ends_with]  # An empty input has an output without tokens.
    if not isinstance(target, str):
        raise InputError(f"`target` must be a text. Received: {shorten(target)}.")
    return [*model.tokenizer.encode([target])[0], model.scorer.ends_with]


def texts_of(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """Returns the piece of each id, with U+2581 for a space."""
    pieces = tokenizer.pieces
    return tuple(pieces[token_id] for token_id in ids)


def layer_names(config: ModelConfig) -> list[str]:
    """Returns the names of the layers in `lstm_layers`, in their order."""
    decoder = [f"decoder_{index}" for index in range(config.decoder_layers)]
    if config.architecture == "language_model":
        return decoder
    pairs = (
        [f"encoder_forward_{index}", f"encoder_backward_{index}"]
        for index in range(config.encoder_layers)
    )
    return [*chain.from_iterable(pairs), *decoder]


def lstm_layers(network: EncoderDecoder | LanguageModel) -> dict[str, RecurrentLayer]:
    """Returns the recurrent layers by their names, in the order in which data pass through them.

    They are `encoder_forward_0`, `encoder_backward_0`, `encoder_forward_1`, ... and `decoder_0`,
    `decoder_1`, ...; a language model has those of a decoder only.
    """
    layers: dict[str, RecurrentLayer] = {}
    if isinstance(network, LanguageModel):
        decoder = network.lstm.layers
    else:
        encoder = network.encoder
        for index in range(encoder.encoder_layers):
            (layers[f"encoder_forward_{index}"],) = encoder.forward_layers[index].layers
            (layers[f"encoder_backward_{index}"],) = encoder.backward_layers[index].layers
        decoder = [*network.decoder.below.layers, *network.decoder.above.layers]
    return layers | {f"decoder_{index}": layer for index, layer in enumerate(decoder)}
