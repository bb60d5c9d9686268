"""Models that come with the package: their names, their cards, and how their weights are stored.

`list_models()` lists them; `Seq2Seq.load("de-en")` and every command that reads a run accept
their names. `seq2seq_kit.packing` makes one from a run.
"""

from seq2seq_kit.pretrained.card import Card, PackedCard
from seq2seq_kit.pretrained.catalog import PretrainedModel, list_models

__all__ = ["Card", "PackedCard", "PretrainedModel", "list_models"]
