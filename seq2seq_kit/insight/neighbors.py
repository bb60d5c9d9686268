"""The training examples in which a model was in the most similar state."""

import importlib
import io
import json
import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from seq2seq_kit import bounds
from seq2seq_kit.data.cache import cache_folder, describe_corpus, read_cached, write_cached
from seq2seq_kit.digests import FileDigests, digest
from seq2seq_kit.errors import DataError, InputError, shorten
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.insight.subject import (
    TextModel,
    lstm_layers,
    source_ids_of,
    target_ids_of,
    text_model,
)
from seq2seq_kit.model.fast_lstm import LayerCall, observe_layers
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID
from seq2seq_kit.text.corpus import read_corpus

_logger = logging.getLogger(__name__)

StateKind = Literal["encoder", "decoder", "context"]
"""Which state: the encoder's output at a source token, the output of the decoder's last LSTM layer
when it predicts a target token, or what attention reads then."""

_LINES_AT_ONCE = 32
# 400 MB of float16 for states of 1,024 numbers.
_MOST_STATES = 200_000
# A longer line is left out: the states of one book would be the whole index.
_MOST_TOKENS = 256


class _Example(NamedTuple):
    """A line of the index, as texts."""

    line: int
    source: str
    target: str


@dataclass(frozen=True)
class Neighbor:
    """A place in the training data where the state of the model was similar."""

    distance: float
    """1 less the cosine of the angle between both states: 0 for the same direction."""
    line: int
    """The line number in its file, from 1; of given texts their place, from 1."""
    source: str
    """The source text; "" for a language model."""
    target: str
    """The target text, or the text of a language model."""
    position: int
    """The place of the token, from 0, in the tokens of the source for an encoder's state, else of
    the target; EOS counts."""
    token: str
    """The token: of an encoder the one that it reads, of a decoder the one that it predicts."""


class TrainingIndex:
    """Finds the training examples in which a model was in a state like the one for a text.

    The states of all tokens of up to `max_lines` examples, drawn evenly from the data, are computed
    once and kept in the cache folder for as long as data and weights are the same. Examples with
    more than 256 tokens on a side are left out, and so are those beyond 200,000 states; the log
    says how many. A language model reads each line alone.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        state: "encoder", "decoder" or "context".
        pairs: The texts, as pairs of source and target; None for the training data that the config
            names. A packaged model and an export come without their data.
        max_lines: Examples at most.

    Raises:
        InputError: If the model has no such state, there is no text, an option is out of range, or
            scikit-learn is not installed.
        DataError: If the training data cannot be read.

    Example:

        index = insight.TrainingIndex(translator, state="decoder")
        for found in index.nearest("Guten Morgen!", position=0):
            print(found.distance, found.source, found.target, found.token)
    """

    def __init__(
        self,
        model: TextModel | ExportedModel,
        *,
        state: StateKind = "decoder",
        pairs: Iterable[tuple[str, str]] | None = None,
        max_lines: int = 2000,
    ) -> None:
        check_not_forked()
        if state not in get_args(StateKind):
            raise InputError(
                f"`state` must be one of {', '.join(get_args(StateKind))}. Received: "
                f"{shorten(state)}."
            )
        if not isinstance(max_lines, int) or not 1 <= max_lines <= bounds.MAX_COUNT:
            raise InputError(
                f"`max_lines` must be a whole number from 1 to {bounds.MAX_COUNT}. Received: "
                f"{shorten(max_lines)}."
            )
        if pairs is None and isinstance(model, ExportedModel):
            raise DataError(
                "An export does not hold the texts that its model was trained on. Pass texts as "
                "`pairs`, or load the run."
            )
        self._model = text_model(model)
        self._states = _StateReader(self._model, state)
        neighbors = import_scikit_learn("neighbors")
        self._examples, vectors, self._places = self._load(pairs, max_lines)
        self._search = neighbors.NearestNeighbors(metric="cosine", algorithm="brute").fit(vectors)

    def __len__(self) -> int:
        """Returns the number of states in the index."""
        return len(self._places)

    def nearest(
        self, source: str, target: str | None = None, *, position: int = -1, number: int = 10
    ) -> tuple[Neighbor, ...]:
        """Returns the examples in which the model was in the most similar state, nearest first.

        Of each example only its nearest token counts.

        Args:
            source: The input; for a language model a prompt.
            target: The text that is written; None for the model's best output.
            position: The token whose state is looked for, as in `Neighbor.position`; -1 is the
                last.
            number: Examples at most.

        Raises:
            InputError: If the source is over-long or there is no such position.
        """
        source_ids = source_ids_of(self._model, source)
        target_ids = target_ids_of(self._model, source, target)
        (states,) = self._states.read([(source_ids, target_ids)])
        if not -len(states) <= position < len(states):
            raise InputError(
                f"`position` must be from {-len(states)} to {len(states) - 1}: the text has "
                f"{len(states)} tokens. Received: {shorten(position)}."
            )
        if not isinstance(number, int) or number < 1:
            raise InputError(f"`number` must be 1 or more. Received: {shorten(number)}.")
        wanted = states[position : position + 1 or None].astype(np.float32)
        distances, rows = self._search.kneighbors(wanted, n_neighbors=len(self._places))
        found: dict[int, Neighbor] = {}
        for distance, row in zip(distances[0].tolist(), rows[0].tolist(), strict=True):
            example, place = self._places[row].tolist()
            if example not in found:
                found[example] = self._neighbor(example, place, distance)
                if len(found) == number:
                    break
        return tuple(found.values())

    def _neighbor(self, example: int, place: int, distance: float) -> Neighbor:
        line, source, target = self._examples[example]
        tokens = self._states.tokens(*self._ids(source, target))
        return Neighbor(max(distance, 0.0), line, source, target, place, tokens[place])

    def _ids(self, source: str, target: str) -> tuple[list[int], list[int]]:
        """Returns the ids of an example as the model reads and writes them."""
        model = self._model
        return model.source_tokenizer.encode([source])[0], [
            *model.tokenizer.encode([target])[0],
            model.scorer.ends_with,
        ]

    def _load(
        self, pairs: Iterable[tuple[str, str]] | None, max_lines: int
    ) -> tuple[list[_Example], np.ndarray, np.ndarray]:
        """Returns the examples, their states `(states, dim)` and the place of each state.

        They are those of the cache if it has them.
        """
        given = None if pairs is None else list(pairs)
        if given is not None and not all(map(_is_pair, given)):
            raise InputError("`pairs` must be pairs of texts: a source and a target each.")
        weights = b"".join(weight.tobytes() for weight in self._model.model.get_weights())
        key = {
            "weights": digest(weights),
            "tokenizers": [
                digest(one.model_proto)
                for one in (self._model.source_tokenizer, self._model.tokenizer)
            ],
            "state": self._states.kind,
            "texts": self._describe_texts(given),
            "max_lines": max_lines,
        }
        path = cache_folder() / f"states-{digest(json.dumps(key).encode())[:32]}.npz"
        if (data := read_cached(path)) is not None:
            arrays = np.load(io.BytesIO(data), allow_pickle=False)
            rows = json.loads(arrays["examples"].tobytes())
            return [_Example(*row) for row in rows], arrays["states"], arrays["places"]
        examples, states, places = self._build(given, max_lines)
        buffer = io.BytesIO()
        rows = np.frombuffer(json.dumps(examples).encode(), np.uint8)
        np.savez(buffer, states=states, places=places, examples=rows)
        write_cached(path, buffer.getvalue(), "The index of training examples")
        return examples, states, places

    def _describe_texts(self, given: list[tuple[str, str]] | None) -> Any:
        """Returns what the texts depend on, fit for JSON."""
        if given is not None:
            return digest(json.dumps(given).encode())
        digests = FileDigests()
        try:
            return [describe_corpus(one, digests) for one in self._model.config.data.train]
        except DataError as error:
            raise DataError(
                f"The training data of this model cannot be read. {error} Pass texts as `pairs`."
            ) from error

    def _build(
        self, given: list[tuple[str, str]] | None, max_lines: int
    ) -> tuple[list[_Example], np.ndarray, np.ndarray]:
        """Returns what `_load` does, computed.

        Raises:
            InputError: If there is no text.
        """
        examples, rows = [], []
        num_states = num_long = num_beyond = 0
        for example in _draw(self._texts(given), max_lines):
            ids = self._ids(example.source, example.target)
            count = len(self._states.tokens(*ids))
            if max(map(len, ids)) > _MOST_TOKENS:
                num_long += 1
            elif num_states + count > _MOST_STATES:
                num_beyond += 1
            else:
                examples.append(example)
                rows.append(ids)
                num_states += count
        if not examples:
            raise InputError(
                f"Expected at least one text of at most {_MOST_TOKENS} tokens. Received: none."
            )
        _logger.info(
            "Computing %s states of %s training examples (left out: %s with more than %s tokens, "
            "%s beyond %s states).",
            *(f"{n:,}" for n in (num_states, len(rows), num_long, _MOST_TOKENS)),
            *(f"{n:,}" for n in (num_beyond, _MOST_STATES)),
        )
        states = list(self._states.read(rows))
        places = [(n, place) for n, part in enumerate(states) for place in range(len(part))]
        return examples, np.concatenate(states), np.array(places, np.int32)

    def _texts(self, given: list[tuple[str, str]] | None) -> Iterator[_Example]:
        """Yields all texts that are not empty."""
        if given is not None:
            pairs: Iterable[_Example] = (_Example(n, *pair) for n, pair in enumerate(given, 1))
        else:
            corpora = self._model.config.data.train
            pairs = (_Example(*pair) for corpus in corpora for pair in read_corpus(corpus))
        return (pair for pair in pairs if pair.target.strip())


class _StateReader:
    """Computes a state of a network for each token of some texts.

    Args:
        model: The model.
        kind: Which state.

    Raises:
        InputError: If the network has no such state.
    """

    def __init__(self, model: TextModel, kind: StateKind) -> None:
        self.kind = kind
        self._model = model
        network = model.model
        if isinstance(network, LanguageModel):
            if kind != "decoder":
                raise InputError(
                    f"A language model has the states of a decoder only. Received: state={kind!r}."
                )
        elif kind == "context" and network.attention == "none":
            raise InputError("A model without attention has no contexts. Use state='decoder'.")
        ids = tf.TensorSpec([None, None], tf.int32)
        self._compute = tf.function(
            self._trace, input_signature=[ids, ids], autograph=False
        ).get_concrete_function()

    def tokens(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> list[str]:
        """Returns the token of each state."""
        if self.kind == "encoder":
            return [self._model.source_tokenizer.pieces[i] for i in (*source_ids, EOS_ID)]
        reads_prompt = isinstance(self._model.model, LanguageModel)
        ids = [*source_ids, *target_ids] if reads_prompt else target_ids
        return [self._model.tokenizer.pieces[i] for i in ids]

    def read(self, rows: Sequence[tuple[list[int], list[int]]]) -> Iterator[np.ndarray]:
        """Yields the states of each row of source and target ids, float16 `(tokens, dim)`."""
        for first in range(0, len(rows), _LINES_AT_ONCE):
            chunk = rows[first : first + _LINES_AT_ONCE]
            if isinstance(self._model.model, LanguageModel):
                chunk = [([], [*source, *target]) for source, target in chunk]
            sources = _pad([[*source, EOS_ID] for source, _ in chunk])
            inputs = _pad([[BOS_ID, *target[:-1]] for _, target in chunk])
            states = self._compute(sources, inputs).numpy()
            for (source, target), of_row in zip(chunk, states, strict=True):
                count = len(source) + 1 if self.kind == "encoder" else len(target)
                yield of_row[:count].astype(np.float16)

    def _trace(self, source_ids: tf.Tensor, decoder_input_ids: tf.Tensor) -> tf.Tensor:
        network = self._model.model
        calls: dict[int, LayerCall] = {}
        with observe_layers(lambda call: calls.update({id(call.layer): call})):
            if isinstance(network, LanguageModel):
                network.decoder_outputs({"decoder_input_ids": decoder_input_ids})
            else:
                memory, states = network.encode(source_ids)
                if self.kind == "encoder":
                    return memory.values
                embedded = network.embedding(decoder_input_ids)
                weights = network.decoder(embedded, memory, initial_state=states)[1]
                if self.kind == "context":
                    return tf.matmul(weights, memory.values)
        *_, last = lstm_layers(network).values()
        return calls[id(last)].outputs[0]


def _draw(examples: Iterable[_Example], number: int) -> list[_Example]:
    """Returns examples drawn evenly, in their order, in one pass over them all.

    Reference: Vitter, 1985, algorithm R, https://doi.org/10.1145/3147.3165
    """
    draws = random.Random(0)  # noqa: S311  # Nothing is kept secret by them.
    kept: list[tuple[int, _Example]] = []
    for place, example in enumerate(examples):
        if place < number:
            kept.append((place, example))
        elif (chosen := draws.randrange(place + 1)) < number:
            kept[chosen] = (place, example)
    return [example for _, example in sorted(kept, key=lambda pair: pair[0])]


def _pad(rows: Sequence[Sequence[int]]) -> tf.Tensor:
    """Returns ids, right-padded, int32 `(rows, time)`."""
    return tf.keras.utils.pad_sequences(rows, padding="post", value=PAD_ID, dtype="int32")


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return all(isinstance(text, str) for text in pair)


def import_scikit_learn(name: str) -> Any:
    """Returns a module of scikit-learn.

    Args:
        name: Its name within the package.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError as error:
        raise InputError(
            "Indexes of training examples and probes need scikit-learn, which is not installed. "
            "Install it: pip install 'seq2seq_kit[insight]'."
        ) from error
