"""Search over a step function: token ids in, token ids out. Knows neither model nor tokenizer."""

from seq2seq_kit.decoding.constraints import (
    MINUS_INFINITY,
    Constraint,
    NoLoop,
    NoRepeatedNgram,
    count_characters,
    repeats_ngram,
)
from seq2seq_kit.decoding.groups import group_sizes, search_in_groups
from seq2seq_kit.decoding.healing import MAX_TOKENS, Healer, PromptEnds, healer_of
from seq2seq_kit.decoding.search import (
    BLOCK,
    SearchResult,
    StepFunction,
    StepOutput,
    beam_search,
    greedy_search,
    normalize_log_probs,
)

__all__ = [
    "BLOCK",
    "MAX_TOKENS",
    "MINUS_INFINITY",
    "Constraint",
    "Healer",
    "NoLoop",
    "NoRepeatedNgram",
    "PromptEnds",
    "SearchResult",
    "StepFunction",
    "StepOutput",
    "beam_search",
    "count_characters",
    "greedy_search",
    "group_sizes",
    "healer_of",
    "normalize_log_probs",
    "repeats_ngram",
    "search_in_groups",
]
