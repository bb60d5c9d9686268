"""The state of a language model in an export's graph: prompts are read, and texts go on from it.

In graph what `StateKeeper` and `CertainText` do in Python, with the same bits. Each text is
computed by itself, in a group of copies, so that it does not depend on the others in its batch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit import bounds
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding.byte_tree import MAX_TOKENS
from seq2seq_kit.decoding.greedy import OneTokenRecord
from seq2seq_kit.decoding.processors import MAX_PERIOD
from seq2seq_kit.export.codec import Codec, checked_number
from seq2seq_kit.inference.graphs import graph_numbers
from seq2seq_kit.inference.inputs import Inputs
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.inference.state import state_beginning
from seq2seq_kit.inference.stepwise import Begun, StepGraphs
from seq2seq_kit.model.matmul import WeightCache
from seq2seq_kit.special_ids import EOS_ID, PAD_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

Tensors = dict[str, tf.Tensor]

_NONE = -1  # Fills rows of ids of different lengths.

# The bytes that may follow the first byte of a character, where they are not 0x80 to 0xBF.
_SECOND_BYTES = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}


class StateGraphs:
    """Reads prompts into states, and writes on from states.

    A state is a dict of tensors with leading axis batch: `hidden_0`, `cell_0` and so on of the
    network, and what the search and the text need besides. A caller hands all of them back.

    Args:
        search: The search of a language model.
        codec: Encodes and decodes texts.
        decoding: The options, of greedy search or sampling.
        weight_cache: Keeps operands made from the weights.
    """

    def __init__(
        self,
        search: ModelSearch,
        codec: Codec,
        decoding: DecodingConfig,
        weight_cache: WeightCache,
    ) -> None:
        self._search = search
        self._decoding = decoding
        self._codec = codec
        self._graphs = StepGraphs(search, decoding, weight_cache)
        self._num_past = self._graphs.num_past_tokens
        self._text = GrowingText(search, codec)
        self._structure: Any = ()  # Of what the search needs besides; `read` finds it out.

    def read(self, inputs: tf.Tensor, seed: tf.Tensor) -> Tensors:
        """Returns the states after prompts.

        Args:
            inputs: string `(batch,)`. The prompts.
            seed: int64 `()`. Of the samples; greedy search does not use it.
        """
        seed = checked_number("seed", seed, 0, bounds.SEEDS - 1)
        prompts = self._codec.encode(inputs).inputs
        # Processors make room for this many tokens in their states.
        numbers = graph_numbers(self._decoding.model_copy(update={"max_length": MAX_PERIOD}))

        def read_one(place: tf.Tensor) -> Tensors:
            line = Inputs(*(part[place : place + 1] for part in prompts))
            begun = self._graphs.trace_begin(line, numbers | {"seed": seed})
            record = begun.record._replace(token_ids=begun.record.token_ids[:, :0])
            return self._take_apart(record) | self._text.before(begun)

        found = _map_rows(read_one, tf.size(prompts.lengths))
        return self._text.start(found, prompts.lost_space)

    def go_on(self, max_length: tf.Tensor, **state: tf.Tensor) -> Tensors:
        """Returns the next text after each state as `outputs`, and the states after them.

        Args:
            max_length: int32 `()`. Generated tokens at most.
            **state: From `read`, or from an earlier call.
        """
        max_length = checked_number("max_length", max_length, 1, bounds.MAX_TOKENS)
        width = tf.shape(state["history"])[1] + max_length + 1

        def go_on_one(place: tf.Tensor) -> Tensors:
            row = {name: part[place : place + 1] for name, part in state.items()}
            past = row["history_length"][0]
            record = self._run(row, past, max_length)
            length = record.lengths[0]
            ids = record.token_ids[0]
            first = 0 if self._num_past is None else tf.maximum(length - self._num_past, 0)
            kept = ids[first:length]
            record = record._replace(
                token_ids=_pad(kept, width, PAD_ID)[tf.newaxis], lengths=tf.size(kept)[tf.newaxis]
            )
            new_ids = _pad(ids[past:length], max_length + 1, _NONE)
            return self._take_apart(record) | {"new_ids": new_ids}

        found = _map_rows(go_on_one, tf.size(state["last_token"]))
        longest = tf.reduce_max(tf.concat([found["history_length"], [0]], axis=0))
        found["history"] = found["history"][:, :longest]
        new_ids = found.pop("new_ids")
        return found | self._text.go_on(state, new_ids, found["has_ended"])

    def _run(self, row: Tensors, past: tf.Tensor, max_length: tf.Tensor) -> OneTokenRecord:
        """Returns the record of the search after more tokens, of a group of copies.

        Args:
            row: A state of one text.
            past: int32 `()`. The tokens in its history.
            max_length: int32 `()`. Further tokens at most.
        """
        rows = min(self._search.group_sizes)

        def copies(part: tf.Tensor) -> tf.Tensor:
            return tf.repeat(part, rows, axis=0)

        network, others = self._structure
        layers = [part for n in range(len(network)) for part in (f"hidden_{n}", f"cell_{n}")]
        network = tf.nest.pack_sequence_as(network, [copies(row[name]) for name in layers])
        others = tf.nest.pack_sequence_as(
            others, [copies(row[f"search_{n}"]) for n in range(len(tf.nest.flatten(others)))]
        )
        first, processor_states, choice_state = others
        ended = copies(row["has_ended"]) | (tf.range(rows) > 0)
        room = tf.fill([rows, max_length + 1], PAD_ID)
        record = OneTokenRecord(
            time=past,
            state=(network, first) if self._search.heals else network,
            processor_states=processor_states,
            choice_state=choice_state,
            fed=copies(row["last_token"]),
            done=ended,
            ended=ended,
            token_ids=tf.concat([copies(row["history"][:, :past]), room], axis=1),
            lengths=tf.fill([rows], past),
            log_probs=tf.zeros([rows]),
            ranked=tf.zeros([rows]),
            is_cut=tf.zeros([rows], tf.bool),
        )
        options = self._decoding.model_copy(update={"max_length": 1})
        numbers = graph_numbers(options) | {"max_length": past + max_length}
        beginning = state_beginning(self._search, record)
        found: OneTokenRecord = self._graphs.trace_run(record, beginning, (), numbers)
        return found

    def _take_apart(self, record: OneTokenRecord) -> Tensors:
        """Returns the state of the first row of a record, without the axis of the rows."""
        network, first = record.state if self._search.heals else (record.state, ())
        others = (first, record.processor_states, record.choice_state)
        self._structure = tf.nest.map_structure(lambda _: 0, (network, others))
        named = {
            "last_token": record.fed,
            "has_ended": record.ended,
            "history": record.token_ids,
            "history_length": record.lengths,
        }
        for n, layer in enumerate(network):
            named |= {f"hidden_{n}": layer.hidden, f"cell_{n}": layer.cell}
        named |= {f"search_{n}": part for n, part in enumerate(tf.nest.flatten(others))}
        return {name: part[0] for name, part in named.items()}


class GrowingText:
    """Turns tokens into text that is never retracted, as `CertainText` does.

    Args:
        search: Knows the tokenizer of the outputs.
        codec: Decodes them in graph.
    """

    def __init__(self, search: ModelSearch, codec: Codec) -> None:
        self._heals = search.heals
        self._codec = codec
        self._tokenizer = search.tokenizer
        self._bytes = _lone_bytes(search.tokenizer)

    def before(self, begun: Begun) -> Tensors:
        """Returns the ids with which the text of a prompt ends, `_NONE` where there is none."""
        if begun.beginning.given is None:
            return {}
        given, lengths = (part[0] for part in begun.beginning.given)
        return {
            "before": _pad(begun.before[0], 1, _NONE),
            "taken_back": _pad(begun.taken_back[0], MAX_TOKENS, _NONE),
            "given": tf.where(tf.range(MAX_TOKENS) < lengths, given, _NONE),
        }

    def start(self, found: Tensors, lost_space: tf.Tensor) -> Tensors:
        """Returns states with their text, of which nothing belongs to the output.

        Args:
            found: The states, with what `before` returned.
            lost_space: As in `Inputs`.
        """
        number = tf.size(found["last_token"])
        ids = tf.zeros([number, 0], tf.int32)
        num_shown = tf.zeros([number], tf.int32)
        if self._heals:
            before, taken, given = (found.pop(n) for n in ("before", "taken_back", "given"))
            prompts = self._codec.detokenize(_ragged(tf.concat([before, taken], axis=1)))
            num_shown = tf.strings.length(prompts) + tf.cast(lost_space, tf.int32)
            ids = tf.concat([before, given], axis=1)
        _, shown = self._show(_ragged(ids), num_shown, tf.fill([number], False))
        return found | shown

    def go_on(self, state: Tensors, new_ids: tf.Tensor, has_ended: tf.Tensor) -> Tensors:
        """Returns `outputs`, the text that has become certain, and the state of the text.

        Args:
            state: The state before the new tokens.
            new_ids: int32 `(batch, tokens)`, `_NONE` where there is none.
            has_ended: bool `(batch,)`. Whether nothing follows them.
        """
        place = tf.range(tf.shape(state["text_ids"])[1])
        is_before = place < state["text_length"][:, tf.newaxis]
        before = tf.where(is_before, state["text_ids"], _NONE)
        new_ids = tf.where(new_ids == EOS_ID, _NONE, new_ids)
        ids = _ragged(tf.concat([before, new_ids], axis=1))
        outputs, shown = self._show(ids, state["num_shown"], has_ended)
        return {"outputs": tf.where(state["has_ended"], "", outputs), **shown}

    def _show(
        self, ids: tf.RaggedTensor, num_shown: tf.Tensor, has_ended: tf.Tensor
    ) -> tuple[tf.Tensor, Tensors]:
        """Returns the text that has become certain, and the state of the text after it.

        Args:
            ids: int32 `(batch, None)`. All tokens.
            num_shown: int32 `(batch,)`. Bytes of their text that were returned before.
            has_ended: bool `(batch,)`. Whether all of the text is certain.
        """
        num_pending = tf.where(has_ended, 0, self._num_pending(ids))
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        texts = self._codec.detokenize(_first(ids, lengths - num_pending))
        certain = tf.where(has_ended, texts, self._without_uncertain_end(texts))
        size = tf.strings.length(certain)
        outputs = tf.strings.substr(certain, tf.minimum(num_shown, size), size)
        # Where all is certain, the last token is enough to decode the next one with.
        is_done = (certain == texts) & (num_pending == 0)
        last = _first(ids[:, ::-1], tf.minimum(lengths, 1))
        kept = tf.where(is_done, tf.minimum(lengths, 1), lengths)
        ids = _last(ids, kept)
        shown_of_last = tf.strings.length(self._codec.detokenize(last))
        num_shown = tf.where(is_done, shown_of_last, tf.maximum(num_shown, size))
        return outputs, {
            "text_ids": ids.to_tensor(PAD_ID),
            "text_length": kept,
            "num_shown": num_shown,
        }

    def _num_pending(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns how many last tokens begin a character without completing it, int32 `(batch,)`.

        Of UTF-8, table 3-7 of the Unicode standard: a character has up to four bytes.
        """
        limits = tf.cast(ids.row_limits(), tf.int32)
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        padded = tf.concat([[PAD_ID], ids.values], axis=0)

        def byte(back: int) -> tf.Tensor:  # -1 where the token is no byte beyond ASCII.
            token = tf.gather(padded, tf.where(lengths >= back, limits + 1 - back, 0))
            return tf.gather(self._bytes, token)

        one, two, three = byte(1), byte(2), byte(3)
        begins_two = (one >= 0xC2) & (one <= 0xF4)
        begins_three = (two >= 0xE0) & (two <= 0xF4) & _may_be_second(two, one)
        begins_four = (three >= 0xF0) & (three <= 0xF4) & _may_be_second(three, two)
        begins_four &= (one >= 0x80) & (one <= 0xBF)
        return tf.where(begins_four, 3, tf.where(begins_three, 2, tf.where(begins_two, 1, 0)))

    def _without_uncertain_end(self, texts: tf.Tensor) -> tf.Tensor:
        """Does the same as the method of `CertainText`; string `(batch,)`."""
        rules = self._tokenizer.text_rules
        if not self._tokenizer.lossless:
            texts = tf.strings.regex_replace(texts, r" +$", "")
        if rules.escapes:
            texts = tf.strings.regex_replace(texts, "\x10$", "")
        if rules.normalization == "nfd":
            texts = tf.strings.regex_replace(texts, r"(?s).\p{M}*$", "")
        return texts


def _lone_bytes(tokenizer: Tokenizer) -> tf.Tensor:
    """Returns the byte of each token that is one byte of a longer character, otherwise -1."""
    surfaces = tokenizer.surfaces
    table = [one[0] if len(one) == 1 and one[0] >= 0x80 else -1 for one in surfaces]
    with tf.init_scope():
        return tf.constant(np.array(table, np.int32))


def _may_be_second(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    least, most = tf.fill(tf.shape(first), 0x80), tf.fill(tf.shape(first), 0xBF)
    for byte, (low, high) in _SECOND_BYTES.items():
        least = tf.where(first == byte, low, least)
        most = tf.where(first == byte, high, most)
    return (second >= least) & (second <= most)


def _map_rows(function: Callable[[tf.Tensor], Tensors], number: tf.Tensor) -> Tensors:
    """Returns what a function gives for each row, stacked.

    Args:
        function: Takes the place of a row, int32 `()`.
        number: int32 `()`. Rows.
    """
    traced = tf.function(function, input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    outputs = traced.get_concrete_function().structured_outputs
    specs = {name: tf.TensorSpec(one.shape, one.dtype) for name, one in outputs.items()}
    found: Tensors = tf.map_fn(
        traced, tf.range(number), fn_output_signature=specs, parallel_iterations=1
    )
    return found


def _pad(ids: tf.Tensor, width: tf.Tensor | int, filler: int) -> tf.Tensor:
    """Returns ids `(tokens,)` with a filler after them, `(width,)`."""
    return tf.pad(ids, [[0, width - tf.size(ids)]], constant_values=filler)


def _ragged(ids: tf.Tensor) -> tf.RaggedTensor:
    """Returns the rows of ids `(batch, tokens)` without `_NONE`."""
    return tf.ragged.boolean_mask(ids, ids != _NONE)


def _first(ids: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Returns the first ids of each row, at most as many as it has."""
    place = tf.ragged.range(tf.cast(ids.row_lengths(), tf.int32))
    return tf.ragged.boolean_mask(ids, place < lengths[:, tf.newaxis])


def _last(ids: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Returns the last ids of each row, at most as many as it has."""
    all_lengths = tf.cast(ids.row_lengths(), tf.int32)
    place = tf.ragged.range(all_lengths)
    return tf.ragged.boolean_mask(ids, place >= (all_lengths - lengths)[:, tf.newaxis])
