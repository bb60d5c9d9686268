"""Search over a decoder: token ids in, token ids out. Knows neither model nor tokenizer."""

from seq2seq_kit.decoding.beam import BeamSearch
from seq2seq_kit.decoding.ensemble import EnsembleDecoder
from seq2seq_kit.decoding.greedy import GreedySearch
from seq2seq_kit.decoding.groups import group_sizes, map_in_groups, search_in_groups
from seq2seq_kit.decoding.loop import run, stream
from seq2seq_kit.decoding.processors import (
    ForbiddenTokens,
    MinLength,
    NoLoop,
    NoRepeatedNgram,
    RepetitionPenalty,
    count_characters,
)
from seq2seq_kit.decoding.protocol import (
    MINUS_INFINITY,
    Decoder,
    History,
    LogitsProcessor,
    Search,
    SearchInputs,
    SearchResult,
    StepOutput,
)
from seq2seq_kit.decoding.sampling import Filters, Sampling
from seq2seq_kit.decoding.scores import normalize_log_probs

__all__ = [
    "MINUS_INFINITY",
    "BeamSearch",
    "Decoder",
    "EnsembleDecoder",
    "Filters",
    "ForbiddenTokens",
    "GreedySearch",
    "History",
    "LogitsProcessor",
    "MinLength",
    "NoLoop",
    "NoRepeatedNgram",
    "RepetitionPenalty",
    "Sampling",
    "Search",
    "SearchInputs",
    "SearchResult",
    "StepOutput",
    "count_characters",
    "group_sizes",
    "map_in_groups",
    "normalize_log_probs",
    "run",
    "search_in_groups",
    "stream",
]
