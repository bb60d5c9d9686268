"""From the ids of inputs to the ids of outputs, in graph: what the Python API and exports share."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding import (
    BeamSearch,
    Decoder,
    Filters,
    GreedySearch,
    LogitsProcessor,
    Sampling,
    Search,
    SearchInputs,
    SearchResult,
    group_sizes,
    run,
    search_in_groups,
)
from seq2seq_kit.decoding.byte_tree import MAX_TOKENS
from seq2seq_kit.decoding.healing import HealedDecoder, PromptEnds, healer_of
from seq2seq_kit.decoding.random import line_key
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.beginnings import (
    Given,
    Seams,
    feed_prefixes,
    put_before,
    spell_again,
    take_back_prompts,
    take_back_sources,
)
from seq2seq_kit.inference.constraints import build_processors
from seq2seq_kit.inference.decoders import ShortlistDecoder, vocabulary_decoder
from seq2seq_kit.inference.inputs import Inputs, Prefixes
from seq2seq_kit.inference.shortlist import Candidates, find_candidates
from seq2seq_kit.model.ensemble import Network
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.model.memory import check_search
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import EOS_ID, PAD_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer


class Found(NamedTuple):
    """The result of a search for some lines."""

    hypotheses: SearchResult
    """The outputs. Those of healed prompts begin with tokens that spell the prompt's end again."""
    before: Any
    """As in `Seams`."""
    taken_back: Any
    """As in `Seams`."""


class Beginning(NamedTuple):
    """The start of the search of a group of lines: tensors only."""

    inputs: SearchInputs
    """The first tokens to feed, and the network's state and memory."""
    candidates: Candidates | None
    """The tokens of the shortlist, if there is one."""
    given: Given | None
    """Tokens that spell a prompt's end again, or a forced beginning; the state is then that of a
    `HealedDecoder`. None without."""


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
        model: Network,
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
        num_hypotheses: tf.Tensor | int = 1,
        prefixes: Prefixes | None = None,
        weight_cache: WeightCache | None = None,
    ) -> Found:
        """Returns the outputs of some lines.

        Args:
            inputs: The lines, as tensors.
            decoding: The options; those in `graph_numbers()` may be tensors.
            num_hypotheses: Hypotheses of each line, at most `beam_size` unless it samples; a number
                of samples may be a tensor.
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
        if decoding.shortlist and self.shortlist is not None:
            return Beginning(inputs, find_candidates(self.shortlist, token_ids), None)
        given = None
        healer, decoder = healer_of(self.tokenizer.surfaces), vocabulary_decoder(self.model)
        if prefixes is not None:
            inputs, given = feed_prefixes(healer, decoder, inputs, prefixes)
        elif ends is not None:
            inputs, given = spell_again(healer, decoder, inputs, ends)
        return Beginning(inputs, None, given)

    def _num_given(self, prefixes: Prefixes | None) -> int | tf.Tensor:
        """Returns how many tokens may be before those that are searched for."""
        if prefixes is not None:
            return tf.shape(prefixes.token_ids)[1] + MAX_TOKENS
        return MAX_TOKENS if self.heals else 0

    def plan(
        self,
        beginning: Beginning,
        decoding: DecodingConfig,
        num_hypotheses: tf.Tensor | int,
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
            decoder = vocabulary_decoder(self.model)
        if given is not None:
            decoder = HealedDecoder(decoder, healer_of(self.tokenizer.surfaces))
        columns = None if candidates is None else candidates.token_ids
        processors = build_processors(decoding, self.tokenizer, columns)
        return self._choose(decoder, processors, decoding, num_hypotheses, keys), inputs

    def finish(self, beginning: Beginning, found: SearchResult) -> SearchResult:
        """Returns what a planned search found as tokens of the vocabulary, healed ones included."""
        if beginning.candidates is not None:
            ids = tf.gather(beginning.candidates.token_ids, found.token_ids)
            return found._replace(token_ids=ids)
        return found if beginning.given is None else put_before(beginning.given, found)

    def _choose(
        self,
        decoder: Decoder,
        processors: list[LogitsProcessor],
        decoding: DecodingConfig,
        num_hypotheses: tf.Tensor | int,
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

    def take_back(self, inputs: Inputs, decoding: DecodingConfig) -> Seams:
        """Takes back the ends of prompts that outputs may join; nothing where nothing is healed.

        Raises:
            InputError: If a shortlist is asked for and there is none.
        """
        if decoding.shortlist and self.shortlist is None:
            raise InputError(
                "This model has no shortlist: `s2s fit` learns one for `task: translation`. "
                "Generate without (--no-shortlist, in Python shortlist=False)."
            )
        if not self.heals:
            return Seams(inputs.token_ids, inputs.lengths, None, (), ())
        healer = healer_of(self.tokenizer.surfaces)
        if isinstance(self.model, LanguageModel):
            return take_back_prompts(healer, inputs)
        return take_back_sources(healer, inputs)

    def check_memory(
        self, lengths: np.ndarray, decoding: DecodingConfig, *, num_hypotheses: int = 1
    ) -> float:
        """Returns the share that the search of some lines has of the memory for searches.

        Args:
            lengths: int32 `(lines,)`. As in `Inputs`.
            decoding: The options.
            num_hypotheses: Hypotheses of each line.

        Raises:
            InputError: If it does not fit into memory.
        """
        model = self.model
        is_translator = not isinstance(model, LanguageModel)
        return check_search(
            lengths,
            self.group_sizes,
            decoding,
            num_hypotheses=num_hypotheses,
            units=model.units,
            layers=model.decoder_layers,
            # A shortlist's columns are few.
            columns=0 if decoding.shortlist else model.vocab_size,
            compares_units=is_translator and model.attention == "additive",
            heals=self.heals,
        )
