"""Searches over a step function, as plain functions: what tests of several modules use."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq_kit.decoding import (
    BeamSearch,
    ForbiddenTokens,
    GreedySearch,
    LogitsProcessor,
    Sampling,
    SearchInputs,
    SearchResult,
    StepOutput,
    run,
)


class StepDecoder:
    """A decoder made of a function `step(token_ids, state, memory)`."""

    def __init__(self, step: Callable[..., StepOutput]) -> None:
        self.step = step


def search_with(
    search: type,
    step: Callable[..., StepOutput],
    token_ids: tf.Tensor,
    state: Any,
    *,
    memory: Any = (),
    is_done: tf.Tensor | None = None,
    row_counts: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    processors: Sequence[LogitsProcessor] = (),
    **options: Any,
) -> SearchResult:
    if forbidden:
        processors = [ForbiddenTokens(forbidden), *processors]
    return run(
        search(decoder=StepDecoder(step), processors=processors, **options),
        SearchInputs(token_ids, state, memory, is_done),
        row_counts=row_counts,
    )


def greedy_search(*arguments: Any, **options: Any) -> SearchResult:
    return search_with(GreedySearch, *arguments, **options)


def beam_search(*arguments: Any, **options: Any) -> SearchResult:
    return search_with(BeamSearch, *arguments, **options)


def sample(*arguments: Any, **options: Any) -> SearchResult:
    return search_with(Sampling, *arguments, **options)
