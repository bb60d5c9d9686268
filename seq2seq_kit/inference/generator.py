"""Texts in, generated texts out: joins tokenizer, model and search."""

import itertools
import numbers
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seq2seq_kit import bounds
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding import SearchResult
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.files import user_path
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.graphs import SearchGraphs
from seq2seq_kit.inference.inputs import InputEncoder, as_texts, encode_prefixes
from seq2seq_kit.inference.parallel import Chunk, num_threads, search_chunks, split_lines
from seq2seq_kit.inference.search import Found, ModelSearch
from seq2seq_kit.inference.state import GenerationState, StateKeeper
from seq2seq_kit.inference.stepwise import StepwiseSearch
from seq2seq_kit.model.ensemble import Network
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Lines handed to the graph at once, as a multiple of the batch size: enough that each length fills
# its batches, few enough that Ctrl-C is heard and memory stays small.
_BATCHES_AT_ONCE = 16


@dataclass(frozen=True)
class Hypothesis:
    """One generated text."""

    text: str
    """The text; for a continuation, without its prompt."""
    token_ids: tuple[int, ...]
    """The generated tokens, EOS included unless the text was cut. Those of a continuation may begin
    with some that spell the end of the prompt again; the last of them may extend beyond it."""
    log_prob: float
    """Summed over these tokens, in nats; for a translation that was cut, with an EOS after them.
    Tokens that spell the prompt's end again do not count; of one that extends beyond it, the
    probability is that among all tokens that do so."""
    score: float
    """What the search ranked by: the log-probability under the length penalty."""
    is_cut: bool = False
    """Whether `max_length` cut the text, where the model would have gone on."""


class Generator:
    """Generates texts with a model, its tokenizers and defaults from a config.

    A line's texts and scores are bit for bit the same whatever lines are beside it and whatever the
    batch size; with a shortlist, the last bits of a score may differ. An empty line is translated
    to an empty text with log-probability 0; an empty prompt is continued from the beginning of a
    text.

    Args:
        model: The network.
        inputs: Encodes the inputs.
        tokenizer: Decodes the outputs.
        defaults: The `decoding` section.
        continues: Whether outputs continue prompts.
        heals: Whether prompts and continuations are parts of one text, so that an output may join
            a prompt's last tokens.
        shortlist: What outputs may be limited to; None if there is none.
    """

    def __init__(
        self,
        model: Network,
        inputs: InputEncoder,
        tokenizer: Tokenizer,
        *,
        defaults: DecodingConfig,
        continues: bool,
        heals: bool = False,
        shortlist: Shortlist | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.tokenizer = tokenizer
        self.defaults = defaults
        self.search = ModelSearch(
            model, tokenizer, continues=continues, heals=heals, shortlist=shortlist
        )
        self.stepwise = StepwiseSearch(self.search)
        self._graphs = SearchGraphs(self.search)

    def hypotheses(
        self,
        texts: Iterable[str],
        *,
        decoding: DecodingConfig | None = None,
        num_hypotheses: int = 1,
        prefixes: str | Iterable[str] | None = None,
        truncate: bool = False,
        first_line: int = 1,
        **options: Any,
    ) -> Iterator[list[Hypothesis]]:
        """Yields the hypotheses of each text in the order of the texts: the best first, or samples.

        Args:
            texts: The inputs.
            decoding: The options of the search; those that are not set in it are as in the config.
            num_hypotheses: Hypotheses of each text: samples, or else at most `beam_size`. It never
                changes the first ones, so it does not enlarge the beam.
            prefixes: A text with which every output must begin, or one for each input. Outputs
                include it; its tokens count neither in `log_prob` nor towards `max_length`. The
                model may continue its last word.
            truncate: Cut over-long inputs instead of refusing them.
            first_line: The line number of the first text, for messages.
            **options: Fields of `DecodingConfig` to use in place of those.

        Raises:
            InputError: If an option is unknown or out of range, an input is over-long, the search
                does not fit into memory, or there is no shortlist.
        """
        names = ("decoding", "num_hypotheses", "prefixes", "truncate", "first_line")
        decoding = self.defaults.merge(decoding).override(names, **options)
        check_num_hypotheses(num_hypotheses, decoding)
        check_not_forked()
        texts = as_texts(texts)
        beginnings = _beginnings(prefixes, len(texts), decoding)
        if beginnings and self.search.heals:  # The end of a prompt is the beginning of its output.
            texts = [text + start for text, start in zip(texts, beginnings, strict=True)]
        is_forced = bool(beginnings) and not self.search.heals
        threads = num_threads(decoding.threads, len(texts))
        chunks = self._chunks(
            texts,
            beginnings,
            decoding,
            threads=threads,
            num_hypotheses=num_hypotheses,
            truncate=truncate,
            first_line=first_line,
        )
        first_chunks = list(itertools.islice(chunks, 1))  # It may be refused before it is traced.
        if not first_chunks:
            return
        search = self._graphs.search(decoding, num_hypotheses, has_prefixes=is_forced)
        all_chunks = itertools.chain(first_chunks, chunks)
        for chunk, found in search_chunks(all_chunks, search, threads=threads):
            yield from self._answers(chunk, found, num_hypotheses)

    def _chunks(
        self,
        texts: Sequence[str],
        beginnings: Sequence[str],
        decoding: DecodingConfig,
        *,
        threads: int,
        num_hypotheses: int,
        truncate: bool,
        first_line: int,
    ) -> Iterator[Chunk]:
        """Yields inputs in chunks.

        Args:
            texts: The inputs.
            beginnings: The forced beginning of each output; nothing where none is forced.
            decoding: The options.
            threads: How many search at the same time.
            num_hypotheses: As in `hypotheses`, which has the errors, too.
            truncate: As in `hypotheses`.
            first_line: As in `hypotheses`.
        """
        at_once = _BATCHES_AT_ONCE * decoding.batch_size
        for first in range(0, len(texts), at_once):
            here = slice(first, first + at_once)
            inputs = self.inputs.encode(
                texts[here],
                truncate=truncate,
                first_line=first_line + first,
                is_hashed=decoding.sample,
            )
            share = self.search.check_memory(
                inputs.lengths, decoding, num_hypotheses=num_hypotheses
            )
            is_forced = bool(beginnings) and not self.search.heals
            forced = encode_prefixes(self.tokenizer, beginnings[here]) if is_forced else None
            parts = split_lines(inputs.lengths, decoding.batch_size, threads)
            yield Chunk(inputs, beginnings[here], forced, parts, share)

    def _answers(
        self, chunk: Chunk, found: Sequence[Found], num_hypotheses: int
    ) -> Iterator[list[Hypothesis]]:
        """Yields the hypotheses of each line of a chunk.

        Args:
            chunk: The lines.
            found: What was found for each of its parts.
            num_hypotheses: As in `hypotheses`.
        """
        decoded = {
            line: hypotheses
            for lines, result in zip(chunk.parts, found, strict=True)
            for line, hypotheses in zip(
                lines.tolist(),
                _decode(result, self.tokenizer, chunk.inputs.lost_space[lines]),
                strict=True,
            )
        }
        is_in_prompt = bool(chunk.beginnings) and self.search.heals
        for line, is_empty in enumerate(self.inputs.is_empty(chunk.inputs)):
            hypotheses = decoded[line]
            if is_empty:
                hypotheses = [Hypothesis("", (), 0.0, 0.0)] * num_hypotheses
            elif is_in_prompt:
                start = chunk.beginnings[line]
                hypotheses = [replace(h, text=start + h.text) for h in hypotheses]
            yield hypotheses

    def stream(
        self,
        text: str,
        *,
        decoding: DecodingConfig | None = None,
        prefix: str = "",
        truncate: bool = False,
        first_line: int = 1,
        **options: Any,
    ) -> Iterator[str]:
        """Yields the best output of a text piece by piece, as soon as it is certain.

        Nothing is retracted, and the pieces joined are the text that `hypotheses` returns. With a
        beam, a piece appears when all hypotheses share it.

        Args:
            text: The input.
            decoding: As in `hypotheses`.
            prefix: A text with which the output must begin, as `prefixes` in `hypotheses`.
            truncate: As in `hypotheses`.
            first_line: The line number of the text, for messages.
            **options: As in `hypotheses`.

        Raises:
            InputError: As `hypotheses`.
        """
        names = ("decoding", "prefix", "truncate", "first_line")
        decoding = self.defaults.merge(decoding).override(names, **options)
        check_not_forked()
        if not isinstance(text, str):
            raise InputError(f"Expected a text. Received: {shorten(text)}.")
        beginnings = _beginnings(prefix, 1, decoding)
        if self.search.heals:  # The end of a prompt is the beginning of its output.
            text += "".join(beginnings)
        inputs = self.inputs.encode([text], truncate=truncate, first_line=first_line)
        self.search.check_memory(inputs.lengths, decoding)
        if self.inputs.is_empty(inputs)[0]:
            return iter(())
        if not beginnings:
            return self.stepwise.stream(inputs, decoding)
        if self.search.heals:
            return itertools.chain(beginnings, self.stepwise.stream(inputs, decoding))
        forced = encode_prefixes(self.tokenizer, beginnings)
        return self.stepwise.stream(inputs, decoding, forced)

    def read(
        self, prompt: str, *, decoding: DecodingConfig | None = None, **options: Any
    ) -> GenerationState:
        """Reads a prompt of any length; returns the state from which `write` continues.

        Args:
            prompt: The prompt.
            decoding: As in `hypotheses`.
            **options: As in `hypotheses`; `write` uses them, but for `max_length`.

        Raises:
            InputError: If the model is no language model, or an option asks for beam search.
        """
        decoding = self.defaults.merge(decoding).override(("decoding",), **options)
        check_not_forked()
        if not isinstance(prompt, str):
            raise InputError(f"Expected a text. Received: {shorten(prompt)}.")
        return self._states().read(self.inputs.encode([prompt]), decoding)

    def write(self, state: GenerationState, max_length: int | None = None) -> str:
        """Returns the next text after a state, and moves the state behind it.

        What the last tokens leave open, such as the first bytes of a character, is returned with
        the next text.

        Args:
            state: From `read` or `load_state`.
            max_length: Generated tokens at most; None uses that of `read`.
        """
        return self._states().write(state, _next_options(state, max_length))

    def stream_state(self, state: GenerationState, max_length: int | None = None) -> Iterator[str]:
        """Yields what `write` returns piece by piece; the state moves with the pieces."""
        return self._states().stream(state, _next_options(state, max_length))

    def load_state(self, path: str | Path) -> GenerationState:
        """Returns a state that `GenerationState.save` wrote.

        Raises:
            InputError: If it is of another model, or the model is no language model.
            RunError: If the file is missing, damaged, or no state.
        """
        return self._states().load(user_path(path))

    def _states(self) -> StateKeeper:
        if not isinstance(self.model, LanguageModel):
            raise InputError(
                "Only a language model has a state that can be kept: an encoder-decoder reads its "
                "input as a whole (model.architecture). Use `generate`."
            )
        return StateKeeper(self.search, self.stepwise)


def _next_options(state: GenerationState, max_length: int | None) -> DecodingConfig:
    """Returns the options with which a state is continued."""
    check_not_forked()
    if not isinstance(state, GenerationState):
        raise InputError(f"Expected a state that `read` returned. Received: {shorten(state)}.")
    decoding = state.decoding
    if max_length is None:
        return decoding
    return decoding.model_copy(update=decoding.check_values({"max_length": max_length}))


def _decode(
    found: Found, tokenizer: Tokenizer, lost_space: np.ndarray
) -> Iterator[list[Hypothesis]]:
    """Yields the hypotheses of each line; arguments as in `_texts_after`."""
    result = SearchResult(*(part.numpy() for part in found.hypotheses))
    ids = [
        [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        for rows, lengths in zip(result.token_ids, result.lengths, strict=True)
    ]
    if isinstance(found.before, tuple):  # Nothing is healed.
        texts = iter(tokenizer.decode([row for rows in ids for row in rows]))
    else:
        before, taken = found.before.to_list(), found.taken_back.to_list()
        texts = _texts_after(tokenizer, ids, before, taken, lost_space)
    columns = (result.log_probs.tolist(), result.scores.tolist(), result.is_cut.tolist())
    for rows, *values in zip(ids, *columns, strict=True):
        yield [
            Hypothesis(next(texts), tuple(row), *of_row)
            for row, *of_row in zip(rows, *values, strict=True)
        ]


def _texts_after(
    tokenizer: Tokenizer,
    ids: list[list[list[int]]],
    before: list[list[int]],
    taken: list[list[int]],
    lost_space: np.ndarray,
) -> Iterator[str]:
    """Yields what each hypothesis adds to the text of its prompt.

    Args:
        tokenizer: The tokenizer of the outputs.
        ids: Of each line's hypotheses.
        before: The last token that was kept of each prompt, if any.
        taken: The tokens that were taken back of each prompt.
        lost_space: Whether a prompt ends with a space that has no token.
    """
    decode = tokenizer.decode
    given = decode([a + b for a, b in zip(before, taken, strict=True)])
    prompts = [text + " " * bool(lost) for text, lost in zip(given, lost_space, strict=True)]
    whole = decode([a + row for a, rows in zip(before, ids, strict=True) for row in rows])
    starts = [len(text) for text, rows in zip(prompts, ids, strict=True) for _ in rows]
    yield from (text[start:] for text, start in zip(whole, starts, strict=True))


def _beginnings(
    prefixes: str | Iterable[str] | None, number: int, decoding: DecodingConfig
) -> list[str]:
    """Returns the forced beginning of each output; nothing where none is forced.

    Raises:
        InputError: If their number is not that of the inputs, or outputs have a shortlist.
    """
    if prefixes is None or prefixes == "":
        return []
    found = [prefixes] * number if isinstance(prefixes, str) else as_texts(prefixes)
    if len(found) != number or not all(isinstance(one, str) for one in found):
        raise InputError(
            f"`prefixes` must be one text, or one for each of the {number} inputs. Received: "
            f"{len(found)}."
        )
    if decoding.shortlist:
        raise InputError(
            "`prefixes` cannot be used with a shortlist, which may lack their tokens. Generate "
            "without (--no-shortlist, in Python shortlist=False)."
        )
    return found if any(found) else []


def check_num_hypotheses(num_hypotheses: int, decoding: DecodingConfig) -> None:
    """Raises InputError if a search cannot return this number of hypotheses of each line."""
    is_whole = isinstance(num_hypotheses, numbers.Integral)
    if not is_whole or not 1 <= num_hypotheses <= bounds.MAX_BEAM_SIZE:
        raise InputError(
            f"`num_hypotheses` must be a whole number from 1 to {bounds.MAX_BEAM_SIZE}. Received: "
            f"{shorten(num_hypotheses)}."
        )
    if num_hypotheses > decoding.beam_size and not decoding.sample:
        raise InputError(
            f"`num_hypotheses` must be at most `beam_size`. Received: num_hypotheses="
            f"{num_hypotheses}, beam_size={decoding.beam_size}. Enlarge the beam (--beam-size, in "
            f"Python beam_size=...), which may change the best output, or draw samples (--sample, "
            f"in Python sample=True)."
        )
