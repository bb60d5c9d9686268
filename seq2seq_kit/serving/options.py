"""The options of a request's search, which processes send to each other without TensorFlow."""

from typing import NamedTuple

from seq2seq_kit.config import DecodingConfig


class SearchOptions(NamedTuple):
    """The options of a search: requests that share them can be answered in one batch."""

    decoding: DecodingConfig | None
    """None for the fixed search of an export; for samples of an export, only their seed counts."""
    num_hypotheses: int = 1
    """Hypotheses of each text."""
    truncate: bool = False
    """Whether inputs that are too long are cut."""
    alignments: bool = False
    """Whether each hypothesis is an `AlignedHypothesis`."""
