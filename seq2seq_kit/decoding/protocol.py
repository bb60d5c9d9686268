"""What a search is made of: a decoder, processors of its logits, and the search itself.

All of them work on token ids in rows. They know neither text nor model, so a search runs alike over
a network, over scripted logits in a test, and inside an exported graph.
"""

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

MINUS_INFINITY = -1e9
"""For log(0): finite, because -inf times 0 is NaN; far below any sum of log-probabilities."""


class StepOutput(NamedTuple):
    """The output of a decoder for the tokens that it was fed."""

    logits: Any
    """float32 `(rows, vocab_size)`. Unnormalized log-probabilities of the next token."""
    state: Any
    """The state after these tokens: any nest of tensors with leading axis `rows`."""
    attention: Any = None
    """float32 `(rows, source_time)`. Where each row looks in its source; None without attention."""


class Decoder(Protocol):
    """Predicts the next token of each row, one token at a time."""

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        """Feeds one token to each row.

        Args:
            token_ids: int32 `(lines * rows_per_line,)`. The rows of a line are adjacent.
            state: The state before these tokens: any nest, leading axis as `token_ids`.
            memory: What is read of each line and never changes: any nest, leading axis `lines`.
        """


class History(NamedTuple):
    """The tokens of each hypothesis so far."""

    token_ids: tf.Tensor
    """int32 `(rows, max_length + 1)`. Only the first `length` columns count."""
    length: tf.Tensor
    """int32 `()`. Tokens so far; all rows have the same number."""


class LogitsProcessor(Protocol):
    """Changes the logits of the next token: forbids tokens, or makes them less likely.

    A processor never raises a logit: beam search stops as soon as no hypothesis can win even if
    each further token had the probability 1. It has a state for each hypothesis, as a decoder has.
    """

    rescales: bool
    """Whether the logits of allowed tokens change too. If not, a processor only forbids tokens, by
    `MINUS_INFINITY`, and the others keep the probability that the decoder gives them. A search then
    ranks by the same log-probabilities that it returns; otherwise it tracks both."""

    @property
    def num_past_tokens(self) -> int | None:
        """Tokens of the history that it reads besides its state; `GenerationState` keeps these.

        None if it reads all of them, or depends on their number.
        """

    def start(self, rows: tf.Tensor, max_length: tf.Tensor | int) -> Any:
        """Returns the state of `rows` hypotheses without tokens: any nest, leading axis `rows`."""

    def __call__(self, logits: tf.Tensor, history: History, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns the changed logits and the next state.

        Args:
            logits: float32 `(rows, vocab_size)`.
            history: The hypotheses that the next token will extend.
            state: The state of these hypotheses without their last token; before the first token,
                what `start` returned.
        """


class SearchInputs(NamedTuple):
    """The start of a search: the tokens to feed, the state and the memory."""

    token_ids: tf.Tensor
    """int32 `(lines,)`. The first token to feed, such as BOS."""
    state: Any
    """The decoder's state before it, leading axis `lines`."""
    memory: Any = ()
    """The tensors that the decoder reads, leading axis `lines`."""
    is_done: tf.Tensor | None = None
    """bool `(lines,)`. True for a line that is not to be searched; its results are undefined."""


class SearchResult(NamedTuple):
    """The hypotheses of each line: those of a beam by score, the best first; samples in order.

    A hypothesis is cut if it has `max_length` tokens and EOS is not the likeliest next one. Where a
    search closes such hypotheses, EOS counts in their log-probability and score anyway, so
    that they compare with those that ended: as texts of that length.
    """

    token_ids: tf.Tensor
    """int32 `(lines, hypotheses, max_length + 1)`. Generated ids, EOS included unless the
    hypothesis is cut, then padding."""
    lengths: tf.Tensor
    """int32 `(lines, hypotheses)`. Tokens in `token_ids`."""
    log_probs: tf.Tensor
    """float32 `(lines, hypotheses)`. The decoder's, in nats, summed over these tokens and a missing
    EOS. Forbidden tokens keep their share of the probability."""
    scores: tf.Tensor
    """float32 `(lines, hypotheses)`. What a beam ranks by: `normalize_log_probs` of the
    log-probabilities, after processors that rescale them."""
    is_cut: tf.Tensor
    """bool `(lines, hypotheses)`. Whether `max_length` cut it."""


class Search(Protocol):
    """Chooses tokens until each line has its hypotheses.

    `loop.run` takes the steps in a graph, `loop.stream` one at a time from Python. The record
    between two steps is any nest of tensors with at least these fields: `time`, int32 `()`, the
    steps taken, and `done`, bool `(lines,)`.
    """

    @property
    def max_length(self) -> tf.Tensor | int:
        """Tokens of a hypothesis at most, EOS not counted."""

    def start(self, inputs: SearchInputs) -> Any:
        """Returns the record before the first step."""

    def step(self, record: Any, memory: Any) -> Any:
        """Returns the record after one more token; lines that are done do not change."""

    def take(self, record: Any, lines: tf.Tensor) -> Any:
        """Returns the record of some lines only, int32 `(lines,)`."""

    def finish(self, record: Any) -> SearchResult:
        """Returns the hypotheses of a record's lines."""

    def certain_ids(self, record: Any) -> list[int]:
        """Returns the first tokens of the first line's output that no further step can change."""
