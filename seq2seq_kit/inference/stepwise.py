"""Searches that are run step by step from Python: streamed outputs, and states that are kept.

A line is searched alone here, but in a group of the same size as `search_in_groups` gives it, so
that its output has the same bits.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding import Search, stream
from seq2seq_kit.decoding.groups import LENGTH_STEP
from seq2seq_kit.decoding.healing import PromptEnds
from seq2seq_kit.decoding.loop import run_while
from seq2seq_kit.inference.certain_text import CertainText
from seq2seq_kit.inference.constraints import build_processors
from seq2seq_kit.inference.graphs import graph_number_specs, graph_numbers
from seq2seq_kit.inference.inputs import PREFIX_SIGNATURE, SIGNATURE, Inputs, Prefixes
from seq2seq_kit.inference.search import Beginning, ModelSearch
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.special_ids import PAD_ID


class Begun(NamedTuple):
    """The search of a line before its first step."""

    beginning: Beginning
    """The network's state and memory, of a group of copies of the line."""
    record: Any
    """The record of the search."""
    before: Any
    """As in `Seams`."""
    taken_back: Any
    """As in `Seams`."""


class Steps(NamedTuple):
    """The search of a line, step by step."""

    begun: Begun
    """The search before its first step."""
    search: Search
    """The search, to read records with."""
    records: Iterator[Any]
    """The record after each step, which is taken when it is asked for."""


class StepwiseSearch:
    """Runs the search of one line step by step.

    Args:
        search: The search.
    """

    def __init__(self, search: ModelSearch) -> None:
        self._search = search
        # Graphs for each set of the options that are no tensors in them.
        self._graphs = functools.lru_cache(maxsize=8)(StepGraphs)

    def stream(
        self, inputs: Inputs, decoding: DecodingConfig, prefixes: Prefixes | None = None
    ) -> Iterator[str]:
        """Yields the output of a line piece by piece; joined, they are what a search returns.

        Args:
            inputs: The line.
            decoding: The options.
            prefixes: The beginning of its output; not where prompts are healed.
        """
        begun, search, records = self.steps(inputs, decoding, prefixes)
        text = self.certain_text(begun, bool(inputs.lost_space[0]))
        yield from filter(None, [text.add(given_ids(begun.beginning))])
        record, num_added = begun.record, 0
        for record in records:
            ids = to_vocabulary(begun.beginning, search.certain_ids(record))
            yield from filter(None, [text.add(ids[num_added:])])
            num_added = len(ids)
        found = search.finish(record)
        best = found.token_ids[0, 0, : int(found.lengths[0, 0])].numpy().tolist()
        yield from filter(None, [text.close(to_vocabulary(begun.beginning, best)[num_added:])])

    def steps(
        self, inputs: Inputs, decoding: DecodingConfig, prefixes: Prefixes | None = None
    ) -> Steps:
        """Begins the search of a line; arguments as those of `stream`."""
        graphs = self.graphs(decoding)
        numbers = graph_numbers(decoding)
        begun = graphs.begin(inputs, numbers, prefixes)
        memory = graphs.memory(begun.beginning, numbers)
        records = stream(
            lambda record: graphs.step(record, begun.beginning, memory, numbers),
            begun.record,
            max_length=decoding.max_length,
        )
        return Steps(begun, graphs.search(begun.beginning, numbers), records)

    def graphs(self, decoding: DecodingConfig) -> "StepGraphs":
        """Returns the graphs for some options."""
        return self._graphs(self._search, decoding.of_graph())

    def certain_text(self, begun: Begun, lost_space: bool) -> CertainText:
        """Returns what turns the tokens of an output into text.

        Args:
            begun: The search.
            lost_space: As in `Inputs`, of the line.
        """
        tokenizer = self._search.tokenizer
        if not self._search.heals:
            return CertainText(tokenizer)
        before = begun.before[0].numpy().tolist()
        prompt = tokenizer.decode([before + begun.taken_back[0].numpy().tolist()])[0]
        return CertainText(tokenizer, before, len(prompt) + lost_space)


class StepGraphs:
    """The graphs of a search with some options.

    Args:
        search: The search.
        decoding: The options; those in `graph_numbers()` are given at each call.
        weight_cache: As in `ModelSearch`; None makes the operands in each graph.
    """

    def __init__(
        self,
        search: ModelSearch,
        decoding: DecodingConfig,
        weight_cache: WeightCache | None = None,
    ) -> None:
        self._search = search
        self._decoding = decoding
        self._weight_cache = weight_cache
        self._begin = tf.function(
            self.trace_begin, input_signature=[SIGNATURE, graph_number_specs()], autograph=False
        )
        self._begin_with = tf.function(
            self.trace_begin,
            input_signature=[SIGNATURE, graph_number_specs(), PREFIX_SIGNATURE],
            autograph=False,
        )
        self._step = tf.function(self._trace_step, reduce_retracing=True, autograph=False)
        self._run = tf.function(self.trace_run, reduce_retracing=True, autograph=False)
        self._memory = tf.function(self._trace_memory, reduce_retracing=True, autograph=False)

    @functools.cached_property
    def num_past_tokens(self) -> int | None:
        """Tokens of an output that processors read besides their states; None for all of them."""
        processors = build_processors(self._decoding, self._search.tokenizer, None)
        numbers = [processor.num_past_tokens for processor in processors]
        return None if None in numbers else max(filter(None, numbers), default=0)

    def begin(
        self, inputs: Inputs, numbers: dict[str, tf.Tensor], prefixes: Prefixes | None = None
    ) -> Begun:
        """Returns the search of a line before its first step."""
        line = Inputs(*map(tf.constant, inputs))
        if prefixes is None:
            return Begun(*self._begin(line, numbers))
        return Begun(*self._begin_with(line, numbers, Prefixes(*map(tf.constant, prefixes))))

    def memory(self, beginning: Beginning, numbers: dict[str, tf.Tensor]) -> Any:
        """Returns what the decoder reads at each step."""
        return self._memory(beginning, numbers)

    def step(
        self, record: Any, beginning: Beginning, memory: Any, numbers: dict[str, tf.Tensor]
    ) -> Any:
        """Returns the record after one more step."""
        return self._step(record, beginning, memory, numbers)

    def run(
        self, record: Any, beginning: Beginning, memory: Any, numbers: dict[str, tf.Tensor]
    ) -> Any:
        """Returns the record after `max_length` tokens, or at the end of the output."""
        return self._run(record, beginning, memory, numbers)

    def search(self, beginning: Beginning, numbers: dict[str, tf.Tensor]) -> Search:
        """Returns the search, to read records with."""
        return self._plan(beginning, numbers)[0]

    def _plan(self, beginning: Beginning, numbers: dict[str, tf.Tensor]) -> Any:
        decoding = self._decoding.model_copy(update=numbers)
        return self._search.plan(beginning, decoding, 1, None)

    def _precision(self) -> AbstractContextManager[None]:
        cache = self._weight_cache or WeightCache()
        return matmul_precision(self._decoding.precision, cache)

    def trace_begin(
        self, inputs: Inputs, numbers: dict[str, tf.Tensor], prefixes: Prefixes | None = None
    ) -> Begun:
        """Does what `begin` does, within a graph."""
        decoding = self._decoding.model_copy(update=numbers)
        seams = self._search.take_back(inputs, decoding)
        rows = min(self._search.group_sizes)
        padded = -(-seams.lengths[0] // LENGTH_STEP) * LENGTH_STEP
        missing = tf.maximum(padded - tf.shape(seams.token_ids)[1], 0)
        ids = tf.pad(seams.token_ids, [[0, 0], [0, missing]], constant_values=PAD_ID)
        copies = tf.repeat(ids[:, :padded], rows, axis=0)
        ends = seams.ends and PromptEnds(*(tf.repeat(part, rows, axis=0) for part in seams.ends))
        begins_with = prefixes and Prefixes(*(tf.repeat(part, rows, axis=0) for part in prefixes))
        keys = self._search.line_keys(tf.repeat(inputs.hashes, rows), decoding)
        with self._precision():
            beginning = self._search.begin(copies, tf.range(rows) > 0, decoding, ends, begins_with)
            search, start = self._search.plan(beginning, decoding, 1, keys)
            return Begun(beginning, search.start(start), seams.before, seams.taken_back)

    def _trace_memory(self, beginning: Beginning, numbers: dict[str, tf.Tensor]) -> Any:
        with self._precision():
            return self._plan(beginning, numbers)[1].memory

    def _trace_step(
        self, record: Any, beginning: Beginning, memory: Any, numbers: dict[str, tf.Tensor]
    ) -> Any:
        # A loop of one step: TensorFlow fuses operations within a loop otherwise than outside of
        # one, and their results differ in the last bits.
        with self._precision():
            search = self._plan(beginning, numbers)[0]
            after = record.time + 1
            return run_while(
                lambda record: record.time < after,
                lambda record: (search.step(record, memory),),
                (record,),
            )[0]

    def trace_run(
        self, record: Any, beginning: Beginning, memory: Any, numbers: dict[str, tf.Tensor]
    ) -> Any:
        """Does what `run` does, within a graph."""
        with self._precision():
            search = self._plan(beginning, numbers)[0]
            return run_while(
                lambda record: (record.time < search.max_length) & ~tf.reduce_all(record.done),
                lambda record: (search.step(record, memory),),
                (record,),
            )[0]


def given_ids(beginning: Beginning) -> list[int]:
    """Returns the tokens that spell the end of the prompt again."""
    if beginning.given is None:
        return []
    token_ids, lengths = beginning.given
    return np.asarray(token_ids)[0, : int(lengths[0])].tolist()


def to_vocabulary(beginning: Beginning, ids: list[int]) -> list[int]:
    """Returns tokens of the vocabulary for what a search with a shortlist found."""
    if beginning.candidates is None:
        return ids
    return np.asarray(beginning.candidates.token_ids)[ids].tolist()
