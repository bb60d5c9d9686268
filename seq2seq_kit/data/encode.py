"""Corpora to token ids, 10,000 lines at a time, with counts of the lines that are left out.

Knows nothing of the cache or of the files that the ids are written to.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from seq2seq_kit.config import CorpusConfig, DataConfig
from seq2seq_kit.data.report import Place, Side, Tally, note
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.corpus import BadRow, Pair, read_corpus

_CHUNK_LINES = 10_000


class LengthLimits(NamedTuple):
    """How many tokens a line may have, and what happens to a longer one."""

    max_source_length: int
    """Tokens of a source, EOS not counted."""
    max_target_length: int
    """Tokens of a target, EOS not counted; running text has no limit."""
    long_lines: Literal["skip", "truncate", "error"]

    @classmethod
    def of(cls, data: DataConfig) -> "LengthLimits":
        """Returns the limits of a config's `data` section."""
        return cls(data.max_source_length, data.max_target_length, data.long_lines)


class Chunk(NamedTuple):
    """The ids of some consecutive lines of a corpus."""

    ids: np.ndarray
    """int64 `(tokens,)`."""
    lengths: np.ndarray
    """int64 `(2 * rows,)`. Source length and target length, alternating, of each row that ends in
    this chunk."""
    lines: np.ndarray
    """int64 `(rows,)`. The first line of each of these rows."""


class CorpusEncoder:
    """Encodes one corpus of a set and counts the lines that it leaves out.

    A pair with an empty side, and an empty line of a `lines` corpus, is skipped; a line with too
    many tokens is treated as `limits.long_lines` says. Running text is kept whole, each line
    followed by its newline token, and is one row, or one for each text where blank lines separate
    them.

    Args:
        corpora: The set; paths are absolute.
        index: Which corpus of the set.
        tokenizers: The tokenizers of both sides.
        limits: How long a line may be.
        tally: The counts of the set, which `chunks` adds to.
    """

    def __init__(
        self,
        corpora: Sequence[CorpusConfig],
        index: int,
        tokenizers: Tokenizers,
        limits: LengthLimits,
        tally: Tally,
    ) -> None:
        self._corpora = corpora
        self._index = index
        self._kind = corpora[index].kind
        self._tokenizers = tokenizers
        self._limits = limits
        self._tally = tally

    def chunks(self) -> Iterator[Chunk]:
        """Yields the rows of the corpus in order.

        Raises:
            DataError: If a file cannot be used, or a line is too long and that is an error.
        """
        batches = _batched(read_corpus(self._corpora[self._index]), _CHUNK_LINES)
        return self._encode_stream(batches) if self._kind == "text" else self._encode_rows(batches)

    def _encode_stream(self, batches: Iterable[list[Pair]]) -> Iterator[Chunk]:
        """Encodes the lines of each text as one row, each followed by its newline."""
        # The newline is a token at which SentencePiece always splits: the ids of the lines, joined,
        # are the ids of the joined text.
        has_separator = self._corpora[self._index].separator is not None
        first_line, length = 0, 0  # Of the text that is being read.
        for batch in batches:
            self._tally.lines += len(batch)
            self._tally.kept += len(batch)
            is_border = [has_separator and not pair.target.strip() for pair in batch]
            texts = [
                "" if border else pair.target + "\n"
                for pair, border in zip(batch, is_border, strict=True)
            ]
            ids = self._tokenizers.target.encode(texts)
            lengths, lines = [], []
            for pair, row, border in zip(batch, ids, is_border, strict=True):
                if border and length:
                    lengths.append(length)
                    lines.append(first_line)
                if border:
                    length = 0
                elif length == 0:
                    first_line = pair.line
                length += len(row)
            yield self._texts_chunk(_flatten(ids), lengths, lines)
        if length:
            yield self._texts_chunk(np.empty(0, np.int64), [length], [first_line])

    def _texts_chunk(self, ids: np.ndarray, lengths: list[int], lines: list[int]) -> Chunk:
        self._tally.target_tokens += len(ids)
        both_sides = np.zeros(2 * len(lengths), np.int64)
        both_sides[1::2] = lengths
        return Chunk(ids, both_sides, np.array(lines, np.int64))

    def _encode_rows(self, batches: Iterable[list[Pair]]) -> Iterator[Chunk]:
        for batch in batches:
            self._tally.lines += len(batch)
            rows = self._encode(batch)
            rows = [row for row in rows if self._has_text(*row) and self._fits(*row)]
            self._tally.kept += len(rows)
            sides = [side for _, source, target in rows for side in (source, target)]
            lengths = np.fromiter(map(len, sides), np.int64, len(sides))
            self._tally.source_tokens += int(lengths[0::2].sum())
            self._tally.target_tokens += int(lengths[1::2].sum())
            lines = np.fromiter((pair.line for pair, _, _ in rows), np.int64, len(rows))
            yield Chunk(_flatten(sides), lengths, lines)

    def _encode(self, pairs: list[Pair]) -> list[tuple[Pair, list[int], list[int]]]:
        sources: list[list[int]] = [[] for _ in pairs]
        if self._kind != "lines":
            sources = self._tokenizers.source.encode([pair.source for pair in pairs])
        targets = self._tokenizers.target.encode([pair.target for pair in pairs])
        return list(zip(pairs, sources, targets, strict=True))

    def _has_text(self, pair: Pair, source: list[int], target: list[int]) -> bool:
        """Whether both sides have text, and ids: a tokenizer may drop all characters of a text."""
        if isinstance(pair, BadRow):
            self._tally.bad += 1
            note(self._tally.bad_at, Place(self._index, "source", pair.line))
            return False
        empty: Side | None = None
        if not pair.target.strip() or not target:
            empty = "target"
        if self._kind != "lines" and (not pair.source.strip() or not source):
            empty = "source"
        if empty:
            self._tally.empty += 1
            note(self._tally.empty_at, Place(self._index, empty, pair.line))
        return empty is None

    def _fits(self, pair: Pair, source: list[int], target: list[int]) -> bool:
        """Whether the row is used; cuts its ids to the limits if long lines are truncated."""
        max_source, max_target, long_lines = self._limits
        if len(source) <= max_source and len(target) <= max_target:
            return True
        side: Side = "source" if len(source) > max_source else "target"
        place = Place(self._index, side, pair.line)
        if long_lines == "error":
            ids, limit = (source, max_source) if side == "source" else (target, max_target)
            raise DataError(
                f"{place.locate(self._corpora)}: the {side} has {len(ids)} tokens; expected at "
                f"most {limit} (data.max_{side}_length). Shorten the line, raise the limit, or set "
                "data.long_lines to skip or truncate."
            )
        note(self._tally.too_long_at, place)
        if long_lines == "skip":
            self._tally.too_long += 1
            return False
        self._tally.truncated += 1
        del source[max_source:], target[max_target:]
        return True


def _batched(pairs: Iterator[Pair], size: int) -> Iterator[list[Pair]]:
    while batch := list(itertools.islice(pairs, size)):
        yield batch


def _flatten(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    count = sum(map(len, sequences))
    return np.fromiter(itertools.chain.from_iterable(sequences), np.int64, count)
