"""Corpora as token ids in memory-mapped files: encoded once, found again by their content.

All tokens of a set lie in one flat array; a row is three positions in it (begin, split, end), so
that a subset copies no token. Knows nothing of batches or TensorFlow.
"""

import itertools
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, Self

import numpy as np

from seq2seq_kit.atomic import remove_folder, remove_leftovers, write_bytes, write_folder
from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.config.sections import CorpusKind
from seq2seq_kit.digests import digest, seal, text_digest, unseal
from seq2seq_kit.errors import DataError, InputError, RunError
from seq2seq_kit.files import user_path, why_not_regular
from seq2seq_kit.text.corpus import BadRow, Pair, read_corpus
from seq2seq_kit.tokens.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

LongLines = Literal["skip", "truncate", "error"]
Side = Literal["source", "target"]

# Part of every cache key: a change of the layout below must raise it.
_FORMAT_VERSION = 3
_CHUNK_LINES = 10_000
_PLACES_SHOWN = 5
# Rows hashed at once: bounds the temporary arrays to a few dozen MB.
_HASH_ROWS = 100_000
_IDS, _BOUNDS, _META = "ids.bin", "bounds.bin", "entry.json"


@dataclass(frozen=True, eq=False)
class Sequences:
    """Token ids of many sequences, each a span of one flat array.

    Example:
        >>> ids = np.array([5, 6, 7])
        >>> sequences = Sequences(ids, starts=np.array([0, 2]), stops=np.array([2, 3]))
        >>> len(sequences), sequences[0], sequences.lengths
        (2, array([5, 6], dtype=int32), array([2, 1]))
    """

    ids: np.ndarray
    """uint16 or int32 `(tokens,)`, usually memory-mapped."""
    starts: np.ndarray
    """int64 `(rows,)`. Position of the first token of each sequence."""
    stops: np.ndarray
    """int64 `(rows,)`. Position after the last one."""

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> np.ndarray:
        """The ids of one sequence, int32 `(length,)`."""
        return np.asarray(self.ids[self.starts[index] : self.stops[index]], dtype=np.int32)

    @property
    def lengths(self) -> np.ndarray:
        """int64 `(rows,)`: one stream of running text can have more tokens than int32 counts."""
        return np.asarray(self.stops - self.starts)


class CorpusRows(NamedTuple):
    """The rows that one corpus has in a set."""

    kind: CorpusKind
    """Of parallel files and TSV a row is a pair, of lines a line, of text the whole stream."""
    weight: float
    """Times that each row is seen in an epoch."""
    start: int
    """The first row."""
    stop: int
    """The row after the last."""

    @property
    def has_source(self) -> bool:
        """Whether the rows have a source side."""
        return self.kind in ("parallel", "tsv")


@dataclass(frozen=True)
class PreparationReport:
    """What became of the lines of a set of corpora."""

    lines: int
    """Lines read."""
    kept: int
    """Lines used, truncated ones included."""
    empty: int
    """Lines skipped because a side has no text."""
    bad: int
    """TSV rows skipped because they have another number of columns than usual."""
    too_long: int
    """Lines skipped because a side has more tokens than allowed."""
    truncated: int
    """Lines of which a side was cut to the allowed number of tokens."""
    source_tokens: int
    """Source tokens used, without BOS and EOS."""
    target_tokens: int
    """Target tokens used, without BOS and EOS."""
    empty_at: tuple[str, ...]
    """`file:line` of the first five empty lines."""
    bad_at: tuple[str, ...]
    """`file:line` of the first five rows with another number of columns."""
    too_long_at: tuple[str, ...]
    """`file:line` of the first five lines skipped or truncated for their length."""

    def __str__(self) -> str:
        """One line for a log, such as `98 of 100 lines used, 2 empty skipped (a:7, a:9)`."""
        parts = [f"{self.kept:,} of {self.lines:,} lines used"]
        if self.empty:
            parts.append(f"{self.empty:,} empty skipped{_examples(self.empty, self.empty_at)}")
        if self.bad:
            shown = _examples(self.bad, self.bad_at)
            parts.append(f"{self.bad:,} with another number of columns skipped{shown}")
        if self.too_long:
            shown = _examples(self.too_long, self.too_long_at)
            parts.append(f"{self.too_long:,} too long skipped{shown}")
        if self.truncated:
            shown = _examples(self.truncated, self.too_long_at)
            parts.append(f"{self.truncated:,} truncated{shown}")
        return ", ".join(parts)


def _examples(count: int, places: tuple[str, ...]) -> str:
    return f" ({', '.join(places)}{', ...' if count > len(places) else ''})"


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The rows of one set (training, validation or test) as ids.

    Source and target of a row lie side by side: the source is `ids[begin:split]` and the target
    `ids[split:end]`. A prompt with its continuation is therefore one span, `ids[begin:end]`.
    """

    ids: np.ndarray
    """uint16 or int32 `(tokens,)`, memory-mapped: all tokens, without BOS and EOS."""
    begins: np.ndarray
    """int64 `(rows,)`."""
    splits: np.ndarray
    """int64 `(rows,)`. Equal to `begins` where a row has no source."""
    ends: np.ndarray
    """int64 `(rows,)`."""
    corpora: tuple[CorpusRows, ...]
    """The rows of each corpus, in the order of the config."""
    report: PreparationReport
    """Of the corpora as they were read; a set split off later still has the counts of the whole."""

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def source(self) -> Sequences | None:
        """The source side, or None if no corpus has one."""
        if any(corpus.has_source for corpus in self.corpora):
            return Sequences(self.ids, self.begins, self.splits)
        return None

    @property
    def target(self) -> Sequences:
        """The target side; for running text one sequence a corpus, the whole stream."""
        return Sequences(self.ids, self.splits, self.ends)


def prepare(
    corpora: Sequence[CorpusConfig],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    max_source_length: int,
    max_target_length: int,
    long_lines: LongLines,
) -> PreparedData:
    """Encodes corpora into memory-mapped ids, or opens them if that was done before.

    Rules: a pair with an empty side, and an empty line of a `lines` corpus, is skipped and counted;
    a line with too many tokens is treated as `long_lines` says; running text is kept whole, each
    line followed by its newline token. The corpora are read as streams, 10,000 lines at a time.

    Entries are kept in `cache_folder()` under a hash of all that they depend on: the bytes of the
    files, how they are read, the tokenizers, the limits. They appear there whole or not at all, and
    a damaged one is made again.

    Args:
        corpora: What makes up the set; paths are absolute.
        source_tokenizer: Encodes the source side; unused where there is none.
        target_tokenizer: Encodes the target side and texts without a source.
        max_source_length: Tokens of a source, EOS not counted.
        max_target_length: Tokens of a target, EOS not counted; running text has no limit.
        long_lines: What becomes of a longer line: "skip", "truncate" or "error".

    Returns:
        The rows of all corpora, in the order of `corpora` and their lines.

    Raises:
        DataError: If a file cannot be used as it is, a line is too long and `long_lines` is
            "error", or no line is left.
        RunError: If the cache folder cannot be written.
    """
    rules = _Rules(max_source_length, max_target_length, long_lines)
    tokenizers = _Tokenizers(source_tokenizer, target_tokenizer)
    entry = cache_folder() / _entry_key(corpora, tokenizers, rules)
    prepared = _open_entry(entry, corpora, tokenizers)
    if prepared is None:
        _create_entry(entry, corpora, tokenizers, rules)
        prepared = _open_entry(entry, corpora, tokenizers)
    if prepared is None:
        raise RunError(
            f"The prepared data were written to {entry} and cannot be read back. "
            "Check that disk, or set S2S_CACHE_DIR to a folder on another one."
        )
    skipped = prepared.report.kept < prepared.report.lines or prepared.report.truncated
    _logger.log(logging.WARNING if skipped else logging.INFO, "Prepared data: %s", prepared.report)
    return prepared


def cache_folder() -> Path:
    """Returns the folder of the entries, made if it does not exist.

    It is S2S_CACHE_DIR, else in XDG_CACHE_HOME, else in ~/.cache.

    Raises:
        InputError: If there is no home folder, or none for S2S_CACHE_DIR.
        RunError: If it cannot be written to.
    """
    if chosen := os.environ.get("S2S_CACHE_DIR"):
        folder = user_path(chosen)
    elif home := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(home, "seq2seq_kit")
    else:
        try:
            folder = Path.home() / ".cache" / "seq2seq_kit"
        except RuntimeError as error:
            raise InputError(
                "Prepared data and tokenizers are kept in the home folder's .cache, but this user "
                "has no home folder (HOME is not set). Set S2S_CACHE_DIR to a folder."
            ) from error
    problem = ""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)  # It holds the user's texts, encoded.
        remove_leftovers(folder)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem or not os.access(folder, os.W_OK):
        raise RunError(
            f"Prepared data and tokenizers are kept in {folder}, which cannot be written to "
            f"({problem or 'no permission'}). Set S2S_CACHE_DIR to another folder."
        )
    return folder


class _Rules(NamedTuple):
    """How long a line may be, and what becomes of a longer one."""

    max_source_length: int
    max_target_length: int
    long_lines: LongLines


class _Tokenizers(NamedTuple):
    source: Tokenizer
    target: Tokenizer


class _Place(NamedTuple):
    """A line of a corpus; not its path, since an entry outlives a file's move."""

    corpus: int
    side: Side
    line: int


@dataclass
class _Tally:
    """The counts of a report while its entry is made; stored with the entry."""

    lines: int = 0
    kept: int = 0
    empty: int = 0
    bad: int = 0
    too_long: int = 0
    truncated: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    empty_at: list[_Place] = field(default_factory=list)
    bad_at: list[_Place] = field(default_factory=list)
    too_long_at: list[_Place] = field(default_factory=list)

    def report(self, corpora: Sequence[CorpusConfig]) -> PreparationReport:
        counts = asdict(self)
        for key in ("empty_at", "bad_at", "too_long_at"):
            counts[key] = tuple(_locate(corpora, _Place(*place)) for place in counts[key])
        return PreparationReport(**counts)


def _locate(corpora: Sequence[CorpusConfig], place: _Place) -> str:
    corpus = corpora[place.corpus]
    path = getattr(corpus, place.side) or corpus.tsv or corpus.lines or corpus.text
    return f"{path}:{place.line}"


def _remember(places: list[_Place], place: _Place) -> None:
    if len(places) < _PLACES_SHOWN:
        places.append(place)


class _Chunk(NamedTuple):
    """A piece of an entry on its way to the disk."""

    ids: np.ndarray
    """int64 `(tokens,)`. The next tokens."""
    lengths: np.ndarray
    """int64 `(2 * rows,)`. Source and target lengths, in turn, of the rows that end in it."""


class _CorpusEncoder:
    """Turns the lines of one corpus into ids, chunk by chunk, and counts what it leaves out."""

    def __init__(
        self,
        corpora: Sequence[CorpusConfig],
        index: int,
        tokenizers: _Tokenizers,
        rules: _Rules,
        tally: _Tally,
    ) -> None:
        self._corpora = corpora
        self._index = index
        self._kind = corpora[index].kind
        self._tokenizers = tokenizers
        self._rules = rules
        self._tally = tally

    def chunks(self) -> Iterator[_Chunk]:
        lines = _batched(read_corpus(self._corpora[self._index]), _CHUNK_LINES)
        return self._encode_stream(lines) if self._kind == "text" else self._encode_rows(lines)

    def _encode_stream(self, batches: Iterable[list[Pair]]) -> Iterator[_Chunk]:
        """Encodes all lines as one row, each followed by its newline."""
        # The newline is a token at which SentencePiece always splits: the ids of the lines, joined,
        # are the ids of the joined text.
        total = 0
        for batch in batches:
            ids = _flatten(self._tokenizers.target.encode([pair.target + "\n" for pair in batch]))
            total += len(ids)
            self._tally.lines += len(batch)
            self._tally.kept += len(batch)
            yield _Chunk(ids, np.empty(0, np.int64))
        if total:
            self._tally.target_tokens += total
            yield _Chunk(np.empty(0, np.int64), np.array([0, total]))

    def _encode_rows(self, batches: Iterable[list[Pair]]) -> Iterator[_Chunk]:
        for batch in batches:
            self._tally.lines += len(batch)
            rows = self._encode(batch)
            rows = [row for row in rows if self._has_text(*row) and self._fits(*row)]
            self._tally.kept += len(rows)
            sides = [side for _, source, target in rows for side in (source, target)]
            lengths = np.fromiter(map(len, sides), np.int64, len(sides))
            self._tally.source_tokens += int(lengths[0::2].sum())
            self._tally.target_tokens += int(lengths[1::2].sum())
            yield _Chunk(_flatten(sides), lengths)

    def _encode(self, pairs: list[Pair]) -> list[tuple[Pair, list[int], list[int]]]:
        sources: list[list[int]] = [[] for _ in pairs]
        if self._kind != "lines":
            sources = self._tokenizers.source.encode([pair.source for pair in pairs])
        targets = self._tokenizers.target.encode([pair.target for pair in pairs])
        return list(zip(pairs, sources, targets, strict=True))

    def _has_text(self, pair: Pair, source: list[int], target: list[int]) -> bool:
        """Whether both sides have text, and ids: a tokenizer may drop all that a text has."""
        if isinstance(pair, BadRow):
            self._tally.bad += 1
            _remember(self._tally.bad_at, _Place(self._index, "source", pair.line))
            return False
        empty: Side | None = None
        if not pair.target.strip() or not target:
            empty = "target"
        if self._kind != "lines" and (not pair.source.strip() or not source):
            empty = "source"
        if empty:
            self._tally.empty += 1
            _remember(self._tally.empty_at, _Place(self._index, empty, pair.line))
        return empty is None

    def _fits(self, pair: Pair, source: list[int], target: list[int]) -> bool:
        """Whether the row is used; cuts its ids to the limits if the rules say so."""
        max_source, max_target, long_lines = self._rules
        if len(source) <= max_source and len(target) <= max_target:
            return True
        side: Side = "source" if len(source) > max_source else "target"
        place = _Place(self._index, side, pair.line)
        if long_lines == "error":
            ids, limit = (source, max_source) if side == "source" else (target, max_target)
            raise DataError(
                f"{_locate(self._corpora, place)}: the {side} has {len(ids)} tokens; expected at "
                f"most {limit} (data.max_{side}_length). Shorten the line, raise the limit, or set "
                "data.long_lines to skip or truncate."
            )
        _remember(self._tally.too_long_at, place)
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


class _Column:
    """A file that an array is written to piece by piece, with what tells later that it is whole."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._file: BinaryIO = path.open("wb")
        self._dtype = dtype
        self._size = 0
        self._crc32 = 0

    def append(self, values: np.ndarray) -> None:
        data = values.astype(self._dtype).tobytes()
        self._file.write(data)
        self._size += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)

    def description(self) -> dict[str, Any]:
        return {"dtype": self._dtype.str, "size": self._size, "crc32": self._crc32}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _entry_key(corpora: Sequence[CorpusConfig], tokenizers: _Tokenizers, rules: _Rules) -> str:
    content = {
        "format_version": _FORMAT_VERSION,
        "corpora": [corpus_content(corpus) for corpus in corpora],
        "tokenizers": [tokenizer.fingerprint for tokenizer in tokenizers],
        "rules": rules._asdict(),
    }
    return digest(json.dumps(content, sort_keys=True).encode())


def corpus_content(corpus: CorpusConfig) -> dict[str, Any]:
    """Describes all that the texts of a corpus depend on: for keys of what is made from them.

    Args:
        corpus: The corpus; its files are read.

    Returns:
        The options that choose texts, and the SHA-256 of each file rather than its path, fit for
        JSON. The weight is not in it.

    Raises:
        DataError: If a file cannot be read.
    """
    files = ("source", "target", "tsv", "lines", "text")
    digests = {name: text_digest(path) for name in files if (path := getattr(corpus, name))}
    return corpus.model_dump(mode="json", exclude={"weight", *files}) | digests


def write_cached(path: Path, data: bytes, what: str) -> None:
    """Writes a file of the cache folder, which `read_cached` can tell from a damaged one."""
    sealed = digest(data).encode() + b"\n" + data
    write_bytes(path, sealed, what, private=True, setting="S2S_CACHE_DIR")


def read_cached(path: Path) -> bytes | None:
    """Returns what `write_cached` wrote; None if it is not there, or damaged."""
    try:
        found, _, data = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        _logger.warning("%s cannot be read (%s); making it again.", path, error.strerror)
        return None
    if found.decode("latin-1") == digest(data):
        return data
    _logger.warning("%s is damaged; making it again.", path)
    return None


def _create_entry(
    entry: Path, corpora: Sequence[CorpusConfig], tokenizers: _Tokenizers, rules: _Rules
) -> None:
    """Writes an entry, unless another process puts a whole one there meanwhile."""
    with (
        suppress(FileExistsError),
        write_folder(entry, "The prepared data", private=True, setting="S2S_CACHE_DIR") as new,
    ):
        _write_entry(new, corpora, tokenizers, rules)
        if entry.exists() and _open_entry(entry, corpora, tokenizers) is None:
            remove_folder(entry)


def _write_entry(
    folder: Path, corpora: Sequence[CorpusConfig], tokenizers: _Tokenizers, rules: _Rules
) -> None:
    tally = _Tally()
    rows_of_corpora = []
    small = all(tokenizer.vocab_size <= 2**16 for tokenizer in tokenizers)
    with (
        _Column(folder / _IDS, np.dtype("<u2" if small else "<i4")) as ids,
        _Column(folder / _BOUNDS, np.dtype("<i8")) as bounds,
    ):
        bounds.append(np.zeros(1))
        end = 0
        for index in range(len(corpora)):
            rows = 0
            for chunk in _CorpusEncoder(corpora, index, tokenizers, rules, tally).chunks():
                ids.append(chunk.ids)
                bounds.append(end + np.cumsum(chunk.lengths))
                end += int(chunk.lengths.sum())
                rows += len(chunk.lengths) // 2
            rows_of_corpora.append(rows)
        columns = {_IDS: ids.description(), _BOUNDS: bounds.description()}
    if not sum(rows_of_corpora):
        raise DataError(
            f"Expected at least one line to use, but none is left: {tally.report(corpora)}. "
            "Check the columns of the corpora and data.max_source_length, data.max_target_length."
        )
    meta = {"columns": columns, "rows": rows_of_corpora, "tally": asdict(tally)}
    (folder / _META).write_text(json.dumps(seal(meta)), encoding="utf-8")


def _open_entry(
    entry: Path, corpora: Sequence[CorpusConfig], tokenizers: _Tokenizers
) -> PreparedData | None:
    """The rows of an entry, or None if it is missing or damaged."""
    if not entry.exists():
        return None
    try:
        for name in (_META, _IDS, _BOUNDS):
            if reason := why_not_regular(entry / name):
                raise ValueError(f"{name}: {reason}")
        meta = unseal(json.loads((entry / _META).read_text(encoding="utf-8")), required=True)
        ids = _map_column(entry / _IDS, meta["columns"][_IDS])
        bounds = _map_column(entry / _BOUNDS, meta["columns"][_BOUNDS])
        report = _Tally(**meta["tally"]).report(corpora)
        rows = _corpus_rows(corpora, meta["rows"])
        _check_rows(ids, bounds, rows, max(tokenizer.vocab_size for tokenizer in tokenizers))
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        _logger.warning(
            "The prepared data in %s are damaged (%s); making them again.", entry, error
        )
        return None
    # Bounds of a row: begin, split, end; the end of a row is the begin of the next.
    return PreparedData(ids, bounds[:-1:2], bounds[1::2], bounds[2::2], rows, report)


def _check_rows(
    ids: np.ndarray, bounds: np.ndarray, rows: Sequence[CorpusRows], vocab_size: int
) -> None:
    """Raises ValueError where a row would lie outside the tokens, or a token is in no vocabulary.

    A digest is no proof of that: whoever can write the cache can write a digest too.
    """
    if len(bounds) != 2 * rows[-1].stop + 1 or bounds[0] != 0 or bounds[-1] != len(ids):
        raise ValueError("its rows are not those of its tokens")
    if np.any(np.diff(bounds) < 0) or any(corpus.stop < corpus.start for corpus in rows):
        raise ValueError("a row ends before it begins")
    if not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError("a token is in no vocabulary")


def _map_column(path: Path, description: dict[str, Any]) -> np.ndarray:
    crc32 = size = 0
    with path.open("rb") as file:
        while data := file.read(2**20):
            size += len(data)
            crc32 = zlib.crc32(data, crc32)
    if (size, crc32) != (description["size"], description["crc32"]):
        raise ValueError(f"{path.name} has {size} bytes, or other ones than were written")
    mapped = np.memmap(path, dtype=np.dtype(description["dtype"]), mode="r")
    # A view as a plain array: np.memmap's own indexing costs several times as much.
    return mapped.view(np.ndarray)


def _corpus_rows(corpora: Sequence[CorpusConfig], rows: Sequence[int]) -> tuple[CorpusRows, ...]:
    stops = itertools.accumulate(rows)
    return tuple(
        CorpusRows(corpus.kind, corpus.weight, stop - count, stop)
        for corpus, count, stop in zip(corpora, rows, stops, strict=True)
    )


def split_holdout(
    prepared: PreparedData, *, holdout: int, seed: int
) -> tuple[PreparedData, PreparedData]:
    """Splits a set into training and validation rows when there is no validation corpus.

    Rows are drawn in groups: all that share a source or a target, directly or over other rows, go
    to the same side. Where that would link too much of the set (few distinct targets), the groups
    are the rows of one source; the same source never is on both sides. Of each stream of running
    text the last `holdout` thousand tokens are held out. Never more than a tenth of either.

    Args:
        prepared: The whole set.
        holdout: Rows to hold out; of a stream, thousands of tokens.
        seed: Of the draw.

    Returns:
        The training rows and the validation rows, in their old order; both share `prepared.ids`.

    Raises:
        DataError: If the set is too small to hold anything out.
    """
    # Where the held-out part of each row begins: at its end (nothing) or begin (all of it), or, in
    # a stream, between.
    cuts = np.array(prepared.ends)
    row_parts = [np.arange(c.start, c.stop) for c in prepared.corpora if c.kind != "text"]
    if row_parts:
        rows = np.concatenate(row_parts)
        held = rows[_draw_rows(prepared, rows, min(holdout, len(rows) // 10), seed)]
        cuts[held] = prepared.begins[held]
    for corpus in prepared.corpora:
        if corpus.kind == "text":
            span = slice(corpus.start, corpus.stop)
            cuts[span] -= np.minimum(1000 * holdout, prepared.target.lengths[span] // 10)
    if np.array_equal(cuts, prepared.ends):
        raise DataError(
            f"Expected at least 10 distinct lines (running text: 10 tokens), of which a tenth can "
            f"be held out for validation; found {len(prepared)} usable. Give data.validation."
        )
    train = _with_bounds(prepared, prepared.begins, prepared.splits, cuts)
    return train, _with_bounds(prepared, cuts, np.maximum(prepared.splits, cuts), prepared.ends)


def _with_bounds(
    prepared: PreparedData, begins: np.ndarray, splits: np.ndarray, ends: np.ndarray
) -> PreparedData:
    """The set with other bounds; rows that have become empty are dropped."""
    kept = ends > begins
    rows_before = np.concatenate([[0], np.cumsum(kept)])
    corpora = tuple(
        c._replace(start=int(rows_before[c.start]), stop=int(rows_before[c.stop]))
        for c in prepared.corpora
    )
    return replace(
        prepared, begins=begins[kept], splits=splits[kept], ends=ends[kept], corpora=corpora
    )


def _draw_rows(prepared: PreparedData, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Marks the rows to hold out: `count`, or a few less where groups do not fit."""
    begins, splits, ends = prepared.begins[rows], prepared.splits[rows], prepared.ends[rows]
    targets = _group_numbers(_hash_spans(prepared.ids, splits, ends))
    # A text without a source is its own source.
    source_ends = np.where(begins == splits, ends, splits)
    sources = _group_numbers(_hash_spans(prepared.ids, begins, source_ends))
    held = _draw_groups(_linked(sources, targets), count, seed)
    if 2 * np.count_nonzero(held) < count:
        held = _draw_groups(sources, count, seed)
    return held


def _draw_groups(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Marks the rows of whole groups, in random order, as they fit into `count`."""
    sizes = np.bincount(groups)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    taken = np.zeros(len(sizes), bool)
    for group in rng.permutation(len(sizes)):
        if count == 0:
            break
        if sizes[group] <= count:
            taken[group] = True
            count -= sizes[group]
    return taken[groups]


def _linked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Joins rows that share a group in either grouping, directly or over other rows.

    Args:
        first: int64 `(rows,)`. Group numbers.
        second: int64 `(rows,)`. Group numbers.

    Returns:
        int64 `(rows,)`. Group numbers of the joined groups: connected components.
    """
    labels = np.arange(len(first))
    while True:
        spread = _least_in_group(_least_in_group(labels, first), second)
        # A label is a row of the same component. Telling that row, and then following labels, joins
        # whole parts at once: long chains take few rounds rather than one a link (the FastSV
        # algorithm, https://arxiv.org/abs/1910.05971).
        np.minimum.at(spread, labels, spread.copy())
        spread = spread[spread]
        if np.array_equal(spread, labels):
            return _group_numbers(labels)
        labels = spread


def _least_in_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    least = np.full(groups.max(initial=0) + 1, len(values))
    np.minimum.at(least, groups, values)
    return least[groups]


def _group_numbers(values: np.ndarray) -> np.ndarray:
    """Equal values as equal numbers, counted from 0."""
    return np.unique(values, return_inverse=True)[1]


def _hash_spans(ids: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Gives equal spans equal numbers, uint64 `(rows,)`.

    Other spans may collide, which does no harm: their rows are then kept together.
    """
    hashes = np.zeros(len(starts), np.uint64)
    for first in range(0, len(starts), _HASH_ROWS):
        part = slice(first, first + _HASH_ROWS)
        lengths = stops[part] - starts[part]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        tokens = ids[np.repeat(starts[part], lengths) + places]
        mixed = _mix(tokens.astype(np.uint64) << np.uint64(32) | places.astype(np.uint64))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
        hashes[part] = sums[offsets[1:]] - sums[offsets[:-1]]
    return hashes


def _mix(values: np.ndarray) -> np.ndarray:
    """Stirs all bits: the finalizer of SplitMix64, https://doi.org/10.1145/2714064.2660195."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
