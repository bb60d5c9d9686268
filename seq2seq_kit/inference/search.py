"""From the ids of inputs to the ids of outputs, in graph: what the Python API and exports share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding import (
    BeamSearch,
    Decoder,
    Filters,
    ForbiddenTokens,
    GreedySearch,
    LogitsProcessor,
    MinLength,
    NoLoop,
    NoRepeatedNgram,
    RepetitionPenalty,
    Sampling,
    Search,
    SearchInputs,
    SearchResult,
    count_characters,
    group_sizes,
    run,
    search_in_groups,
)
from seq2seq_kit.decoding.healing import (
    MAX_TOKENS,
    HealedDecoder,
    PromptEnds,
    expand_like,
    healer_of,
)
from seq2seq_kit.decoding.loop import run_while
from seq2seq_kit.decoding.processors import BannedTexts, BanTables, ban_texts
from seq2seq_kit.decoding.random import line_key
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.decoders import ShortlistDecoder, VocabularyDecoder
from seq2seq_kit.inference.inputs import Inputs, Prefixes
from seq2seq_kit.inference.shortlist import Candidates, find_candidates
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK
from seq2seq_kit.tokens.tokenizer import Tokenizer


class Found(NamedTuple):
    """The result of a search for some lines."""

    hypotheses: SearchResult
    """The outputs. Those of healed prompts begin with tokens that spell the prompt's end again."""
    before: Any
    """int32 `(lines, None)`. The last token that was kept of each healed prompt, if any: the
    tokenizer needs it to know whether the text after it begins with a space. () where no prompt
    is healed."""
    taken_back: Any
    """int32 `(lines, None)`. The tokens that were taken back of each prompt; () as `before`."""


class Seams(NamedTuple):
    """Inputs without the ends that outputs may join."""

    token_ids: tf.Tensor
    """int32 `(lines, time)`. The tokens that are kept, right-padded."""
    lengths: tf.Tensor
    """int32 `(lines,)`. Tokens that are kept."""
    ends: PromptEnds | None
    """The ends that were taken back; None where nothing is healed."""
    before: Any
    """As in `Found`."""
    taken_back: Any
    """As in `Found`."""


class Beginning(NamedTuple):
    """The start of the search of a group of lines: tensors only."""

    inputs: SearchInputs
    """The first tokens to feed, and the network's state and memory."""
    candidates: Candidates | None
    """The tokens of the shortlist, if there is one."""
    given: tuple[tf.Tensor, tf.Tensor] | None
    """Tokens that spell a prompt's end again, or a forced beginning, int32 `(lines, time)`, and
    their number, int32 `(lines,)`. The state is then that of a `HealedDecoder`. None without."""


class ModelSearch:
    """Searches for the outputs of a network.

    Args:
        model: The network.
        tokenizer: The tokenizer of the outputs.
        continues: Whether outputs continue prompts, so that reaching the limit is a usual end.
        heals: Whether prompts and continuations are parts of one text, so that an output may join
            the prompt's last tokens.
        shortlist: What outputs are limited to where `decoding.shortlist` asks for it.
            Log-probabilities are then those among the tokens of a line's list.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        tokenizer: Tokenizer,
        *,
        continues: bool,
        heals: bool = False,
        shortlist: Shortlist | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.continues = continues
        self.heals = heals
        self.shortlist = shortlist
        self.group_sizes = group_sizes(model.gate_width)

    def __call__(
        self,
        inputs: Inputs,
        decoding: DecodingConfig,
        *,
        num_hypotheses: int = 1,
        prefixes: Prefixes | None = None,
        weight_cache: WeightCache | None = None,
    ) -> Found:
        """Returns the outputs of some lines.

        Args:
            inputs: The lines, as tensors.
            decoding: The options; those in `graph_numbers()` may be tensors.
            num_hypotheses: Hypotheses of each line, at most `beam_size` unless it samples.
            prefixes: The beginnings of the outputs, as tensors; not where prompts are healed, whose
                outputs begin as the prompts end.
            weight_cache: Keeps operands made from the weights; None makes them in this graph.

        Raises:
            InputError: If a shortlist is asked for and there is none, or a text cannot be banned.
        """
        seams = self.take_back(inputs, decoding)

        def search(ids: tf.Tensor, lines: tf.Tensor, is_copy: tf.Tensor) -> SearchResult:
            ends = seams.ends and PromptEnds(*(tf.gather(part, lines) for part in seams.ends))
            keys = self.line_keys(tf.gather(inputs.hashes, lines), decoding)
            of_lines = prefixes and Prefixes(*(tf.gather(part, lines) for part in prefixes))
            beginning = self.begin(ids, is_copy, decoding, ends, of_lines)
            one, start = self.plan(beginning, decoding, num_hypotheses, keys)
            found = run(one, start, row_counts=self.group_sizes[:-1])
            return self.finish(beginning, found)

        with matmul_precision(decoding.precision, weight_cache or WeightCache()):
            found = search_in_groups(
                search,
                seams.token_ids,
                seams.lengths,
                sizes=self.group_sizes,
                max_length=decoding.max_length + self._num_given(prefixes),
                num_hypotheses=num_hypotheses,
                batch_size=decoding.batch_size,
            )
        return Found(found, seams.before, seams.taken_back)

    def line_keys(self, hashes: tf.Tensor, decoding: DecodingConfig) -> tf.Tensor | None:
        """Returns the keys of the random numbers of lines, or None where nothing is sampled."""
        return line_key(hashes, decoding.seed) if decoding.sample else None

    def begin(
        self,
        token_ids: tf.Tensor,
        is_done: tf.Tensor,
        decoding: DecodingConfig,
        ends: PromptEnds | None,
        prefixes: Prefixes | None = None,
    ) -> Beginning:
        """Reads the inputs of the lines of a group, and spells the ends of prompts again.

        Args:
            token_ids: int32 `(lines, time)`. What is kept of the inputs.
            is_done: bool `(lines,)`. Lines that are not to be searched.
            decoding: The options.
            ends: What was taken back of the inputs.
            prefixes: The beginnings of the outputs.
        """
        start = self.model.start(token_ids)
        memory: Any = () if start.memory is None else start.memory
        inputs = SearchInputs(start.token_ids, start.states, memory, is_done)
        if prefixes is not None:
            return self._begin_with(inputs, prefixes)
        if decoding.shortlist and self.shortlist is not None:
            return Beginning(inputs, find_candidates(self.shortlist, token_ids), None)
        if ends is None:
            return Beginning(inputs, None, None)
        healer = healer_of(self.tokenizer.surfaces)
        healed = healer.spell_again(VocabularyDecoder(self.model), inputs, ends)
        inputs = inputs._replace(token_ids=healed.start_ids, state=(healed.state, healed.first))
        return Beginning(inputs, None, (healed.token_ids, healed.lengths))

    def _begin_with(self, inputs: SearchInputs, prefixes: Prefixes) -> Beginning:
        """Feeds the forced beginnings of outputs, whose last tokens may be spelled again."""
        healer = healer_of(self.tokenizer.surfaces)
        decoder = VocabularyDecoder(self.model)
        token_ids, lengths, lost_space = prefixes
        ends = healer.take_back(token_ids, lengths, lost_space)
        kept = lengths - ends.num_tokens

        def feed(place: tf.Tensor, fed: tf.Tensor, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
            output = decoder.step(fed, state, inputs.memory)
            goes_on = place < kept
            state = tf.nest.map_structure(
                lambda new, old: tf.where(expand_like(goes_on, new), new, old), output.state, state
            )
            return place + 1, tf.where(goes_on, token_ids[:, place], fed), state

        _, fed, state = run_while(
            lambda place, *_: place < tf.reduce_max(kept),
            feed,
            (tf.constant(0), inputs.token_ids, inputs.state),
        )
        inputs = inputs._replace(token_ids=fed, state=state)
        healed = healer.spell_again(decoder, inputs, ends)
        inputs = inputs._replace(token_ids=healed.start_ids, state=(healed.state, healed.first))
        width = tf.shape(token_ids)[1]
        place = tf.range(width + MAX_TOKENS)
        shifted = tf.clip_by_value(place - kept[:, tf.newaxis], 0, MAX_TOKENS - 1)
        first = tf.pad(token_ids, [[0, 0], [0, MAX_TOKENS]])
        rest = tf.gather(healed.token_ids, shifted, batch_dims=1)
        given = tf.where(place < kept[:, tf.newaxis], first, rest)
        return Beginning(inputs, None, (given, kept + healed.lengths))

    def _num_given(self, prefixes: Prefixes | None) -> int | tf.Tensor:
        """Returns how many tokens may be before those that are searched for."""
        if prefixes is not None:
            return tf.shape(prefixes.token_ids)[1] + MAX_TOKENS
        return MAX_TOKENS if self.heals else 0

    def plan(
        self,
        beginning: Beginning,
        decoding: DecodingConfig,
        num_hypotheses: int,
        keys: tf.Tensor | None,
    ) -> tuple[Search, SearchInputs]:
        """Returns the search of the lines of a group and where it begins.

        Args:
            beginning: From `begin`.
            decoding: The options.
            num_hypotheses: Hypotheses of each line.
            keys: From `line_keys`; only the start of the search needs them.
        """
        inputs, candidates, given = beginning
        decoder: Decoder
        if candidates is not None:  # Without the operands of the whole vocabulary.
            decoder = ShortlistDecoder(self.model, candidates)
            inputs = inputs._replace(memory=decoder.memory(inputs.memory))
        else:
            decoder = VocabularyDecoder(self.model)
        if given is not None:
            decoder = HealedDecoder(decoder, healer_of(self.tokenizer.surfaces))
        processors = self._processors(decoding, candidates and candidates.token_ids)
        return self._choose(decoder, processors, decoding, num_hypotheses, keys), inputs

    def finish(self, beginning: Beginning, found: SearchResult) -> SearchResult:
        """Returns what a planned search found as tokens of the vocabulary, healed ones included."""
        if beginning.candidates is not None:
            ids = tf.gather(beginning.candidates.token_ids, found.token_ids)
            return found._replace(token_ids=ids)
        return found if beginning.given is None else _put_before(*beginning.given, found)

    def _choose(
        self,
        decoder: Decoder,
        processors: list[LogitsProcessor],
        decoding: DecodingConfig,
        num_hypotheses: int,
        keys: tf.Tensor | None,
    ) -> Search:
        """Returns the search that the options ask for."""
        options: dict[str, Any] = {
            "decoder": decoder,
            "processors": processors,
            "max_length": decoding.max_length,
            "length_penalty": decoding.length_penalty,
            "close_at_limit": not self.continues,
            "num_hypotheses": num_hypotheses,
            "pad_id": PAD_ID,
            "eos_id": EOS_ID,
        }
        if decoding.sample:
            filters = Filters(
                temperature=decoding.temperature,
                top_k=decoding.top_k,
                top_p=decoding.top_p,
                min_p=decoding.min_p,
            )
            return Sampling(line_keys=keys, filters=filters, **options)
        if decoding.beam_size == 1:
            return GreedySearch(**options)
        return BeamSearch(beam_size=decoding.beam_size, **options)

    def _processors(
        self, decoding: DecodingConfig, columns: tf.Tensor | None
    ) -> list[LogitsProcessor]:
        """Returns what changes the logits, those that rescale first.

        Args:
            decoding: The options.
            columns: int32 `(columns,)`. The tokens that the logits belong to; None: the vocabulary.
        """

        def of_columns(table: Any) -> tf.Tensor:
            return tf.constant(table) if columns is None else tf.gather(table, columns, axis=-1)

        surfaces = self.tokenizer.surfaces
        processors: list[LogitsProcessor] = []
        if decoding.repetition_penalty != 1.0:
            processors.append(RepetitionPenalty(decoding.repetition_penalty))
        if columns is None:  # A shortlist allows none of these.
            special = (PAD_ID, UNK_ID, BOS_ID)
            processors.append(ForbiddenTokens(special))
        if decoding.min_length:
            processors.append(MinLength(decoding.min_length, EOS_ID))
        if decoding.no_repeat_ngram:
            processors.append(NoRepeatedNgram(decoding.no_repeat_ngram))
        if decoding.max_loop_characters:
            num_characters = of_columns(count_characters(surfaces))
            processors.append(NoLoop(num_characters, decoding.max_loop_characters))
        if decoding.banned_texts:
            tables = self._ban_tables(decoding.banned_texts)
            processors.append(BannedTexts(BanTables(*map(of_columns, tables))))
        return processors

    def _ban_tables(self, texts: Sequence[str]) -> BanTables:
        """Returns the tables that ban texts, which are normalized as all texts are.

        Raises:
            InputError: If one has no character that normalization leaves, or there are too many.
        """
        spelled = []
        for text in texts:
            prepared = self.tokenizer.text_rules.prepare(text)
            if not prepared:
                raise InputError(
                    f"`banned_texts` must have characters that the tokenizer's normalization "
                    f"leaves. Received: {text!r}."
                )
            spelled.append(prepared.replace(" ", SPACE_MARK).encode())
        return ban_texts(self.tokenizer.surfaces, spelled)

    def take_back(self, inputs: Inputs, decoding: DecodingConfig) -> Seams:
        """Takes back the ends of prompts that outputs may join; nothing where nothing is healed.

        An encoder keeps at least a token: it never saw a source without one.

        Raises:
            InputError: If a shortlist is asked for and there is none.
        """
        if decoding.shortlist and self.shortlist is None:
            raise InputError(
                "This model has no shortlist: `s2s fit` learns one for `task: translation`. "
                "Generate without (--no-shortlist, in Python shortlist=False)."
            )
        token_ids, lengths, lost_space, _ = inputs
        if not self.heals:
            return Seams(token_ids, lengths, None, (), ())
        healer = healer_of(self.tokenizer.surfaces)
        place = tf.range(tf.shape(token_ids)[1])
        if isinstance(self.model, LanguageModel):
            ends = healer.take_back(token_ids, lengths, lost_space & (lengths > 1))
            kept = lengths - ends.num_tokens
            ids = tf.where(place < kept[:, tf.newaxis], token_ids, PAD_ID)
            return Seams(ids, kept, ends, *_seam(token_ids, 1, lengths, ends))
        behind_first = tf.where(place == 0, PAD_ID, token_ids)
        ends = healer.take_back(behind_first, lengths - 1, lost_space)
        kept = lengths - ends.num_tokens
        last = kept[:, tf.newaxis] - 1
        after = tf.where(place == last, EOS_ID, PAD_ID)
        ids = tf.where(place < last, token_ids, after)
        # An encoder's inputs end with EOS and begin without BOS.
        return Seams(ids, kept, ends, *_seam(token_ids, 0, lengths - 1, ends))


def _seam(
    token_ids: tf.Tensor, first: int, last: tf.Tensor, ends: PromptEnds
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns the last token that is kept of each prompt, if any, and those taken back.

    Args:
        token_ids: int32 `(lines, time)`. The inputs.
        first: The place of a prompt's first token.
        last: int32 `(lines,)`. The place after its last token.
        ends: What is taken back.
    """
    place = tf.range(tf.shape(token_ids)[1])
    middle = (last - ends.num_tokens)[:, tf.newaxis]
    is_before = (place == middle - 1) & (place >= first)
    is_taken = (place >= middle) & (place < last[:, tf.newaxis])
    return tf.ragged.boolean_mask(token_ids, is_before), tf.ragged.boolean_mask(token_ids, is_taken)


def _put_before(token_ids: tf.Tensor, lengths: tf.Tensor, found: SearchResult) -> SearchResult:
    """Returns hypotheses with other tokens before theirs.

    Args:
        token_ids: int32 `(lines, time)`. The tokens, left-aligned.
        lengths: int32 `(lines,)`. How many there are of each line.
        found: The hypotheses.
    """
    columns = tf.shape(found.token_ids)[2]
    place = tf.range(tf.shape(token_ids)[1] + columns)
    shifted = tf.clip_by_value(place - lengths[:, tf.newaxis], 0, columns - 1)
    by_column = tf.transpose(found.token_ids, (0, 2, 1))
    after = tf.transpose(tf.gather(by_column, shifted, batch_dims=1), (0, 2, 1))
    before = tf.pad(token_ids, [[0, 0], [0, columns]])
    is_before = place < lengths[:, tf.newaxis]
    ids = tf.where(is_before[:, tf.newaxis], before[:, tf.newaxis], after)
    joined = lengths[:, tf.newaxis] + found.lengths
    is_padding = place >= joined[..., tf.newaxis]
    return found._replace(token_ids=tf.where(is_padding, PAD_ID, ids), lengths=joined)
