"""The network as a search sees it: the whole vocabulary, or the tokens of a shortlist."""

from typing import Any

import tensorflow as tf

from seq2seq_kit.decoding import MINUS_INFINITY, Decoder, EnsembleDecoder, StepOutput
from seq2seq_kit.inference.shortlist import Candidates
from seq2seq_kit.model.ensemble import Ensemble, Network
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, OutputLayer


def vocabulary_decoder(model: Network) -> Decoder:
    """Returns the decoder of a network, or of an ensemble, that predicts any token."""
    if isinstance(model, Ensemble):
        return EnsembleDecoder([VocabularyDecoder(member) for member in model.members])
    return VocabularyDecoder(model)


class VocabularyDecoder:
    """Predicts any token of the vocabulary.

    Args:
        model: The network.
    """

    def __init__(self, model: EncoderDecoder | LanguageModel) -> None:
        self._model = model
        self._output_layer = model.output_layer()

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        """Feeds one token to each row."""
        return self._model.step(token_ids, state, memory, self._output_layer)


class ShortlistDecoder:
    """Predicts a place in a list of tokens.

    Args:
        model: The network.
        candidates: The list, and which of its tokens each line can be translated to.
    """

    def __init__(self, model: EncoderDecoder | LanguageModel, candidates: Candidates) -> None:
        self._model = model
        self._candidates = candidates
        self._output_layer = model.output_layer(candidates.token_ids)

    def memory(self, memory: Any) -> Any:
        """Returns the memory for `step`, made of the network's.

        float32 `(lines, tokens)` is added: the output layer's bias for each line, so low where a
        token is not on the line's list that its probability is 0.
        """
        return memory, tf.where(self._candidates.allowed, self._output_layer.bias, MINUS_INFINITY)

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        """Feeds one token, as a place in the list, to each row."""
        memory, bias = memory
        fed = tf.gather(self._candidates.token_ids, token_ids)
        layer = OutputLayer(self._output_layer.kernel, bias)
        return self._model.step(fed, state, memory, layer)
