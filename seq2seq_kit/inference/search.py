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
from seq2seq_kit.decoding.healing import MAX_TOKENS, HealedDecoder, PromptEnds, healer_of
from seq2seq_kit.decoding.processors import BannedTexts, BanTables, ban_texts
from seq2seq_kit.decoding.random import line_key
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.decoders import ShortlistDecoder, VocabularyDecoder
from seq2seq_kit.inference.inputs import Inputs
from seq2seq_kit.inference.shortlist import find_candidates
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import SPACE_MARK
from seq2seq_kit.tokens.tokenizer import Tokenizer


class Found(NamedTuple):
    """What a search found for some lines."""

    hypotheses: SearchResult
    """The outputs. Those of healed prompts begin with tokens that spell the prompt's end again."""
    before: tf.RaggedTensor
    """int32 `(lines, None)`. The last token that was kept of each healed prompt, if any: the
    tokenizer needs it to know whether the text after it begins with a space."""
    taken_back: tf.RaggedTensor
    """int32 `(lines, None)`. The tokens that were taken back of each prompt."""


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
        # An encoder's directions have half of the units each.
        self.group_sizes = group_sizes(model.units // 2)

    def __call__(
        self,
        inputs: Inputs,
        decoding: DecodingConfig,
        *,
        num_hypotheses: int = 1,
        weight_cache: WeightCache | None = None,
    ) -> Found:
        """Returns the outputs of some lines.

        Args:
            inputs: The lines, as tensors.
            decoding: The options; those in `graph_numbers()` may be tensors.
            num_hypotheses: Hypotheses of each line, at most `beam_size` unless it samples.
            weight_cache: Keeps operands made from the weights; None makes them in this graph.

        Raises:
            InputError: If a shortlist is asked for and there is none.
        """
        if decoding.shortlist and self.shortlist is None:
            raise InputError(
                "This model has no shortlist: `s2s fit` learns one for `task: translation`. "
                "Generate without (--no-shortlist, in Python shortlist=False)."
            )
        token_ids, lengths, lost_space, hashes = inputs
        ends: PromptEnds | None = None
        no_lengths = tf.zeros_like(lengths)
        before = taken_back = tf.RaggedTensor.from_row_lengths(no_lengths[:0], no_lengths)
        if self.heals:
            token_ids, lengths, ends = self._take_back(token_ids, lengths, lost_space)
            before, taken_back = self._seams(inputs, ends)

        def search(ids: tf.Tensor, lines: tf.Tensor, is_copy: tf.Tensor) -> SearchResult:
            line_ends = ends and PromptEnds(*(tf.gather(part, lines) for part in ends))
            keys = None
            if decoding.sample:
                keys = line_key(tf.gather(hashes, lines), decoding.seed)
            return self._search(ids, is_copy, decoding, num_hypotheses, keys, line_ends)

        with matmul_precision(decoding.precision, weight_cache or WeightCache()):
            found = search_in_groups(
                search,
                token_ids,
                lengths,
                sizes=self.group_sizes,
                max_length=decoding.max_length + (MAX_TOKENS if self.heals else 0),
                num_hypotheses=num_hypotheses,
                batch_size=decoding.batch_size,
            )
        return Found(found, before, taken_back)

    def _search(
        self,
        token_ids: tf.Tensor,
        is_done: tf.Tensor,
        decoding: DecodingConfig,
        num_hypotheses: int,
        keys: tf.Tensor | None,
        ends: PromptEnds | None,
    ) -> SearchResult:
        """Returns the outputs of the lines of a group."""
        start = self.model.start(token_ids)
        memory: Any = () if start.memory is None else start.memory
        inputs = SearchInputs(start.token_ids, start.states, memory, is_done)
        row_counts = self.group_sizes[:-1]
        if decoding.shortlist and self.shortlist is not None:
            candidates = find_candidates(self.shortlist, token_ids)
            narrow = ShortlistDecoder(self.model, candidates)
            processors = self._processors(decoding, candidates.token_ids)
            search = self._choose(narrow, processors, decoding, num_hypotheses, keys)
            found = run(
                search, inputs._replace(memory=narrow.memory(memory)), row_counts=row_counts
            )
            return found._replace(token_ids=tf.gather(candidates.token_ids, found.token_ids))
        decoder: Decoder = VocabularyDecoder(self.model)
        processors = self._processors(decoding, None)
        if ends is None:
            search = self._choose(decoder, processors, decoding, num_hypotheses, keys)
            return run(search, inputs, row_counts=row_counts)
        healer = healer_of(self.tokenizer.surfaces)
        healed = healer.spell_again(decoder, inputs, ends)
        decoder = HealedDecoder(decoder, healer)
        search = self._choose(decoder, processors, decoding, num_hypotheses, keys)
        inputs = inputs._replace(token_ids=healed.start_ids, state=(healed.state, healed.first))
        found = run(search, inputs, row_counts=row_counts)
        return _put_before(healed.token_ids, healed.lengths, found)

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
        if keys is not None:
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

    def _take_back(
        self, token_ids: tf.Tensor, lengths: tf.Tensor, lost_space: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, PromptEnds]:
        """Takes back the ends of prompts that an output may join.

        An encoder keeps at least a token: it never saw a source without one.

        Returns:
            The ids that are kept, their lengths, and what is taken back.
        """
        healer = healer_of(self.tokenizer.surfaces)
        place = tf.range(tf.shape(token_ids)[1])
        if isinstance(self.model, LanguageModel):
            ends = healer.take_back(token_ids, lengths, lost_space & (lengths > 1))
            kept = lengths - ends.num_tokens
            ids = tf.where(place < kept[:, tf.newaxis], token_ids, PAD_ID)
            return ids, kept, ends
        behind_first = tf.where(place == 0, PAD_ID, token_ids)
        ends = healer.take_back(behind_first, lengths - 1, lost_space)
        kept = lengths - ends.num_tokens
        last = kept[:, tf.newaxis] - 1
        after = tf.where(place == last, EOS_ID, PAD_ID)
        return tf.where(place < last, token_ids, after), kept, ends

    def _seams(self, inputs: Inputs, ends: PromptEnds) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the last token that is kept of each prompt, if any, and those taken back."""
        is_encoded = isinstance(self.model, EncoderDecoder)  # Then there is EOS and no BOS.
        first, last = (0, inputs.lengths - 1) if is_encoded else (1, inputs.lengths)
        place = tf.range(tf.shape(inputs.token_ids)[1])
        middle = (last - ends.num_tokens)[:, tf.newaxis]
        is_before = (place == middle - 1) & (place >= first)
        is_taken = (place >= middle) & (place < last[:, tf.newaxis])
        return (
            tf.ragged.boolean_mask(inputs.token_ids, is_before),
            tf.ragged.boolean_mask(inputs.token_ids, is_taken),
        )


def _put_before(token_ids: tf.Tensor, lengths: tf.Tensor, found: SearchResult) -> SearchResult:
    """Returns hypotheses with other tokens before theirs.

    Args:
        token_ids: int32 `(lines, MAX_TOKENS)`. The tokens, left-aligned.
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
