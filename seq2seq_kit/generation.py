"""Texts in, generated texts out: joins tokenizer, model and search.

`search_model` is the graph that the Python API and the export share.
"""

import functools
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.config_faults import shorten
from seq2seq_kit.decoding import (
    MINUS_INFINITY,
    SearchResult,
    StepFunction,
    StepOutput,
    beam_search,
    greedy_search,
    group_sizes,
    search_in_groups,
)
from seq2seq_kit.errors import InputError
from seq2seq_kit.model import EncoderDecoder, LanguageModel, OutputLayer
from seq2seq_kit.precision import PreparedWeights, products_in
from seq2seq_kit.shortlist import Shortlist
from seq2seq_kit.tokenizer import Tokenizer

# Lines handed to the graph at once, as a multiple of the batch size: enough that each length fills
# its batches, few enough that Ctrl-C is heard and memory stays small.
_BATCHES_AT_ONCE = 16


@dataclass(frozen=True)
class Hypothesis:
    """One generated text."""

    text: str
    """The text; for a continuation, without its prompt."""
    token_ids: tuple[int, ...]
    """The generated tokens, EOS included if it was reached."""
    log_prob: float
    """Summed over these tokens, in nats."""
    score: float
    """What the search ranked by: the log-probability under the length penalty."""


def search_model(
    model: EncoderDecoder | LanguageModel,
    source_ids: tf.Tensor,
    lengths: tf.Tensor,
    *,
    beam_size: int,
    num_hypotheses: int,
    max_length: tf.Tensor | int,
    length_penalty: tf.Tensor | float,
    batch_size: tf.Tensor | int,
    no_repeat_ngram: int = 0,
    shortlist: Shortlist | None = None,
    precision: str = "float32",
    prepared: PreparedWeights | None = None,
) -> SearchResult:
    """Searches for the best outputs of each line; in graph.

    Args:
        model: The network.
        source_ids: int32 `(lines, time)`, right-padded: what `encode_inputs` gives.
        lengths: int32 `(lines,)`. Real tokens of each line, at least 1.
        beam_size: 1 is greedy search.
        num_hypotheses: Hypotheses a line, at most `beam_size`.
        max_length: Generated tokens at most, EOS not counted.
        length_penalty: As in `normalize_log_probs`.
        batch_size: Lines searched together at most; the result does not depend on it.
        no_repeat_ngram: No output contains so many tokens in a row twice; 0 allows it.
        shortlist: What the outputs are made of; None allows the whole vocabulary. Log-probabilities
            are then those among the tokens of a line's list.
        precision: Of the matrix products, as in `products_in`.
        prepared: What was made of the weights before, or is to be kept; None makes it here.
    """
    # An encoder's directions have half of the units each.
    sizes = group_sizes(model.units // 2)
    options: dict[str, Any] = {
        "max_length": max_length,
        "length_penalty": length_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "row_counts": sizes[:-1],
    }

    find: Callable[..., SearchResult]
    if beam_size == 1:
        find = functools.partial(greedy_search, **options)
    else:
        options |= {"beam_size": beam_size, "num_hypotheses": num_hypotheses}
        find = functools.partial(beam_search, **options)

    def search(ids: tf.Tensor, is_copy: tf.Tensor) -> SearchResult:
        start = model.start(ids)
        memory: Any = () if start.memory is None else start.memory
        if shortlist is None:
            return find(
                _step_function(model),
                start.token_ids,
                start.states,
                memory=memory,
                is_done=is_copy,
                # Padding, unknown token and BOS never are output.
                suppressed_ids=(Tokenizer.pad_id, Tokenizer.unk_id, Tokenizer.bos_id),
            )
        columns = shortlist.columns(ids)
        narrow_layer = model.output_layer(columns.token_ids)
        bias = tf.where(columns.allowed, narrow_layer.bias, MINUS_INFINITY)
        found = find(
            _narrow_step_function(model, narrow_layer, columns.token_ids),
            start.token_ids,
            start.states,
            memory=(memory, bias),
            is_done=is_copy,
        )
        return found._replace(token_ids=tf.gather(columns.token_ids, found.token_ids))

    with products_in(precision, prepared or PreparedWeights()):
        return search_in_groups(
            search,
            source_ids,
            lengths,
            sizes=sizes,
            max_length=max_length,
            num_hypotheses=num_hypotheses,
            batch_size=batch_size,
        )


def _step_function(model: EncoderDecoder | LanguageModel) -> StepFunction:
    output_layer = model.output_layer()

    def step(token_ids: tf.Tensor, states: Any, memory: Any) -> StepOutput:
        output = model.step(token_ids, states, memory, output_layer)
        return StepOutput(output.logits, output.states)

    return step


def _narrow_step_function(
    model: EncoderDecoder | LanguageModel, layer: OutputLayer, token_ids: tf.Tensor
) -> StepFunction:
    """Returns a step function over places in a list of tokens.

    Its memory is the model's and, float32 `(lines, columns)`, the output layer's bias for each
    line: so low where a token is not on its list that the token's probability is 0.

    Args:
        model: The network.
        layer: The output layer for the list.
        token_ids: int32 `(columns,)`. The list; the special tokens stand at their own ids.
    """

    def step(places: tf.Tensor, states: Any, memory: Any) -> StepOutput:
        memory, bias = memory
        fed = tf.gather(token_ids, places)
        output = model.step(fed, states, memory, OutputLayer(layer.kernel, bias))
        return StepOutput(output.logits, output.states)

    return step


def as_texts(texts: Iterable[str]) -> list[str]:
    """Returns texts as a list.

    Raises:
        InputError: If it is one text, or nothing to go through.
    """
    if isinstance(texts, str):
        raise InputError(f"Expected a list of texts. Received a text: use [{shorten(texts)}].")
    if not isinstance(texts, Iterable):
        raise InputError(f"Expected a list of texts. Received: {shorten(texts)}.")
    return list(texts)


def encode_sources(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_length: int,
    keep_end: bool,
    truncate: bool = False,
    first_line: int = 1,
) -> list[list[int]]:
    """Returns the ids of inputs, without special tokens; none is longer than a model takes.

    Args:
        tokenizer: Of the source side.
        texts: The inputs.
        max_length: Tokens of an input at most.
        keep_end: Whether a truncated input keeps its end, as a prompt should.
        truncate: Cut over-long inputs instead of refusing them.
        first_line: The line number of the first text, for messages.

    Raises:
        InputError: If an input is over-long, or no text.
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"Expected texts. Received {shorten(text)} as line {first_line + index}."
            )
    rows = tokenizer.encode(texts)
    for index, row in enumerate(rows):
        if len(row) > max_length and not truncate:
            raise InputError(
                f"Line {first_line + index} has {len(row)} tokens; the model takes at most "
                f"{max_length} (data.max_source_length). Split the line, or truncate such lines "
                f"(--long-lines truncate, in Python truncate=True)."
            )
    return [row[-max_length:] if keep_end else row[:max_length] for row in rows]


class Generator:
    """Generates texts with a model, its tokenizers and defaults from a config.

    A line's texts and scores are bit for bit the same whatever lines stand beside it and whatever
    the batch size; with a shortlist, the last bits of a score may differ. An empty line is
    translated to an empty text with log-probability 0; an empty prompt is continued from the
    beginning of a text.

    Args:
        model: The network.
        source_tokenizer: Encodes inputs.
        target_tokenizer: Decodes outputs.
        defaults: The `decoding` section.
        max_source_length: Tokens of an input at most.
        keep_end: Whether a truncated input keeps its end, as a prompt should.
        shortlist: What outputs may be narrowed to; None if there is none.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        *,
        defaults: DecodingConfig,
        max_source_length: int,
        keep_end: bool,
        shortlist: Shortlist | None = None,
    ) -> None:
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.defaults = defaults
        self.max_source_length = max_source_length
        self.keep_end = keep_end
        self.shortlist = shortlist
        # One graph for each set of static numbers.
        self._search = functools.lru_cache(maxsize=8)(self._trace)

    def hypotheses(
        self,
        texts: Iterable[str],
        *,
        beam_size: int | None = None,
        num_hypotheses: int = 1,
        max_length: int | None = None,
        length_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        batch_size: int | None = None,
        shortlist: bool | None = None,
        precision: str | None = None,
        truncate: bool = False,
        first_line: int = 1,
    ) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text, best first, in the order of the texts.

        Args:
            texts: The inputs.
            beam_size: Hypotheses kept at each step, 1 is greedy; None takes the config's, or
                `num_hypotheses` if that is more.
            num_hypotheses: Hypotheses returned, at most `beam_size`.
            max_length: Generated tokens at most, EOS not counted; None takes the config's.
            length_penalty: As in `normalize_log_probs`; None takes the config's.
            no_repeat_ngram: No output contains so many tokens in a row twice, 0 allows it; None
                takes the config's.
            batch_size: Texts searched together at most; None takes the config's.
            shortlist: Whether an output is made only of what its input's tokens are likely to
                come out as, and of frequent tokens: faster. None takes the config's.
            precision: "float32" or "bfloat16": of the matrix products. None takes the config's.
            truncate: Cut over-long inputs instead of refusing them.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If an option is out of range, an input is over-long, or there is no
                shortlist.
        """
        if beam_size is None:
            beam_size = max(self.defaults.beam_size, num_hypotheses)
        max_length = self.defaults.max_length if max_length is None else max_length
        batch_size = self.defaults.batch_size if batch_size is None else batch_size
        if length_penalty is None:
            length_penalty = self.defaults.length_penalty
        if no_repeat_ngram is None:
            no_repeat_ngram = self.defaults.no_repeat_ngram
        if shortlist is None:
            shortlist = self.defaults.shortlist
        precision = self.defaults.precision if precision is None else precision
        _check_options(beam_size, num_hypotheses, max_length, length_penalty, batch_size, precision)
        if shortlist and self.shortlist is None:
            raise InputError(
                "This model has no shortlist: `s2s fit` learns one for `task: translation`. "
                "Generate without (--no-shortlist, in Python shortlist=False)."
            )
        texts = as_texts(texts)
        search = self._search(beam_size, num_hypotheses, no_repeat_ngram, shortlist, precision)
        at_once = _BATCHES_AT_ONCE * batch_size
        for first in range(0, len(texts), at_once):
            chunk = texts[first : first + at_once]
            ids, lengths = self.encode_inputs(
                chunk, truncate=truncate, first_line=first_line + first
            )
            found = search(ids, lengths, max_length, length_penalty, batch_size)
            found = SearchResult(*(part.numpy() for part in found))
            # An empty line is EOS alone; an empty prompt has its continuation like any other.
            is_empty = (lengths == 1) & (not self.keep_end)
            for empty, hypotheses in zip(is_empty, self._decode(found), strict=True):
                nothing = Hypothesis("", (), 0.0, 0.0)
                yield [nothing] * num_hypotheses if empty else hypotheses

    def encode_inputs(
        self, texts: Sequence[str], *, truncate: bool = False, first_line: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `search_model` takes: source and EOS; for language models BOS and prompt.

        Args:
            texts: The inputs.
            truncate: Cut over-long inputs instead of refusing them.
            first_line: The line number of the first text, for messages.

        Returns:
            int32 `(texts, time)` ids, right-padded, and int32 `(texts,)` lengths.

        Raises:
            InputError: If an input is longer than `max_source_length` tokens.
        """
        rows = encode_sources(
            self.source_tokenizer,
            texts,
            max_length=self.max_source_length,
            keep_end=self.keep_end,
            truncate=truncate,
            first_line=first_line,
        )
        if isinstance(self.model, LanguageModel):
            rows = [[Tokenizer.bos_id, *row] for row in rows]
        else:
            rows = [[*row, Tokenizer.eos_id] for row in rows]
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.full((len(rows), lengths.max(initial=1)), Tokenizer.pad_id, np.int32)
        ids[np.arange(ids.shape[1]) < lengths[:, np.newaxis]] = np.concatenate(rows)
        return ids, lengths

    def _trace(
        self,
        beam_size: int,
        num_hypotheses: int,
        no_repeat_ngram: int,
        shortlist: bool,
        precision: str,
    ) -> Any:
        number = tf.TensorSpec([], tf.int32)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int32),
                number,
                tf.TensorSpec([], tf.float32),
                number,
            ],
            autograph=False,  # Its loops are TensorFlow's own already.
        )
        def search(
            source_ids: tf.Tensor,
            lengths: tf.Tensor,
            max_length: tf.Tensor,
            length_penalty: tf.Tensor,
            batch_size: tf.Tensor,
        ) -> SearchResult:
            return search_model(
                self.model,
                source_ids,
                lengths,
                beam_size=beam_size,
                num_hypotheses=num_hypotheses,
                max_length=max_length,
                length_penalty=length_penalty,
                batch_size=batch_size,
                no_repeat_ngram=no_repeat_ngram,
                shortlist=self.shortlist if shortlist else None,
                precision=precision,
            )

        return search

    def _decode(self, found: SearchResult) -> Iterator[list[Hypothesis]]:
        ids = [
            [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
            for rows, lengths in zip(found.token_ids, found.lengths, strict=True)
        ]
        texts = iter(self.target_tokenizer.decode([row for rows in ids for row in rows]))
        for rows, log_probs, scores in zip(ids, found.log_probs, found.scores, strict=True):
            yield [
                Hypothesis(next(texts), tuple(row), float(log_prob), float(score))
                for row, log_prob, score in zip(rows, log_probs, scores, strict=True)
            ]


def _check_options(
    beam_size: int,
    num_hypotheses: int,
    max_length: int,
    length_penalty: float,
    batch_size: int,
    precision: str,
) -> None:
    """Raises InputError if a decoding option is out of range."""
    for name, value in (
        ("beam_size", beam_size),
        ("num_hypotheses", num_hypotheses),
        ("max_length", max_length),
        ("batch_size", batch_size),
    ):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise InputError(f"`{name}` must be a whole number, 1 or more. Received: {value!r}.")
    if num_hypotheses > beam_size:
        raise InputError(
            f"`num_hypotheses` must be at most `beam_size`. Received: num_hypotheses="
            f"{num_hypotheses}, beam_size={beam_size}. Enlarge the beam."
        )
    if not (isinstance(length_penalty, numbers.Real) and 0 <= length_penalty < math.inf):
        raise InputError(
            f"`length_penalty` must be a finite number, 0 or more. Received: {length_penalty!r}. "
            f"Use 0 to rank by log-probability alone."
        )
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"`precision` must be 'float32' or 'bfloat16'. Received: {precision!r}.")
