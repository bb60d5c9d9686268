"""Texts in, generated texts out: joins tokenizer, model and search.

`search_model` is the graph that the Python API and the export share.
"""

import functools
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding import (
    MAX_TOKENS,
    MINUS_INFINITY,
    Constraint,
    NoLoop,
    NoRepeatedNgram,
    PromptEnds,
    SearchResult,
    StepFunction,
    StepOutput,
    beam_search,
    count_characters,
    greedy_search,
    group_sizes,
    healer_of,
    search_in_groups,
)
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.model.memory import check_search
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, OutputLayer
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Lines handed to the graph at once, as a multiple of the batch size: enough that each length fills
# its batches, few enough that Ctrl-C is heard and memory stays small.
_BATCHES_AT_ONCE = 16

NUMBERS_IN_GRAPH = {"max_length": tf.int32, "length_penalty": tf.float32, "batch_size": tf.int32}
"""Fields of `DecodingConfig` that a graph takes as tensors, with their types: another value needs
no new graph. Each choice of the other fields has a graph of its own."""


@dataclass(frozen=True)
class Hypothesis:
    """One generated text."""

    text: str
    """The text; for a continuation, without its prompt."""
    token_ids: tuple[int, ...]
    """The generated tokens, EOS included unless the text was cut. Those of a continuation may begin
    with some that spell the end of the prompt again: the last of them may go on beyond it."""
    log_prob: float
    """Summed over these tokens, in nats; for a translation that was cut, with an EOS after them.
    Tokens that spell the prompt's end again do not count; of one that goes on beyond it, the
    probability is that among all tokens that do so."""
    score: float
    """What the search ranked by: the log-probability under the length penalty."""
    is_cut: bool = False
    """Whether `max_length` cut the text, where the model would have gone on."""


def search_model(
    model: EncoderDecoder | LanguageModel,
    source_ids: tf.Tensor,
    lengths: tf.Tensor,
    decoding: DecodingConfig,
    *,
    surfaces: tuple[bytes, ...],
    num_hypotheses: int = 1,
    continues: bool = False,
    prompt_ends: PromptEnds | None = None,
    shortlist: Shortlist | None = None,
    weight_cache: WeightCache | None = None,
) -> SearchResult:
    """Searches for the best outputs of each line; in graph.

    Args:
        model: The network.
        source_ids: int32 `(lines, time)`, right-padded: what `encode_inputs` gives.
        lengths: int32 `(lines,)`. Real tokens of each line, at least 1.
        decoding: The options of the search. Its numbers in `NUMBERS_IN_GRAPH` may be tensors.
        surfaces: What each target id adds to a text, as `Tokenizer.surfaces`.
        num_hypotheses: Hypotheses a line, at most `decoding.beam_size`.
        continues: Whether outputs continue prompts, so that reaching the limit is a usual end.
        prompt_ends: What `take_back` took from the prompts, for outputs that begin with it.
        shortlist: What outputs are made of where `decoding.shortlist` asks for it.
            Log-probabilities are then those among the tokens of a line's list.
        weight_cache: The operands made from the weights; None makes a cache for this graph.

    Raises:
        InputError: If a shortlist is asked for and there is none.
    """
    if decoding.shortlist and shortlist is None:
        raise InputError(
            "This model has no shortlist: `s2s fit` learns one for `task: translation`. "
            "Generate without (--no-shortlist, in Python shortlist=False)."
        )
    # An encoder's directions have half of the units each.
    sizes = group_sizes(model.units // 2)
    options: dict[str, Any] = {
        "max_length": decoding.max_length,
        "length_penalty": decoding.length_penalty,
        "close_at_limit": not continues,
        "row_counts": sizes[:-1],
    }
    num_characters = tf.constant(count_characters(surfaces), tf.int32)

    find: Callable[..., SearchResult]
    if decoding.beam_size == 1:
        find = functools.partial(greedy_search, **options)
    else:
        options |= {"beam_size": decoding.beam_size, "num_hypotheses": num_hypotheses}
        find = functools.partial(beam_search, **options)

    def search(ids: tf.Tensor, lines: tf.Tensor, is_copy: tf.Tensor) -> SearchResult:
        start = model.start(ids)
        memory: Any = () if start.memory is None else start.memory
        if shortlist is None or not decoding.shortlist:
            find_all = functools.partial(
                find,
                memory=memory,
                is_done=is_copy,
                # Padding, unknown token and BOS never are output.
                suppressed_ids=(PAD_ID, UNK_ID, BOS_ID),
                constraints=_constraints(decoding, num_characters),
            )
            step = _step_function(model)
            if prompt_ends is None:
                return find_all(step, start.token_ids, start.states)
            healer = healer_of(surfaces)
            ends = PromptEnds(*(tf.gather(part, lines) for part in prompt_ends))
            healed = healer.spell_again(step, start.token_ids, start.states, memory, ends)
            found = find_all(
                healer.first_token(step), healed.start_ids, (healed.state, healed.first)
            )
            return _put_before(healed.token_ids, healed.lengths, found)
        columns = shortlist.columns(ids)
        narrow_layer = model.output_layer(columns.token_ids)
        bias = tf.where(columns.allowed, narrow_layer.bias, MINUS_INFINITY)
        found = find(
            _narrow_step_function(model, narrow_layer, columns.token_ids),
            start.token_ids,
            start.states,
            memory=(memory, bias),
            is_done=is_copy,
            constraints=_constraints(decoding, tf.gather(num_characters, columns.token_ids)),
        )
        return found._replace(token_ids=tf.gather(columns.token_ids, found.token_ids))

    with matmul_precision(decoding.precision, weight_cache or WeightCache()):
        return search_in_groups(
            search,
            source_ids,
            lengths,
            sizes=sizes,
            max_length=decoding.max_length + (0 if prompt_ends is None else MAX_TOKENS),
            num_hypotheses=num_hypotheses,
            batch_size=decoding.batch_size,
        )


def take_back(
    model: EncoderDecoder | LanguageModel,
    surfaces: tuple[bytes, ...],
    source_ids: tf.Tensor,
    lengths: tf.Tensor,
    lost_space: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, PromptEnds]:
    """Takes back the ends of prompts that what follows may join; in graph.

    An encoder keeps at least a token: it never saw a source without one.

    Args:
        model: The network.
        surfaces: As `Tokenizer.surfaces`.
        source_ids: As for `search_model`.
        lengths: As for `search_model`.
        lost_space: bool `(lines,)`. Whether a prompt ends with a space that has no token.

    Returns:
        What of the ids is kept and its lengths, for `search_model`; and what is not.
    """
    place = tf.range(tf.shape(source_ids)[1])
    if isinstance(model, LanguageModel):
        ends = healer_of(surfaces).take_back(source_ids, lengths, lost_space & (lengths > 1))
        kept = lengths - ends.num_tokens
        ids = tf.where(place < kept[:, tf.newaxis], source_ids, PAD_ID)
        return ids, kept, ends
    behind_first = tf.where(place == 0, PAD_ID, source_ids)
    ends = healer_of(surfaces).take_back(behind_first, lengths - 1, lost_space)
    kept = lengths - ends.num_tokens
    last = kept[:, tf.newaxis] - 1
    after = tf.where(place == last, EOS_ID, PAD_ID)
    return tf.where(place < last, source_ids, after), kept, ends


def seams(
    source_ids: tf.Tensor, lengths: tf.Tensor, ends: PromptEnds, *, is_encoded: bool
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns the last token that is kept of each prompt, if any, and the tokens taken back.

    A tokenizer needs the token before a text to tell whether it begins with a space.

    Args:
        source_ids: As for `take_back`.
        lengths: As for `take_back`.
        ends: What it took back.
        is_encoded: Whether an encoder reads the prompts, followed by EOS and without BOS.
    """
    first, last = (0, lengths - 1) if is_encoded else (1, lengths)
    place = tf.range(tf.shape(source_ids)[1])
    middle = (last - ends.num_tokens)[:, tf.newaxis]
    is_before = (place == middle - 1) & (place >= first)
    is_taken = (place >= middle) & (place < last[:, tf.newaxis])
    return (
        tf.ragged.boolean_mask(source_ids, is_before),
        tf.ragged.boolean_mask(source_ids, is_taken),
    )


def _put_before(token_ids: tf.Tensor, lengths: tf.Tensor, found: SearchResult) -> SearchResult:
    """Returns hypotheses with other tokens before theirs, `(lines, MAX_TOKENS)`, of any lengths."""
    width = tf.shape(token_ids)[1] + tf.shape(found.token_ids)[2]
    place = tf.range(width)
    after = tf.clip_by_value(place - lengths[:, tf.newaxis], 0, tf.shape(found.token_ids)[2] - 1)
    before = tf.pad(token_ids, [[0, 0], [0, tf.shape(found.token_ids)[2]]])
    is_before = place < lengths[:, tf.newaxis]
    ids = tf.where(
        is_before[:, tf.newaxis],
        before[:, tf.newaxis],
        tf.transpose(
            tf.gather(tf.transpose(found.token_ids, (0, 2, 1)), after, batch_dims=1), (0, 2, 1)
        ),
    )
    joined = lengths[:, tf.newaxis] + found.lengths
    is_padding = place >= joined[..., tf.newaxis]
    return found._replace(token_ids=tf.where(is_padding, PAD_ID, ids), lengths=joined)


def _constraints(decoding: DecodingConfig, num_characters: tf.Tensor) -> list[Constraint]:
    constraints: list[Constraint] = []
    if decoding.no_repeat_ngram:
        constraints.append(NoRepeatedNgram(decoding.no_repeat_ngram))
    if decoding.max_loop_characters:
        constraints.append(NoLoop(num_characters, decoding.max_loop_characters))
    return constraints


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
        heals: Whether prompts and continuations are parts of one text, so that what is generated
            may join a prompt's last tokens.
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
        heals: bool = False,
        shortlist: Shortlist | None = None,
    ) -> None:
        self.heals = heals
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.defaults = defaults
        self.max_source_length = max_source_length
        self.keep_end = keep_end
        self.shortlist = shortlist
        # One graph for each set of the options that are no tensors in it.
        self._search = functools.lru_cache(maxsize=8)(self._trace)

    def hypotheses(
        self,
        texts: Iterable[str],
        *,
        decoding: DecodingConfig | None = None,
        num_hypotheses: int = 1,
        truncate: bool = False,
        first_line: int = 1,
        **options: Any,
    ) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text, best first, in the order of the texts.

        Args:
            texts: The inputs.
            decoding: The options of the search; what was not set in it is as in the config.
            num_hypotheses: Hypotheses returned, at most `beam_size`. It never changes the best one,
                so it does not enlarge the beam.
            truncate: Cut over-long inputs instead of refusing them.
            first_line: The line number of the first text, for messages.
            **options: Fields of `DecodingConfig` to use in place of those.

        Raises:
            InputError: If an option is unknown or out of range, an input is over-long, the search
                does not fit into memory, or there is no shortlist.
        """
        names = ("decoding", "num_hypotheses", "truncate", "first_line")
        decoding = self.defaults.merge(decoding).override(names, **options)
        if not isinstance(num_hypotheses, numbers.Integral) or num_hypotheses < 1:
            raise InputError(
                f"`num_hypotheses` must be a whole number, 1 or more. Received: {num_hypotheses!r}."
            )
        if num_hypotheses > decoding.beam_size:
            raise InputError(
                f"`num_hypotheses` must be at most `beam_size`. Received: num_hypotheses="
                f"{shorten(num_hypotheses)}, beam_size={decoding.beam_size}. Enlarge the beam "
                f"(--beam-size, in Python beam_size=...); its best output may be another one."
            )
        check_not_forked()
        texts = as_texts(texts)
        numbers_in_graph = {
            name: tf.constant(getattr(decoding, name), dtype)
            for name, dtype in NUMBERS_IN_GRAPH.items()
        }
        search = self._search(
            decoding.model_copy(update=dict.fromkeys(NUMBERS_IN_GRAPH)), num_hypotheses
        )
        at_once = _BATCHES_AT_ONCE * decoding.batch_size
        for first in range(0, len(texts), at_once):
            chunk = texts[first : first + at_once]
            ids, lengths = self.encode_inputs(
                chunk, truncate=truncate, first_line=first_line + first
            )
            self._check_memory(lengths, decoding, num_hypotheses)
            lost_space = [self.loses_space(text) for text in chunk]
            found, *seam = search(ids, lengths, tf.constant(lost_space, tf.bool), numbers_in_graph)
            found = SearchResult(*(part.numpy() for part in found))
            decoded = self._decode(found, [part.to_list() for part in seam], lost_space)
            # An empty line is EOS alone; an empty prompt has its continuation like any other.
            is_empty = (lengths == 1) & (not self.keep_end)
            for empty, hypotheses in zip(is_empty, decoded, strict=True):
                nothing = Hypothesis("", (), 0.0, 0.0)
                yield [nothing] * num_hypotheses if empty else hypotheses

    def _check_memory(
        self, lengths: np.ndarray, decoding: DecodingConfig, num_hypotheses: int
    ) -> None:
        """Raises InputError if the search of a chunk of lines does not fit into memory."""
        model = self.model
        is_translator = isinstance(model, EncoderDecoder)
        check_search(
            lengths,
            group_sizes(model.units // 2),
            decoding,
            num_hypotheses=num_hypotheses,
            units=model.units,
            layers=model.decoder_layers,
            # A shortlist's columns are few.
            columns=0 if decoding.shortlist else model.vocab_size,
            compares_units=is_translator and model.attention == "additive",
        )

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
            rows = [[BOS_ID, *row] for row in rows]
        else:
            rows = [[*row, EOS_ID] for row in rows]
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.full((len(rows), lengths.max(initial=1)), PAD_ID, np.int32)
        ids[np.arange(ids.shape[1]) < lengths[:, np.newaxis]] = np.concatenate(rows)
        return ids, lengths

    def _trace(self, decoding: DecodingConfig, num_hypotheses: int) -> Any:
        """Returns the graph of a search, which takes the `NUMBERS_IN_GRAPH` at each call."""

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.bool),
                {name: tf.TensorSpec([], dtype) for name, dtype in NUMBERS_IN_GRAPH.items()},
            ],
            autograph=False,  # Its loops are TensorFlow's own already.
        )
        def search(
            source_ids: tf.Tensor,
            lengths: tf.Tensor,
            lost_space: tf.Tensor,
            numbers: dict[str, tf.Tensor],
        ) -> tuple[Any, ...]:
            ends: PromptEnds | None = None
            seam: tuple[tf.RaggedTensor, ...] = ()
            if self.heals:
                given = source_ids, lengths
                source_ids, lengths, ends = take_back(
                    self.model, self.target_tokenizer.surfaces, *given, lost_space
                )
                is_encoded = isinstance(self.model, EncoderDecoder)
                seam = seams(*given, ends, is_encoded=is_encoded)
            found = search_model(
                self.model,
                source_ids,
                lengths,
                decoding.model_copy(update=numbers),
                surfaces=self.target_tokenizer.surfaces,
                num_hypotheses=num_hypotheses,
                continues=self.keep_end,
                prompt_ends=ends,
                shortlist=self.shortlist,
            )
            return found, *seam

        # As a graph, even where other code has functions run eagerly.
        return search.get_concrete_function()

    def loses_space(self, text: str) -> bool:
        """Whether a prompt ends with a space for which the tokenizer has no token."""
        if not self.heals or self.target_tokenizer.lossless:
            return False
        text = self.target_tokenizer.text_rules.prepare(text)
        return text.endswith(" ") and not text.isspace()

    def _decode(
        self, found: SearchResult, seam: Sequence[list[list[int]]], lost_space: Sequence[bool]
    ) -> Iterator[list[Hypothesis]]:
        """Yields the hypotheses of each line.

        Args:
            found: Of the search.
            seam: What `seams` gives, as lists; empty if outputs are texts of their own.
            lost_space: For each line whether its prompt ends with a space that has no token.
        """
        ids = [
            [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
            for rows, lengths in zip(found.token_ids, found.lengths, strict=True)
        ]
        decode = self.target_tokenizer.decode
        if seam:
            before, taken = seam
            joined = (a + row for a, rows in zip(before, ids, strict=True) for row in rows)
            given = decode([a + b for a, b in zip(before, taken, strict=True)])
            given = [a + " " * is_lost for a, is_lost in zip(given, lost_space, strict=True)]
            prompts = [text for text, rows in zip(given, ids, strict=True) for _ in rows]
            whole = decode(list(joined))
            texts = iter([a[len(b) :] for a, b in zip(whole, prompts, strict=True)])
        else:
            texts = iter(decode([row for rows in ids for row in rows]))
        numbers = (found.log_probs.tolist(), found.scores.tolist(), found.is_cut.tolist())
        for rows, *columns in zip(ids, *numbers, strict=True):
            yield [
                Hypothesis(next(texts), tuple(row), *values)
                for row, *values in zip(rows, *columns, strict=True)
            ]
