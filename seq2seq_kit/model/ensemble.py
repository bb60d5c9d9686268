"""Several networks that predict each token together."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from seq2seq_kit.decoding.ensemble import combine_logits
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, Start


class Ensemble(keras.Model):
    """Encoder-decoders with the same vocabularies, whose logits are combined at each step.

    Has what a search and a scorer need of a network. It has no weights besides its members', and is
    neither trained nor saved.

    Args:
        members: The networks. They may differ in everything but their vocabularies.

    Call arguments:
        inputs: As for `EncoderDecoder`.
        training: Whether dropout is active.

    Returns:
        `combine_logits` of the members' logits, float32 `(batch, target_time, vocab_size)`.
    """

    def __init__(self, members: Sequence[EncoderDecoder]) -> None:
        super().__init__(dtype="float32", name="ensemble")
        self.members = list(members)
        self.vocab_size = self.members[0].vocab_size
        self.units = sum(member.units for member in self.members)
        self.decoder_layers = max(member.decoder_layers for member in self.members)
        attentions = [member.attention for member in self.members]
        self.attention = "additive" if "additive" in attentions else attentions[0]
        self.built = True

    @property
    def gate_width(self) -> int:
        """A number that divides the sizes of the gates of all members."""
        return math.gcd(*(member.gate_width for member in self.members))

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return combine_logits([member(inputs, training=training) for member in self.members])

    def start(self, source_ids: Any) -> Start:
        """Encodes the sources; `states` and `memory` are tuples with a part for each member."""
        starts = [member.start(source_ids) for member in self.members]
        states: Any = tuple(start.states for start in starts)
        memory: Any = tuple(start.memory for start in starts)
        return Start(starts[0].token_ids, states, memory)


Network = EncoderDecoder | LanguageModel | Ensemble
"""What a search and a scorer work with."""
