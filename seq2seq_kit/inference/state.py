"""The state of a language model within a text, which can be kept, copied and saved.

An LSTM carries all that it has read in a state of fixed size. Together with what else a search
knows (the last tokens, the position in the random numbers) it takes some kilobytes. From it the
text continues bit for bit as if it had never been interrupted.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding import SearchInputs
from seq2seq_kit.decoding.byte_tree import MAX_TOKENS
from seq2seq_kit.decoding.greedy import OneTokenRecord
from seq2seq_kit.decoding.processors import MAX_PERIOD
from seq2seq_kit.decoding.random import threefry
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.files import make_parents, user_path
from seq2seq_kit.inference.beginnings import Given
from seq2seq_kit.inference.certain_text import CertainText, Unfinished
from seq2seq_kit.inference.graphs import graph_numbers
from seq2seq_kit.inference.inputs import Inputs
from seq2seq_kit.inference.search import Beginning, ModelSearch
from seq2seq_kit.inference.stepwise import StepwiseSearch, given_ids
from seq2seq_kit.options import refuse_unknown_options
from seq2seq_kit.special_ids import BOS_ID, PAD_ID

_FORMAT_VERSION = 1


class GenerationState:
    """The point from which the text of a language model continues; `Seq2Seq.read` makes one.

    `Seq2Seq.generate(state=...)` writes on and moves the state; `fork` keeps a copy.
    """

    def __init__(
        self, decoding: DecodingConfig, record: OneTokenRecord, text: Unfinished, model: str
    ) -> None:
        self._decoding = decoding
        self._record = record  # Of one row, as arrays; all its tokens are in the past.
        self._text = text
        self._model = model

    def __repr__(self) -> str:
        how = "sampled" if self._decoding.sample else "greedy"
        where = ", ended" if self.has_ended else ""
        return f"<GenerationState: {how}, model {self._model[:8]}{where}>"

    @property
    def decoding(self) -> DecodingConfig:
        """The options of the search: those that `read` was given."""
        return self._decoding

    @property
    def has_ended(self) -> bool:
        """Whether the model has ended its text, so that nothing follows."""
        return bool(self._record.ended[0])

    @refuse_unknown_options()
    def fork(self, seed: int | None = None) -> Self:
        """Returns a copy: both can be continued from here, independently of each other.

        Args:
            seed: Where text is sampled, another number gives the copy another ending; None makes
                both write the same text.

        Raises:
            InputError: If there is a seed and nothing is sampled, or it is out of range.
        """
        twin = copy.copy(self)  # Shallow: its parts are never modified in place.
        if seed is None:
            return twin
        if not self._decoding.sample:
            raise InputError("`seed` has an effect only where text is sampled. Leave it out.")
        draws = self._record.choice_state
        number = self._decoding.check_values({"seed": seed})["seed"]
        # The 2 keeps this counter apart from those of samples and of draws.
        key = threefry(tf.constant(draws.key), tf.constant([[number, 2]], tf.int64)).numpy()
        twin._record = self._record._replace(choice_state=draws._replace(key=key))
        return twin

    def save(self, path: str | Path) -> None:
        """Writes the state to a file, whole or not at all.

        It holds no text, but the last tokens, and numbers that depend on all that was read.

        Args:
            path: The file; its folder is made if it does not exist.

        Raises:
            InputError: If the folder cannot be made.
            RunError: If the file cannot be written.
        """
        path = user_path(path)
        make_parents(path)
        arrays = {str(n): np.asarray(part) for n, part in enumerate(tf.nest.flatten(self._record))}
        metadata = {
            "format_version": _FORMAT_VERSION,
            "decoding": self.decoding.model_dump(mode="json"),
            "text": self._text._asdict(),
            "model": self._model,
        }
        save_archive(path, arrays.items(), metadata, "The state")


class StateKeeper:
    """Reads prompts into states, and generates from states.

    Args:
        search: The search of a language model.
        stepwise: Its steps.
    """

    def __init__(self, search: ModelSearch, stepwise: StepwiseSearch) -> None:
        self._search = search
        self._stepwise = stepwise

    def read(self, inputs: Inputs, decoding: DecodingConfig) -> GenerationState:
        """Returns the state after a prompt.

        Args:
            inputs: The prompt.
            decoding: The options with which text will be generated.

        Raises:
            InputError: If they ask for beam search, which keeps no single state.
        """
        if not has_single_state(decoding):
            raise InputError(
                f"A state can be continued only with greedy search or sampling. Received: "
                f"beam_size={decoding.beam_size}. Use beam_size=1 or sample=True."
            )
        # Processors make room for this many tokens in their states.
        numbers = graph_numbers(decoding.model_copy(update={"max_length": MAX_PERIOD}))
        begun = self._stepwise.graphs(decoding).begin(inputs, numbers)
        text = self._stepwise.certain_text(begun, bool(inputs.lost_space[0]))
        text.add(given_ids(begun.beginning))
        record = tf.nest.map_structure(lambda part: part.numpy(), begun.record)
        empty = record._replace(time=np.int32(0), token_ids=record.token_ids[:, :0])
        return GenerationState(decoding, _first_row(empty), text.state, self._digest())

    def write(self, state: GenerationState, decoding: DecodingConfig) -> str:
        """Returns the text of the next tokens and moves the state behind them.

        Args:
            state: The state.
            decoding: Its options, with the number of tokens as `max_length`.

        Returns:
            The text that is certain: what the last tokens leave open comes with the next ones.
        """
        self._check_model(state._model, "The state")
        return "" if state.has_ended else self._advance(state, decoding.max_length)

    def stream(self, state: GenerationState, decoding: DecodingConfig) -> Iterator[str]:
        """Yields what `write` returns piece by piece; the state moves with the pieces."""
        self._check_model(state._model, "The state")
        for _ in range(decoding.max_length):
            if state.has_ended:
                return
            if piece := self._advance(state, 1):
                yield piece

    def _advance(self, state: GenerationState, num_tokens: int) -> str:
        """Moves a state on and returns the text that has become certain."""
        search = self._search
        rows = min(search.group_sizes)
        past = state._record.token_ids.shape[1]
        record = _copies(state._record, rows)
        room = np.full((rows, num_tokens + 1), PAD_ID, np.int32)
        record = record._replace(
            time=tf.constant(past),
            token_ids=tf.constant(np.concatenate([record.token_ids, room], axis=1)),
            lengths=tf.fill([rows], past),
        )
        numbers = graph_numbers(state.decoding.model_copy(update={"max_length": past + num_tokens}))
        graphs = self._stepwise.graphs(state.decoding)
        beginning = state_beginning(search, record)
        record = graphs.run(record, beginning, (), numbers)
        record = tf.nest.map_structure(lambda part: part.numpy(), record)
        length = int(record.lengths[0])
        new_ids = record.token_ids[0, past:length].tolist()
        text = CertainText(search.tokenizer, *state._text)
        is_end = bool(record.ended[0])
        written = text.close(new_ids) if is_end else text.add(new_ids)
        num_past = length if graphs.num_past_tokens is None else graphs.num_past_tokens
        kept = record.token_ids[:, max(0, length - num_past) : length]
        state._record = _first_row(record._replace(time=np.int32(0), token_ids=kept))
        state._text = text.state
        return written

    def load(self, path: Path) -> GenerationState:
        """Returns a state that was saved.

        Raises:
            InputError: If it is of another model.
            RunError: If the file is missing, damaged, or no state.
        """
        try:
            archive = load_archive(path)
        except RunError as error:
            raise RunError(
                f"{path} cannot be read as a state that `save` wrote: it does not exist, is "
                f"damaged, or is another file. Check the path, or read the prompt again."
            ) from error
        try:
            metadata: Mapping[str, Any] = archive.metadata
            if metadata["format_version"] != _FORMAT_VERSION:
                raise ValueError(f"format_version is {metadata['format_version']}")
            decoding = DecodingConfig.model_validate(metadata["decoding"])
            ids, num_shown = metadata["text"]["token_ids"], metadata["text"]["num_shown"]
            text = Unfinished(tuple(map(int, ids)), int(num_shown))
            model = str(metadata["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is no saved state ({error}).") from error
        self._check_model(model, str(path))
        like = self.read(self._no_prompt(), decoding)._record
        parts = [archive.arrays.get(str(n)) for n in range(len(tf.nest.flatten(like)))]
        for part, expected in zip(parts, tf.nest.flatten(like), strict=True):
            if part is None or part.dtype != expected.dtype or part.ndim != expected.ndim:
                raise RunError(f"{path} is damaged. Restore it from a copy.")
        return GenerationState(decoding, tf.nest.pack_sequence_as(like, parts), text, model)

    def _check_model(self, digest: str, what: str) -> None:
        """Raises InputError if a state does not belong to this model."""
        if digest != self._digest():
            raise InputError(
                f"{what} is of another model, or of this one before it was trained further. Read "
                f"the prompt again with this model."
            )

    def _no_prompt(self) -> Inputs:
        bos = np.array([[BOS_ID]], np.int32)
        return Inputs(bos, np.array([1], np.int32), np.array([False]), np.zeros(1, np.int64))

    def _digest(self) -> str:
        """Returns a digest of the weights and the vocabulary."""
        whole = hashlib.sha256(self._search.tokenizer.fingerprint.encode())
        for variable in self._search.model.trainable_variables:
            whole.update(np.ascontiguousarray(variable.value.numpy()).tobytes())
        return whole.hexdigest()


def has_single_state(decoding: DecodingConfig) -> bool:
    """Whether a search has one state, from which it can go on: greedy search and sampling."""
    return decoding.sample or decoding.beam_size == 1


def state_beginning(search: ModelSearch, record: OneTokenRecord) -> Beginning:
    """Returns a beginning of the structure that `ModelSearch.plan` expects, within a text.

    Args:
        search: The search of a language model.
        record: Where it goes on.
    """
    rows = tf.size(record.fed)
    given = None
    if search.heals:
        given = Given(tf.zeros([rows, MAX_TOKENS], tf.int32), tf.zeros([rows], tf.int32))
    return Beginning(SearchInputs(record.fed, record.state, (), record.done), None, given)


def _first_row(record: OneTokenRecord) -> OneTokenRecord:
    """Returns the record of the first of several equal rows."""
    rest = record._replace(time=())
    return tf.nest.map_structure(lambda part: part[:1], rest)._replace(time=record.time)


def _copies(record: OneTokenRecord, rows: int) -> OneTokenRecord:
    """Returns the record of a group: the row, and copies of it that are done."""
    copies = tf.nest.map_structure(
        lambda part: np.repeat(part, rows, axis=0), record._replace(time=())
    )
    is_copy = np.arange(rows) > 0
    copies = copies._replace(done=copies.done | is_copy, ended=copies.ended | is_copy)
    tensors: OneTokenRecord = tf.nest.map_structure(tf.constant, copies._replace(time=0))
    return tensors
