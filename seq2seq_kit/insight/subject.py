"""The model that is looked at, and the ids of a text as it reads and writes them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from seq2seq_kit.config import Config
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.scorer import Scorer
from seq2seq_kit.model.lstm import RecurrentLayer
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.tokens.tokenizer import Tokenizer


class TextModel(Protocol):
    """A `Seq2Seq`: what is needed of it here."""

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


def check_is_run(model: Any) -> None:
    """Raises InputError for anything but a `Seq2Seq`, such as an export."""
    if not hasattr(model, "scorer"):
        raise InputError(
            f"Expected a model that `Seq2Seq.load` or `Seq2Seq.fit` returned. Received: "
            f"{shorten(model)}. An export has no attention, gates or states to read: load the run "
            f"that it was made from."
        )


def source_ids_of(model: TextModel, source: str) -> list[int]:
    """Returns the ids of an input, without special tokens.

    Raises:
        InputError: If it is no text or over-long, or the model is no `Seq2Seq`.
    """
    check_is_run(model)
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
