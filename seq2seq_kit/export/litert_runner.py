"""Runs a model that `s2s export --format litert` wrote: text in, text out, without TensorFlow.

The export has a copy of this file, `run.py`. A machine needs that folder and three packages:

    pip install ai-edge-litert sentencepiece numpy
    python run.py < in.txt > out.txt

In Python, `Model(folder).generate(text)` does the same. One line is decoded at a time. Outputs are
those of `s2s generate` with the same options; float arithmetic differs in the last bits, so that a
choice between two equally good tokens may fall otherwise.
"""

import argparse
import bisect
import functools
import hashlib
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
from ai_edge_litert.interpreter import Interpreter

PAD, UNK, BOS, EOS = 0, 1, 2, 3

MINUS_INFINITY = np.float32(-1e9)
"""The logit of a forbidden token: finite, because -inf times 0 is NaN."""

_FORMAT_VERSION = 1
_BLOCK = 64  # Columns whose largest value is compared first; sorting all of them takes much longer.
_TOKENS_AT_ONCE = 256  # Of a prompt: memory does not grow with it.
_MAX_PERIOD = 512  # Tokens of the longest stretch whose repetition is noticed.
_SPACE = "\u2581".encode()


class RunnerError(Exception):
    """What a user can do something about."""


class Hypothesis(NamedTuple):
    """One generated text."""

    text: str
    """The text; for a continuation, without its prompt."""
    token_ids: tuple[int, ...]
    """Its tokens, EOS included unless it was cut; those of a continuation may begin with some that
    spell the end of the prompt again."""
    log_prob: float
    """Summed over the generated tokens, in nats."""
    score: float
    """The log-probability under the length penalty, by which a beam ranks."""
    is_cut: bool = False
    """Whether `max_length` cut it."""


class Vocabulary:
    """Texts to token ids and back.

    Args:
        path: The SentencePiece model.
        rules: The steps by which texts change before encoding (`prepare`) and after decoding
            (`restore`).
    """

    def __init__(self, path: Path, rules: dict[str, Any]) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.prepare = rewriter(rules["prepare"])
        self._restore = rewriter(rules["restore"])

    def encode(self, prepared: str) -> list[int]:
        """Returns the ids of a text that `prepare` returned."""
        ids: list[int] = self._processor.encode(prepared)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids; special tokens add none."""
        return self._restore(self._processor.decode(list(ids)))

    @functools.cached_property
    def surfaces(self) -> list[bytes]:
        """What each token adds to a text: UTF-8, U+2581 for a space; nothing for special tokens."""
        processor, ids = self._processor, range(self._processor.get_piece_size())
        return [
            bytes([int(piece[1:-1], 16)]) if is_byte else b"" if is_special else piece.encode()
            for piece, is_byte, is_special in (
                (
                    processor.id_to_piece(i),
                    processor.is_byte(i),
                    processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i),
                )
                for i in ids
            )
        ]


def rewriter(steps: Sequence[Sequence[Any]]) -> Callable[[str], str]:
    """Returns what applies steps to a text, in their order.

    Args:
        steps: Of these kinds: "replace", a pattern, its replacement; "translate", a table from code
            points to texts; "normalize", a Unicode form.
    """

    def as_function(kind: str, *values: Any) -> Callable[[str], str]:
        if kind == "replace":
            return functools.partial(re.compile(values[0]).sub, values[1])
        if kind == "translate":
            table = {int(code): text for code, text in values[0].items()}
            return lambda text: text.translate(table)
        if kind == "normalize":
            return functools.partial(unicodedata.normalize, values[0])
        raise RunnerError(f"Expected a step for texts. Received: {kind!r}. Export the run again.")

    functions = [as_function(*step) for step in steps]
    return lambda text: functools.reduce(lambda value, function: function(value), functions, text)


class Network:
    """The two models of an export: one reads an input, the other writes token by token.

    Args:
        folder: The export.
    """

    def __init__(self, folder: Path) -> None:
        with _without_notices():
            self._reader = _load(folder / "encoder.tflite")
            self._writer = _load(folder / "decoder.tflite")
        self._reader_inputs = _inputs(self._reader)
        self._writer_inputs = _inputs(self._writer)
        self._state_names = sorted(name for name in self._writer_inputs if name.startswith("state"))
        self._memory_names = sorted(
            name for name in self._writer_inputs if name.startswith("memory")
        )
        self._outputs = [detail["index"] for detail in self._writer.get_output_details()]
        self._rows = 0
        self._memory: list[np.ndarray] = []

    def encode(self, token_ids: Sequence[int]) -> list[np.ndarray]:
        """Reads a source, EOS included; returns the decoder's first state and keeps the memory."""
        outputs = self._read(token_ids, [])
        number = len(self._state_names)
        self._memory, self._rows = outputs[number:], 0
        return outputs[:number]

    def read(self, token_ids: Sequence[int]) -> list[np.ndarray]:
        """Reads tokens from the zero state on; returns the state of the language model after them.

        It has a leading axis of 1, float32 `(1, units)` for each part.
        """
        shapes = [self._writer_inputs[name]["shape_signature"] for name in self._state_names]
        state = [np.zeros((1, shape[-1]), np.float32) for shape in shapes]
        for first in range(0, len(token_ids), _TOKENS_AT_ONCE):
            state = self._read(token_ids[first : first + _TOKENS_AT_ONCE], state)
        return state

    def step(
        self, token_ids: np.ndarray, state: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Feeds one token to each row.

        Args:
            token_ids: int32 `(rows,)`.
            state: float32 `(rows, units)` for each part.

        Returns:
            The logits, float32 `(rows, vocab_size)`, and the next state.
        """
        inputs = dict(zip(self._state_names, state, strict=True), token_ids=token_ids)
        if self._rows != len(token_ids):
            memory = dict(zip(self._memory_names, self._memory, strict=True))
            _resize(self._writer, self._writer_inputs, inputs | memory)
            inputs |= memory  # It stays there until the next resize.
            self._rows = len(token_ids)
        for name, value in inputs.items():
            self._writer.set_tensor(self._writer_inputs[name]["index"], value)
        self._writer.invoke()
        logits, *state = map(self._writer.get_tensor, self._outputs)
        return logits, state

    def _read(self, token_ids: Sequence[int], state: Sequence[np.ndarray]) -> list[np.ndarray]:
        inputs = {f"state_{place:02}": part for place, part in enumerate(state)}
        inputs["token_ids"] = np.array([token_ids], np.int32)
        _resize(self._reader, self._reader_inputs, inputs)
        for name, value in inputs.items():
            self._reader.set_tensor(self._reader_inputs[name]["index"], value)
        self._reader.invoke()
        return [self._reader.get_tensor(one["index"]) for one in self._reader.get_output_details()]


def _load(path: Path) -> Interpreter:
    try:
        # A line is too little work to divide.
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise RunnerError(f"{path} cannot be loaded ({error}). {_RESTORE}") from error
    return interpreter


def _inputs(interpreter: Interpreter) -> dict[str, Any]:
    """Returns the details of each input by its name."""
    details = interpreter.get_input_details()
    return {re.sub(r"^serving_default_|:\d+$", "", one["name"]): one for one in details}


def _resize(
    interpreter: Interpreter, inputs: dict[str, Any], values: dict[str, np.ndarray]
) -> None:
    for name, value in values.items():
        interpreter.resize_tensor_input(inputs[name]["index"], value.shape)
    interpreter.allocate_tensors()


@contextmanager
def _without_notices() -> Iterator[None]:
    """Hides what LiteRT says about itself on file descriptor 2, which no setting turns off."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # It is closed.
        yield
        return
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Options(NamedTuple):
    """The options of a search: fields of the package's `DecodingConfig`, explained there."""

    beam_size: int
    length_penalty: float
    max_length: int
    min_length: int
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    repetition_penalty: float
    no_repeat_ngram: int
    max_loop_characters: int


class Found(NamedTuple):
    """What a search found: one hypothesis."""

    token_ids: list[int]
    log_prob: float
    score: float
    is_cut: bool


def normalize_log_probs(log_probs: Any, lengths: Any, length_penalty: float) -> Any:
    """Returns `log_prob / ((5 + length) / 6) ** length_penalty`, float32.

    Reference: Wu et al., 2016, equation 14, https://arxiv.org/abs/1609.08144
    """
    grown = np.float32((5.0 + np.asarray(lengths, np.float32)) / np.float32(6.0))
    return np.float32(log_probs / grown ** np.float32(length_penalty))


def _log_normalizer(logits: np.ndarray) -> np.ndarray:
    largest = logits.max(axis=1)
    return np.asarray(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))


class Processors:
    """Changes the logits of the next token: forbids tokens, or makes them less likely.

    Args:
        options: The options of the search.
        surfaces: Gives what each token adds to a text.
        rows: Hypotheses.
    """

    def __init__(self, options: Options, surfaces: Callable[[], list[bytes]], rows: int) -> None:
        self._options = options
        self.rescales = options.repetition_penalty != 1.0
        if options.max_loop_characters:
            self._characters = _count_characters(surfaces())
            longest = min(options.max_length, _MAX_PERIOD)
            # For each period, characters at the end of a hypothesis that equal, token by token,
            # what is one period before them.
            self._repeated = np.zeros((rows, longest), np.int32)

    def __call__(self, logits: np.ndarray, token_ids: np.ndarray, time: int) -> np.ndarray:
        """Returns changed logits.

        Args:
            logits: float32 `(rows, vocab_size)`.
            token_ids: int32 `(rows, max_length + 1)`. The hypotheses so far.
            time: Their tokens.
        """
        options, logits = self._options, logits.copy()
        if self.rescales:
            _penalize(logits, token_ids[:, :time], np.float32(options.repetition_penalty))
        logits[:, [PAD, UNK, BOS]] += MINUS_INFINITY
        if time < options.min_length:
            logits[:, EOS] += MINUS_INFINITY
        if options.no_repeat_ngram:
            _forbid_ngrams(logits, token_ids[:, :time], options.no_repeat_ngram)
        if options.max_loop_characters and time:
            self._forbid_loops(logits, token_ids, time)
        return logits

    def reorder(self, rows: np.ndarray) -> None:
        """Goes on with other hypotheses: those of the given rows, int `(rows,)`."""
        if self._options.max_loop_characters:
            self._repeated = self._repeated[rows]

    def _forbid_loops(self, logits: np.ndarray, token_ids: np.ndarray, time: int) -> None:
        """Forbids tokens by which a stretch would be repeated back to back too often.

        It may be repeated once, and its beginning once more; otherwise what is repeated must stay
        below `max_loop_characters`.
        """
        number, most = min(time, self._repeated.shape[1]), self._options.max_loop_characters
        period = np.arange(1, number + 1)
        # Column p - 1 has the token p places before the next one.
        backwards = token_ids[:, np.maximum(time - 1 - np.arange(number + 1), 0)]
        characters = self._characters[backwards]
        is_repeat = (backwards[:, :1] == backwards[:, 1:]) & (period < time)
        repeated = np.where(is_repeat, self._repeated[:, :number] + characters[:, :1], 0)
        self._repeated[:, :number] = repeated
        stretch = np.cumsum(characters[:, :-1], axis=1)
        limit = np.maximum(stretch + np.minimum(stretch, most), most)
        rows, columns = np.nonzero(repeated + characters[:, :-1] >= limit)
        forbidden = rows, backwards[rows, columns]
        logits[forbidden] = np.minimum(logits[forbidden], MINUS_INFINITY)


def _penalize(logits: np.ndarray, token_ids: np.ndarray, penalty: np.float32) -> None:
    """Makes tokens that hypotheses contain less likely (Keskar et al., 2019, section 4.1)."""
    for row, ids in zip(logits, token_ids, strict=True):
        used = np.unique(ids)
        old = row[used]
        new = np.where(old > 0, old / penalty, old * penalty)
        # What is forbidden already stays so.
        row[used] = np.maximum(new, np.minimum(old, MINUS_INFINITY))


def _forbid_ngrams(logits: np.ndarray, token_ids: np.ndarray, ngram: int) -> None:
    """Forbids tokens that would make a hypothesis contain an n-gram twice."""
    for row, ids in zip(logits, token_ids.tolist(), strict=True):
        last = ids[len(ids) - ngram + 1 :]
        starts = range(len(ids) - ngram + 1)
        row[[ids[n + ngram - 1] for n in starts if ids[n : n + ngram - 1] == last]] = MINUS_INFINITY


def _count_characters(surfaces: Sequence[bytes]) -> np.ndarray:
    """Returns the characters that each token adds; a wide one, from U+3000 on, counts as two."""
    width = [0 if byte & 0b11000000 == 0b10000000 else 1 + (byte >= 0xE3) for byte in range(256)]
    return np.array([sum(map(width.__getitem__, surface)) for surface in surfaces], np.int32)


class Stepper:
    """The network as a search sees it: tokens in, logits out; and the processors of the logits.

    Args:
        network: The network.
        state: The decoder's state, `(1, units)` for each part.
        rows: Hypotheses, which all begin with it.
        processors: Change the logits.
        first_allowed: bool `(vocab_size,)`. The tokens that may come first; None for all.
    """

    def __init__(
        self,
        network: Network,
        state: Sequence[np.ndarray],
        rows: int,
        processors: Processors,
        first_allowed: np.ndarray | None = None,
    ) -> None:
        self._network = network
        self._state = [np.repeat(part, rows, axis=0) for part in state]
        self._processors = processors
        self._first_allowed = first_allowed
        self.rescales = processors.rescales

    def step(
        self, fed: np.ndarray, token_ids: np.ndarray, time: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits of the network and those that the processors made of them.

        Args:
            fed: int32 `(rows,)`. The tokens to feed.
            token_ids: As for `Processors`.
            time: As for `Processors`.
        """
        logits, self._state = self._network.step(fed, self._state)
        if self._first_allowed is not None:
            logits = np.where(self._first_allowed, logits, MINUS_INFINITY)
            self._first_allowed = None
        return logits, self._processors(logits, token_ids, time)

    def reorder(self, rows: np.ndarray) -> None:
        """Goes on with the states of the given rows."""
        self._state = [part[rows] for part in self._state]
        self._processors.reorder(rows)


def take_single_tokens(
    stepper: Stepper,
    first: int,
    rows: int,
    options: Options,
    choose: Callable[[np.ndarray, int], np.ndarray],
    *,
    close_at_limit: bool,
) -> list[Found]:
    """Chooses a token for each row at each step, until EOS or `max_length` tokens.

    Args:
        stepper: The network.
        first: The token to feed first.
        rows: Hypotheses.
        options: The options.
        choose: Returns a token for each row of logits, int `(rows,)`, at a position from 0 on.
        close_at_limit: Whether the log-probability of EOS counts for a hypothesis that is cut.
    """
    token_ids = np.full((rows, options.max_length + 1), PAD, np.int32)
    lengths, ended = np.zeros(rows, np.int32), np.zeros(rows, bool)
    log_probs = ranked = np.zeros(rows, np.float32)
    is_cut = np.zeros(rows, bool)
    fed, place = np.full(rows, first, np.int32), np.arange(rows)
    for time in range(options.max_length + 1):
        model_logits, logits = stepper.step(fed, token_ids, time)
        token = choose(logits, time)
        token = np.where(logits.max(axis=1) > MINUS_INFINITY / 2, token, EOS)
        cut = ~ended & (token != EOS) & (time >= options.max_length)
        taken = ~ended & ~cut
        normalizer = _log_normalizer(model_logits)
        counted = taken | cut if close_at_limit else taken
        closing = model_logits[:, EOS] - normalizer
        gains = [
            np.where(cut, closing, of[place, token] - normalizer) for of in (model_logits, logits)
        ]
        log_probs = log_probs + np.where(counted, gains[0], np.float32(0))
        if stepper.rescales:
            ranked = ranked + np.where(counted, gains[1], np.float32(0))
        token_ids[:, time] = np.where(taken, token, PAD)
        lengths, is_cut = lengths + taken, is_cut | cut
        ended = ended | (token == EOS)
        fed = token.astype(np.int32)
        if ended.all():
            break
    scores = normalize_log_probs(
        ranked if stepper.rescales else log_probs,
        lengths + is_cut if close_at_limit else lengths,
        options.length_penalty,
    )
    return [
        Found(token_ids[row, : lengths[row]].tolist(), *values)
        for row, *values in zip(
            range(rows), log_probs.tolist(), scores.tolist(), is_cut.tolist(), strict=True
        )
    ]


class _Candidates(NamedTuple):
    """Hypotheses with one more token; arrays `(candidates,)`."""

    parents: np.ndarray  # int: the place in the beam of what they extend
    last_ids: np.ndarray  # int: their last token
    ranked: np.ndarray  # float32; MINUS_INFINITY: an empty place
    log_probs: np.ndarray  # float32: before processors that rescale
    is_cut: np.ndarray  # bool: whether EOS is no token of theirs


class BeamSearch:
    """Keeps the `beam_size` likeliest beginnings at each step.

    Of all continuations, the best `beam_size` are examined: those that end with EOS are finished,
    and the best others live on. The one that greedy search would take is always among them, so that
    the best hypothesis never scores lower than greedy search's. The search ends once `beam_size`
    hypotheses are finished, the greedy one among them unless it can no longer win, or when no
    hypothesis that goes on can win, even if each further token had the probability 1.

    Args:
        stepper: The network, with `beam_size` rows.
        first: The token to feed first.
        options: The options.
        close_at_limit: As for `take_single_tokens`.
        num_hypotheses: Hypotheses returned.
    """

    def __init__(
        self,
        stepper: Stepper,
        first: int,
        options: Options,
        *,
        close_at_limit: bool,
        num_hypotheses: int,
    ) -> None:
        self._stepper = stepper
        self._options = options
        self._close_at_limit = close_at_limit
        self._number = num_hypotheses
        beam = options.beam_size
        self._time = 0
        self._fed = np.full(beam, first, np.int32)
        self._token_ids = np.full((beam, options.max_length + 1), PAD, np.int32)
        # All rows begin alike: only the first may have successors.
        self._ranked = np.full(beam, MINUS_INFINITY)
        self._ranked[0] = 0
        self._log_probs = self._ranked
        self._greedy_lives = True  # In the first place of the beam.
        self._finished: list[Found] = []  # The best, at most `beam_size`.
        self._num_finished = 0
        self._blocks = np.zeros((beam, 0), np.float32)

    def run(self) -> list[Found]:
        """Returns the best hypotheses; where few tokens are allowed, empty ones are among them."""
        while self._time <= self._options.max_length:
            model_logits, logits = self._stepper.step(self._fed, self._token_ids, self._time)
            candidates = self._candidates(model_logits, logits)
            self._finish(candidates)
            self._go_on(candidates)
            self._time += 1
            if self._is_done():
                break
        empty = Found([], float(MINUS_INFINITY), float(MINUS_INFINITY), False)
        return (self._finished + [empty] * self._number)[: self._number]

    def _candidates(self, model_logits: np.ndarray, logits: np.ndarray) -> _Candidates:
        """Returns the hypotheses with one more token; the greedy one is the last of them."""
        normalizer = _log_normalizer(model_logits)
        if self._time >= self._options.max_length:
            return self._close(model_logits[:, EOS] - normalizer, logits)
        parents, last_ids, ranked = self._best(logits, normalizer)
        column = int(logits[0].argmax())
        greedy = MINUS_INFINITY
        if self._greedy_lives:
            greedy = self._ranked[0] + (logits[0, column] - normalizer[0])
        if greedy > MINUS_INFINITY / 2:  # It is listed once.
            ranked[(parents == 0) & (last_ids == column)] = MINUS_INFINITY
        parents, last_ids = np.append(parents, 0), np.append(last_ids, column)
        ranked = log_probs = np.append(ranked, greedy)
        if self._stepper.rescales:
            gains = model_logits[parents, last_ids] - normalizer[parents]
            exist = ranked > MINUS_INFINITY / 2
            log_probs = np.where(exist, self._log_probs[parents] + gains, MINUS_INFINITY)
        return _Candidates(parents, last_ids, ranked, log_probs, np.zeros(len(parents), bool))

    def _best(
        self, logits: np.ndarray, normalizer: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the best `2 * beam_size` continuations, the best first.

        At most `beam_size` of them end with EOS, one for each parent, so as many others are left.

        Returns:
            Their places in the beam, their tokens, and what they are ranked by.
        """
        beam, columns = logits.shape
        padded = -(-columns // _BLOCK) * _BLOCK
        if self._blocks.shape[1] != padded:
            self._blocks = np.full((beam, padded), -np.inf, np.float32)
        off = normalizer[:, None]
        np.add(self._ranked[:, None], logits - off, out=self._blocks[:, :columns])
        blocks = self._blocks.reshape(-1, _BLOCK)
        count = 2 * beam
        chosen = _largest(blocks.max(axis=1), count)
        inside = blocks[chosen].ravel()
        best = _largest(inside, count)
        flat = chosen[best // _BLOCK] * _BLOCK + best % _BLOCK
        return flat // padded, flat % padded, inside[best]

    def _close(self, eos: np.ndarray, logits: np.ndarray) -> _Candidates:
        """Returns each hypothesis with EOS, after which none may go on.

        Args:
            eos: float32 `(beam,)`. The log-probability of EOS.
            logits: float32 `(beam, vocab_size)`.
        """
        beam = self._options.beam_size
        is_cut = logits[:, EOS] < logits.max(axis=1)
        if not self._close_at_limit:
            eos = np.where(is_cut, np.float32(0), eos)
        # As many as there are otherwise, the last one for greedy search.
        nothing = np.full(beam + 1, MINUS_INFINITY)
        none = np.zeros(beam + 1, int)
        return _Candidates(
            np.append(np.arange(beam), none),
            np.full(2 * beam + 1, EOS),
            np.append(self._ranked + eos, nothing),
            np.append(self._log_probs + eos, nothing),
            np.append(is_cut, none.astype(bool)),
        )

    def _finish(self, candidates: _Candidates) -> None:
        """Keeps the best of the hypotheses that finished before and those that end now."""
        beam, penalty, time = self._options.beam_size, self._options.length_penalty, self._time
        for place in (*range(beam), 2 * beam):
            ranked = candidates.ranked[place]
            if candidates.last_ids[place] != EOS or ranked <= MINUS_INFINITY / 2:
                continue
            is_cut = bool(candidates.is_cut[place])
            length = time if is_cut and not self._close_at_limit else time + 1
            ids = self._token_ids[candidates.parents[place], :time].tolist()
            self._finished.append(
                Found(
                    ids if is_cut else [*ids, EOS],
                    float(candidates.log_probs[place]),
                    float(normalize_log_probs(ranked, length, penalty)),
                    is_cut,
                )
            )
            self._num_finished += 1
        self._finished = sorted(self._finished, key=lambda one: -one.score)[:beam]

    def _go_on(self, candidates: _Candidates) -> None:
        """Keeps the best hypotheses that have not ended, the greedy one first."""
        ranked = np.where(candidates.last_ids == EOS, MINUS_INFINITY, candidates.ranked)
        self._greedy_lives = bool(ranked[-1] > MINUS_INFINITY / 2)
        order = ranked.copy()
        order[-1] = np.inf if self._greedy_lives else MINUS_INFINITY
        chosen = np.argsort(-order, kind="stable")[: self._options.beam_size]
        parents = candidates.parents[chosen]
        self._fed = candidates.last_ids[chosen].astype(np.int32)
        self._ranked, self._log_probs = ranked[chosen], candidates.log_probs[chosen]
        self._token_ids = self._token_ids[parents]
        self._token_ids[:, self._time] = self._fed
        self._stepper.reorder(parents)

    def _is_done(self) -> bool:
        """Returns whether no hypothesis has to be followed further."""
        options = self._options
        # What a hypothesis scores at most: each further token has the probability 1.
        bounds = normalize_log_probs(self._ranked, options.max_length + 1, options.length_penalty)
        scores = [one.score for one in self._finished]
        scores += [float(MINUS_INFINITY)] * self._number
        greedy_can_win = self._greedy_lives and bounds[0] > scores[0]
        if scores[self._number - 1] >= bounds.max():
            return True
        return self._num_finished >= options.beam_size and not greedy_can_win


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of the largest values, the largest first; of equal ones, the first."""
    if len(values) > 4 * count:
        places = np.sort(np.argpartition(-values, count - 1)[:count])
        return places[np.argsort(-values[places], kind="stable")]
    return np.argsort(-values, kind="stable")[:count]


_MAX_TOKENS, _MAX_BYTES = 24, 64  # What is taken back of a prompt at most.
_WORD_BYTES = 32  # A longer word is taken back from where a longer token could begin.
_WAYS = 4  # Ways to spell the prompt's end that are followed at once.


class _PromptEnd(NamedTuple):
    """The end of a prompt, which is taken back."""

    num_tokens: int
    spelling: bytes  # of these tokens, and of a space that the tokenizer dropped
    left_after: list[int]  # bytes left after 0, 1, ... of the tokens


class _Way(NamedTuple):
    """Tokens that spell the end of a prompt, or its beginning so far."""

    log_prob: float
    left: int  # bytes still to spell
    token_ids: tuple[int, ...]
    is_given: bool  # whether these are the prompt's own tokens


class _Healed(NamedTuple):
    """The start of a search after a prompt's end was spelled again."""

    first_id: int  # the token to feed first
    state: list[np.ndarray]  # before it
    first_allowed: np.ndarray | None  # bool (vocab_size,): the tokens that may follow it; None: all
    token_ids: tuple[int, ...]  # the tokens that spell the end again


class Healer:
    """Takes the end of a prompt back and spells it again, with what follows in mind.

    The text that goes on may have other tokens than the prompt alone: `an ` is two tokens, `an
    apple` two others. So the last tokens are taken back, as far as they could have been cut
    differently, and the search begins with the likeliest tokens that spell the same bytes, or all
    but the last bytes and then a token that goes on beyond them.

    Args:
        surfaces: What each token adds to a text.
    """

    def __init__(self, surfaces: Sequence[bytes]) -> None:
        self._surfaces = [surface[:_MAX_BYTES] for surface in surfaces]
        # Of two tokens that add the same, a tokenizer takes the piece, whose id is higher.
        self._owner = {surface: i for i, surface in enumerate(self._surfaces) if surface}
        self._order = sorted(self._owner)
        self._longest = max(1, *map(len, self._surfaces))

    def take_back(self, token_ids: Sequence[int], *, lost_space: bool) -> _PromptEnd:
        """Returns what is taken back of a prompt.

        Args:
            token_ids: The tokens; from one without a surface on, such as an unknown one, what comes
                before is kept.
            lost_space: Whether the text ends with a space that has no token.
        """
        gap = b""
        if lost_space and token_ids and len(self._beyond(_SPACE)):
            gap = _SPACE
        spelling, ends = gap, [len(gap)]
        for token in reversed(token_ids[-_MAX_TOKENS:]):
            if not self._surfaces[token]:
                break
            spelling = self._surfaces[token] + spelling
            ends.append(len(spelling))
        spelling, whole = spelling[-_MAX_BYTES:] if spelling else b"", len(spelling)
        could_go_on = [
            left
            for left in range(1, min(len(spelling), self._longest) + 1)
            if len(self._beyond(spelling[-left:]))
        ]
        reach = max(could_go_on, default=0)
        may_begin = [
            number
            for number, end in enumerate(ends)
            if number and reach and reach <= end <= _MAX_BYTES
        ]
        words = [
            number
            for number in may_begin
            if ends[number] <= max(reach, _WORD_BYTES)
            and self._begins_word(spelling, ends[number], whole)
        ]
        num_tokens = min(words or may_begin, default=0)
        left_after = ends[num_tokens::-1]
        return _PromptEnd(num_tokens, spelling[len(spelling) - left_after[0] :], left_after)

    def _begins_word(self, spelling: bytes, left: int, whole: int) -> bool:
        """Returns whether a word begins where a number of bytes is left.

        Args:
            spelling: The last bytes of a text, `_MAX_BYTES` at most.
            left: The number.
            whole: The bytes before they were limited.
        """
        start = len(spelling) - left
        if spelling[start : start + len(_SPACE)] == _SPACE:
            return True
        # Of what is before the limit nothing is known: the package looks at the first byte instead.
        if left == whole < _MAX_BYTES:
            return True
        return spelling[max(start - 1, 0)] == ord("\n")

    def _beyond(self, beginning: bytes) -> range:
        """Returns the ranks of the tokens that begin with some bytes and go on beyond them."""
        first = bisect.bisect_left(self._order, beginning)
        first += first < len(self._order) and self._order[first] == beginning
        return range(first, bisect.bisect_right(self._order, beginning + b"\xff" * _MAX_BYTES))

    def _allowed(self, beginning: bytes) -> np.ndarray:
        """Returns the tokens of `_beyond`, bool `(vocab_size,)`."""
        allowed = np.zeros(len(self._surfaces), bool)
        allowed[[self._owner[self._order[rank]] for rank in self._beyond(beginning)]] = True
        return allowed

    def spell_again(
        self, network: Network, first: int, state: list[np.ndarray], end: _PromptEnd
    ) -> _Healed:
        """Returns the likeliest way to spell what was taken back, as the start of a search.

        A way spells all bytes, or some, and then a token follows that goes on beyond the rest. Its
        log-probability is that of its tokens, the likeliest such token included. The prompt's own
        tokens are always among the ways that are followed.

        Args:
            network: The network.
            first: The token to feed after those that were kept.
            state: The state before it.
            end: What was taken back.
        """
        best, best_score = _Healed(first, state, None, ()), -math.inf
        spelling = end.spelling
        ways = [_Way(0.0, len(spelling), (), True)] if spelling else []
        for time in range(_MAX_TOKENS + 1):
            if not ways:
                break
            fed = [way.token_ids[-1] if way.token_ids else first for way in ways]
            logits, next_state = network.step(np.array(fed, np.int32), state)
            log_probs = logits - _log_normalizer(logits)[:, None]
            for row, way in enumerate(ways):
                score, allowed = way.log_prob, None
                if way.left:
                    allowed = self._allowed(spelling[-way.left :])
                    score += float(log_probs[row, allowed].max(initial=-math.inf))
                if score > best_score:
                    before = [part[row : row + 1] for part in state]
                    best, best_score = _Healed(fed[row], before, allowed, way.token_ids), score
            given = end.left_after[time + 1] if time + 1 < len(end.left_after) else -1
            longer = [
                (row, way._replace(is_given=way.is_given and way.left == given))
                for row, way in self._extend(ways, log_probs, spelling)
                if way.log_prob > best_score
            ]
            longer.sort(key=lambda pair: -math.inf if pair[1].is_given else -pair[1].log_prob)
            rows, ways = [row for row, _ in longer[:_WAYS]], [way for _, way in longer[:_WAYS]]
            state = [part[rows] for part in next_state]
        return best

    def _extend(
        self, ways: Sequence[_Way], log_probs: np.ndarray, spelling: bytes
    ) -> Iterator[tuple[int, _Way]]:
        """Yields each way with each token that spells its next bytes, after the row it is from."""
        for row, way in enumerate(ways):
            rest = spelling[len(spelling) - way.left :]
            for length in range(1, len(rest) + 1):
                token = self._owner.get(rest[:length])
                if token is not None:
                    log_prob = way.log_prob + float(log_probs[row, token])
                    token_ids = (*way.token_ids, token)
                    yield row, _Way(log_prob, way.left - length, token_ids, way.is_given)


_WORD, _MASK = 2**32 - 1, 2**64 - 1


def _threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Returns 64 random bits as two words, a pure function of two words and two others.

    It is Threefry-2x32 with 20 rounds (Salmon et al., 2011, https://doi.org/10.1145/2063384.2063405).
    """
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = (counter[0] + keys[0]) & _WORD, (counter[1] + keys[1]) & _WORD
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            first = (first + second) & _WORD
            second = ((second << rotation | second >> (32 - rotation)) & _WORD) ^ first
        first = (first + keys[(group + 1) % 3]) & _WORD
        second = (second + keys[(group + 2) % 3] + group + 1) & _WORD
    return first, second


class Draws:
    """Draws a token for each sample of a line.

    A draw is a function of the text, the seed, the number of the sample and the position.

    Args:
        text: The text that the samples are for.
        options: Seed, temperature and filters.
        number: Samples.
    """

    def __init__(self, text: str, options: Options, number: int) -> None:
        hashed = fingerprint(text.encode()) % 2**62
        line = _threefry((hashed & _WORD, hashed >> 32), (options.seed, 0))
        self._keys = [_threefry(line, (sample, 1)) for sample in range(number)]
        self._options = options

    def choose(self, logits: np.ndarray, position: int) -> np.ndarray:
        """Returns a token for each row of logits, int `(rows,)`."""
        rows = zip(self._keys, logits, strict=True)
        return np.array([self._draw(row, _threefry(key, (position, 0))[0]) for key, row in rows])

    def _draw(self, logits: np.ndarray, word: int) -> int:
        """Inverts the distribution function: filters first, in the order of the options."""
        options, number = self._options, np.float32((word >> 8) * 2.0**-24)
        weights = np.exp((logits - logits.max()) / np.float32(options.temperature))
        has_top_k = 0 < options.top_k < len(weights)
        if not has_top_k and options.top_p == 1.0:
            return _invert(np.where(weights >= np.float32(options.min_p), weights, 0), number)
        order = np.argsort(-weights, kind="stable")
        if has_top_k:
            order = order[: options.top_k]
        weights = weights[order]
        total = weights.sum()
        before = np.concatenate([[np.float32(0)], np.cumsum(weights)[:-1]])
        is_kept = before < np.float32(options.top_p) * total
        is_kept &= weights >= np.float32(options.min_p)
        return int(order[_invert(np.where(is_kept, weights, 0), number)])


def _invert(weights: np.ndarray, number: np.float32) -> int:
    """Returns a place, with probabilities in the ratio of the weights."""
    sums = np.cumsum(weights, dtype=np.float32)
    before = np.concatenate([[np.float32(0)], sums[:-1]])
    # The last place that begins at or before the number; one of weight 0 holds none.
    return int(np.flatnonzero((before <= number * sums[-1]) & (weights > 0))[-1])


_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def fingerprint(data: bytes) -> int:
    """Returns a hash of 64 bits, the same as TensorFlow's `to_hash_bucket_fast` before its modulo.

    It is FarmHash's Fingerprint64 (Pike and Alakuijala, https://github.com/google/farmhash).
    """
    size = len(data)
    if size <= 16:
        return _hash_short(data)
    if size <= 64:
        return _hash_medium(data)
    y = (81 * _K1 + 113) & _MASK
    x, z = (81 * _K2 + _word(data, 0)) & _MASK, _mix(y * _K2 + 113) * _K2 & _MASK
    state = _HashState(x, y, z, (0, 0), (0, 0))
    for at in range(0, (size - 1) // 64 * 64, 64):
        state = _hash_block(data, at, state, _K1, 1)
    mul = (_K1 + ((state.z & 0xFF) << 1)) & _MASK
    first = (state.w[0] + ((size - 1) & 63)) & _MASK
    v = (state.v[0] + first) & _MASK, state.v[1]
    w = (first + v[0]) & _MASK, state.w[1]
    x, y, z, v, w = _hash_block(data, size - 64, state._replace(v=v, w=w), mul, 9)
    mixed = _hash_pair(v[0], w[0], mul) + _mix(y) * _K0 + z
    return _hash_pair(mixed, _hash_pair(v[1], w[1], mul) + x, mul)


class _HashState(NamedTuple):
    """The state of a hash of more than 64 bytes, named as in FarmHash."""

    x: int
    y: int
    z: int
    v: tuple[int, int]
    w: tuple[int, int]


def _hash_block(data: bytes, at: int, state: _HashState, mul: int, factor: int) -> _HashState:
    """Mixes the 64 bytes at a place into the state of a hash."""
    x, y, z, v, w = state
    x = _rotate(x + y + v[0] + _word(data, at + 8), 37) * mul & _MASK
    y = _rotate(y + v[1] + _word(data, at + 48), 42) * mul & _MASK
    x ^= w[1] * factor & _MASK
    y = (y + v[0] * factor + _word(data, at + 40)) & _MASK
    z = _rotate(z + w[0], 33) * mul & _MASK
    v = _hash_weakly(data, at, v[1] * mul, x + w[0])
    w = _hash_weakly(data, at + 32, z + w[1], y + _word(data, at + 16))
    return _HashState(z, y, x, v, w)


def _hash_weakly(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_word(data, at + place) for place in (0, 8, 16, 24))
    a += w
    b = _rotate(b + a + z, 21)
    c = a
    a += x + y
    b += _rotate(a, 44)
    return (a + z) & _MASK, (b + c) & _MASK


def _hash_short(data: bytes) -> int:
    size = len(data)
    mul = _K2 + size * 2
    if size >= 8:
        a, b = _word(data, 0) + _K2, _word(data, size - 8)
        return _hash_pair(_rotate(b, 37) * mul + a, (_rotate(a, 25) + b) * mul, mul)
    if size >= 4:
        ends = int.from_bytes(data[:4], "little"), int.from_bytes(data[-4:], "little")
        return _hash_pair(size + (ends[0] << 3), ends[1], mul)
    if size:
        y, z = data[0] + (data[size >> 1] << 8), size + (data[-1] << 2)
        return _mix((y * _K2 ^ z * _K0) & _MASK) * _K2 & _MASK
    return _K2


def _hash_medium(data: bytes) -> int:
    size = len(data)
    mul = _K2 + size * 2
    a, b = _word(data, 0) * (_K1 if size <= 32 else _K2), _word(data, 8)
    c, d = _word(data, size - 8) * mul, _word(data, size - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    other = a + _rotate(b + _K2, 18) + c
    if size <= 32:
        return _hash_pair(y, other, mul)
    z = _hash_pair(y, other, mul)
    e, f = _word(data, 16) * mul, _word(data, 24)
    g, h = (y + _word(data, size - 32)) * mul, (z + _word(data, size - 24)) * mul
    return _hash_pair(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, mul)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _rotate(value: int, places: int) -> int:
    value &= _MASK
    return (value >> places | value << (64 - places)) & _MASK


def _mix(value: int) -> int:
    value &= _MASK
    return value ^ (value >> 47)


def _hash_pair(first: int, second: int, mul: int) -> int:
    second &= _MASK
    mixed = _mix((first & _MASK ^ second) * mul)
    return _mix((second ^ mixed) * mul) * mul & _MASK


_RESTORE = "Copy the export again from where it was made, or export the run again."


class Model:
    """A model that `s2s export --format litert` wrote.

    Args:
        folder: The export.

    Raises:
        RunnerError: If a file is missing or damaged.

    Attributes:
        metadata: The description of the export, `metadata.json`.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.metadata: dict[str, Any] = _read_metadata(folder)
        _check_digests(folder)
        self._network = Network(folder)
        rules = self.metadata["tokenizers"]
        self._source = Vocabulary(folder / rules["source"]["model"], rules["source"])
        self._target = self._source
        if rules["target"] != rules["source"]:
            self._target = Vocabulary(folder / rules["target"]["model"], rules["target"])
        self._inputs: dict[str, Any] = self.metadata["inputs"]

    def generate(self, text: str, **options: Any) -> str:
        """Returns the best output of a text.

        Args:
            text: The text.
            **options: As for `hypotheses`.
        """
        return self.hypotheses(text, **options)[0].text

    def hypotheses(
        self,
        text: str,
        *,
        num_hypotheses: int = 1,
        long_lines: str | None = None,
        name: str = "The text",
        **options: Any,
    ) -> list[Hypothesis]:
        """Returns the outputs of a text: the best first, or samples.

        Args:
            text: The text.
            num_hypotheses: Their number: samples, or else at most `beam_size`.
            long_lines: What to do with a text that has too many tokens: "error", "truncate" or
                "mark", an empty output with the score -inf. None: as the export says.
            name: What messages call the text.
            **options: Search options to use in place of those of the export.

        Raises:
            RunnerError: If the text is too long, or an option is unknown or out of range.
        """
        chosen = self._options(options, num_hypotheses)
        prepared = self._source.prepare(text)
        ids = self._source.encode(prepared)
        if not ids and not self._inputs["answers_empty"]:
            return [Hypothesis("", (), 0.0, 0.0)] * num_hypotheses
        limit = self._inputs["max_length"]
        if limit is not None and len(ids) > limit:
            match long_lines or self.metadata["long_lines"]:
                case "mark":
                    return [Hypothesis("", (), -math.inf, -math.inf)] * num_hypotheses
                case "truncate":
                    ids = ids[-limit:] if self._inputs["keep_end"] else ids[:limit]
                case _:
                    raise RunnerError(
                        f"{name} has {len(ids)} tokens; the model takes at most {limit}. Split "
                        f"it, or truncate such lines (--long-lines truncate)."
                    )
        return self._search(prepared, ids, chosen, num_hypotheses)

    def _search(
        self, prepared: str, ids: list[int], options: Options, number: int
    ) -> list[Hypothesis]:
        """Returns the hypotheses of a text.

        Args:
            prepared: The text as it was encoded.
            ids: Its tokens.
            options: The options of the search.
            number: Hypotheses.
        """
        lost_space = self._inputs["marks_spaces"] and prepared.endswith(" ")
        lost_space = lost_space and not prepared.isspace()
        end = _PromptEnd(0, b"", [0])
        if self._inputs["heals"]:
            # An encoder keeps a token: it never saw a source without one.
            kept = [] if self._inputs["reads_prompt"] else [PAD]
            end = self._healer.take_back([*kept, *ids[len(kept) :]], lost_space=lost_space)
        cut = len(ids) - end.num_tokens
        if self._inputs["reads_prompt"]:
            *read, first = [BOS, *ids[:cut]]
            state = self._network.read(read)
        else:
            first, state = BOS, self._network.encode([*ids[:cut], EOS])
        allowed: np.ndarray | None = None
        given: tuple[int, ...] = ()
        if end.spelling:
            first, state, allowed, given = self._healer.spell_again(
                self._network, first, state, end
            )
        rows = number if options.sample else options.beam_size
        processors = Processors(options, lambda: self._target.surfaces, rows)
        stepper = Stepper(self._network, state, rows, processors, allowed)
        found = self._choose(stepper, first, options, number, prepared)
        before, start = [], 0
        if self._inputs["heals"]:  # The token before decides whether a text begins with a space.
            before = ids[max(cut - 1, 0) : cut]
            start = len(self._target.decode([*before, *ids[cut:]])) + lost_space
        return [
            Hypothesis(
                self._target.decode([*before, *given, *one.token_ids])[start:],
                (*given, *one.token_ids),
                *one[1:],
            )
            for one in found
        ]

    def _choose(
        self, stepper: Stepper, first: int, options: Options, number: int, prepared: str
    ) -> list[Found]:
        """Returns what the search that the options ask for finds."""
        closes = not self._inputs["continues"]
        if options.sample:
            choose = Draws(prepared, options, number).choose
            return take_single_tokens(
                stepper, first, number, options, choose, close_at_limit=closes
            )
        if options.beam_size == 1:
            return take_single_tokens(
                stepper,
                first,
                1,
                options,
                lambda logits, _: logits.argmax(1),
                close_at_limit=closes,
            )
        search = BeamSearch(stepper, first, options, close_at_limit=closes, num_hypotheses=number)
        return search.run()

    @functools.cached_property
    def _healer(self) -> Healer:
        return Healer(self._target.surfaces)

    def _options(self, given: dict[str, Any], num_hypotheses: int) -> Options:
        """Returns the options of a search, checked.

        Raises:
            RunnerError: If one is unknown or out of range, or two contradict each other.
        """
        known = self.metadata["options"]
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if name not in known:
                raise RunnerError(f"`{name}` is an unknown option. Known: {', '.join(known)}.")
            _check_option(name, value, known[name])
        values = {name: option["default"] for name, option in known.items()}
        if given.get("beam_size", 1) > 1:  # A beam turns sampling off.
            values["sample"] = False
        options = Options(**(values | given))
        if options.min_length > options.max_length:
            raise RunnerError(
                f"`min_length` must be at most `max_length`. Received: {options.min_length} and "
                f"{options.max_length}."
            )
        if options.sample and given.get("beam_size", 1) > 1:
            raise RunnerError(
                "`beam_size` must be 1 where `sample` is true. Leave one of them out."
            )
        for name in given:
            if not options.sample and known[name].get("only_when_sampling"):
                raise RunnerError(f"`{name}` has an effect only when sampling. Add --sample.")
        most = math.inf if options.sample else options.beam_size
        if not 1 <= num_hypotheses <= most:
            raise RunnerError(
                f"`num_hypotheses` must be between 1 and `beam_size`. Received: {num_hypotheses} "
                f"with beam_size {options.beam_size}. Enlarge the beam, or draw samples."
            )
        return options


_TYPES: dict[str, tuple[Any, str]] = {
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
}
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("more than", lambda value, bound: value > bound),
    "exclusiveMaximum": ("less than", lambda value, bound: value < bound),
}


def _check_option(name: str, value: Any, schema: dict[str, Any]) -> None:
    """Raises RunnerError if an option has not the type and the range of its JSON schema."""
    kind, words = _TYPES.get(schema["type"], (bool, "true or false"))
    is_number = schema["type"] in _TYPES
    fits = isinstance(value, kind) and not (is_number and isinstance(value, bool))
    if fits and all(
        test(value, schema[key]) for key, (_, test) in _BOUNDS.items() if key in schema
    ):
        return
    limits = [f"{text} {schema[key]}" for key, (text, _) in _BOUNDS.items() if key in schema]
    expected = " and ".join([words, *limits])
    raise RunnerError(f"`{name}` must be {expected}. Received: {value!r}.")


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        if metadata["format"] != "litert":
            raise RunnerError(f"{folder} is no export for LiteRT: its format is another one.")
        version = metadata["format_version"]
    except OSError as error:
        raise RunnerError(
            f"Expected a folder that `s2s export --format litert` wrote. Received: {folder}, where "
            f"metadata.json cannot be read ({error.strerror})."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunnerError(f"{path} is damaged, or of another kind of export. {_RESTORE}") from error
    if version != _FORMAT_VERSION:
        raise RunnerError(
            f"{path} has the format version {version}; this runner reads {_FORMAT_VERSION}. Use "
            f"the run.py that is in the export."
        )
    return dict(metadata)


def _check_digests(folder: Path) -> None:
    """Raises RunnerError if a file of an export is not the one that was written."""
    try:
        digests = json.loads((folder / "digests.json").read_text(encoding="utf-8"))
        for name, expected in digests.items():
            if name == "run.py":  # It is running, and may have been adapted.
                continue
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise RunnerError(f"{folder / name} is damaged. {_RESTORE}")
    except (OSError, ValueError, AttributeError) as error:
        raise RunnerError(
            f"A file of {folder} is missing or damaged ({error}). {_RESTORE}"
        ) from error


def _lines(file: Any, name: str) -> Iterator[str]:
    r"""Yields the lines of a binary file as they come: UTF-8, without "\n" or "\r\n"."""
    for number, raw in enumerate(file, start=1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw:
                return
        line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RunnerError(
                f"{name}, line {number}: expected UTF-8, but byte {error.start + 1} of the line is "
                f"not. Convert the file, for example with `iconv -f LATIN1 -t UTF-8`."
            ) from error


def _escape(text: str) -> str:
    r"""Returns a text as one line: a newline as `\n`, a backslash doubled."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _as_tsv(line: int, found: Sequence[Hypothesis]) -> str:
    """Returns a row for each hypothesis: line, rank, score, text, and `cut` or `ended`."""
    return "".join(
        f"{line}\t{rank}\t{one.score:.6f}\t{_escape(one.text)}\t"
        f"{'cut' if one.is_cut else 'ended'}\n"
        for rank, one in enumerate(found, start=1)
    )


def _parser(options: dict[str, Any]) -> argparse.ArgumentParser:
    """Returns the parser of the command line, with an option for each of a search."""
    parser = argparse.ArgumentParser(
        description="Write an output for each line of INPUT, or of standard input."
    )
    parser.add_argument("input", nargs="?", metavar="INPUT", help="a UTF-8 text file")
    parser.add_argument(
        "--scores",
        action="store_true",
        help="write a TSV: line, number of the output, score, text, `cut` or `ended`",
    )
    parser.add_argument(
        "--num-hypotheses", type=int, metavar="N", help="write a TSV with N outputs for each line"
    )
    parser.add_argument(
        "--long-lines",
        choices=["error", "truncate", "mark"],
        help="what to do with a line that has too many tokens: stop, truncate it, or write an empty"
        " output with the score -inf",
    )
    types = {"integer": int, "number": float}
    for name, option in options.items():
        settings: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if option["type"] in types:
            settings = {"type": types[option["type"]], "metavar": name.rpartition("_")[2].upper()}
        described = f"{option['description']} Here: {option['default']}.".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", help=described, **settings)
    return parser


def main(arguments: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """Answers the lines of a file or of standard input; returns the exit code.

    Args:
        arguments: Those of the command line; None for the process's own.
        folder: The export; None for the folder of this file.
    """
    folder = folder or Path(__file__).resolve().parent
    try:
        given = vars(_parser(_read_metadata(folder)["options"]).parse_args(arguments))
        _answer(folder, given.pop("input"), given)
    except BrokenPipeError:  # Nobody reads on. Python would fail again where it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except (RunnerError, OSError) as error:
        sys.stderr.write(f"run.py: error: {error}\n")
        return 2
    return 0


def _answer(folder: Path, path: str | None, options: dict[str, Any]) -> None:
    """Writes the outputs of each line of a file, or of standard input, as soon as they are found.

    Args:
        folder: The export.
        path: The file; None for standard input.
        options: Those of the command line.
    """
    is_table, number = options.pop("scores"), options.pop("num_hypotheses")
    model = Model(folder)
    with Path(path).open("rb") if path else nullcontext(sys.stdin.buffer) as file:
        for line, text in enumerate(_lines(file, path or "standard input"), start=1):
            found = model.hypotheses(
                text,
                num_hypotheses=1 if number is None else number,
                name=f"Line {line}",
                **options,
            )
            if is_table or number is not None:
                output = _as_tsv(line, found)
            else:
                output = f"{_escape(found[0].text)}\n"
            sys.stdout.buffer.write(output.encode())
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
