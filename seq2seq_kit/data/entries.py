"""Encoded corpora in the cache: each set encoded once, then memory-mapped.

An entry is a folder: the ids, the bounds and line numbers of the rows, and a description with the
sizes and checksums of these arrays. Its name is a digest of everything that the ids depend on.
"""

import itertools
import json
import logging
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from seq2seq_kit import bounds as bounds_of_files
from seq2seq_kit.atomic import remove_folder, write_folder
from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data.cache import cache_folder, describe_corpus
from seq2seq_kit.data.encode import CorpusEncoder, LengthLimits
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.report import Tally
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests, digest, seal, unseal
from seq2seq_kit.errors import DataError, RunError
from seq2seq_kit.files import why_not_regular

_logger = logging.getLogger(__name__)

# Part of every key: raised with each change of the layout below.
_FORMAT_VERSION = 4
_IDS, _BOUNDS, _LINES = "ids.bin", "bounds.bin", "lines.bin"
_DESCRIPTION = "entry.json"


def encode_corpora(
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    limits: LengthLimits,
    digests: FileDigests,
) -> EncodedData:
    """Encodes a set of corpora into memory-mapped ids, or opens its entry in the cache.

    An entry appears in the cache whole or not at all, and a damaged one is replaced.

    Args:
        corpora: The set; paths are absolute.
        tokenizers: The source side's is unused where there is no source.
        limits: How long a line may be, and what happens to a longer one.
        digests: The digests of the files.

    Returns:
        The rows of all corpora, in the order of `corpora` and of their lines.

    Raises:
        DataError: If a file cannot be used or changes while it is read, a line is too long and
            `limits.long_lines` is "error", or no line is left.
        RunError: If the cache folder cannot be written.
    """
    entry = cache_folder() / _entry_key(corpora, tokenizers, limits, digests)
    data = _open_entry(entry, corpora, tokenizers)
    if data is None:
        _create_entry(entry, corpora, tokenizers, limits, digests)
        data = _open_entry(entry, corpora, tokenizers)
    if data is None:
        raise RunError(
            f"The encoded data were written to {entry} and cannot be read back. "
            "Check that disk, or set S2S_CACHE_DIR to a folder on another one."
        )
    skipped = data.report.kept < data.report.lines or data.report.truncated
    _logger.log(logging.WARNING if skipped else logging.INFO, "Encoded data: %s", data.report)
    return data


def _entry_key(
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    limits: LengthLimits,
    digests: FileDigests,
) -> str:
    content = {
        "format_version": _FORMAT_VERSION,
        "corpora": [describe_corpus(corpus, digests) for corpus in corpora],
        "tokenizers": [tokenizer.fingerprint for tokenizer in tokenizers],
        "limits": limits._asdict(),
    }
    return digest(json.dumps(content, sort_keys=True).encode())


def _create_entry(
    entry: Path,
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    limits: LengthLimits,
    digests: FileDigests,
) -> None:
    """Writes an entry, unless another process creates a whole one in the meantime."""
    with (
        suppress(FileExistsError),
        write_folder(entry, "The encoded data", private=True, setting="S2S_CACHE_DIR") as new,
    ):
        _write_entry(new, corpora, tokenizers, limits)
        # The name holds the digests of the files, so the ids must be of the same contents.
        for corpus in corpora:
            digests.check_unchanged(corpus.files)
        if entry.exists() and _open_entry(entry, corpora, tokenizers) is None:
            remove_folder(entry)


def _write_entry(
    folder: Path, corpora: Sequence[CorpusConfig], tokenizers: Tokenizers, limits: LengthLimits
) -> None:
    tally = Tally()
    rows_of_corpora = []
    small = all(tokenizer.vocab_size <= 2**16 for tokenizer in tokenizers)
    with (
        _ArrayFile(folder / _IDS, np.dtype("<u2" if small else "<i4")) as ids,
        _ArrayFile(folder / _BOUNDS, np.dtype("<i8")) as bounds,
        _ArrayFile(folder / _LINES, np.dtype("<i8")) as lines,
    ):
        bounds.append(np.zeros(1))
        end = 0
        for index in range(len(corpora)):
            rows = 0
            for chunk in CorpusEncoder(corpora, index, tokenizers, limits, tally).chunks():
                ids.append(chunk.ids)
                bounds.append(end + np.cumsum(chunk.lengths))
                lines.append(chunk.lines)
                end += int(chunk.lengths.sum())
                rows += len(chunk.lines)
            rows_of_corpora.append(rows)
        arrays = {
            name: file.description()
            for name, file in {_IDS: ids, _BOUNDS: bounds, _LINES: lines}.items()
        }
    if not sum(rows_of_corpora):
        raise DataError(
            f"Expected at least one line to use, but none is left: {tally.report(corpora)}. "
            "Check the columns of the corpora and data.max_source_length, data.max_target_length."
        )
    description = {"arrays": arrays, "rows": rows_of_corpora, "tally": asdict(tally)}
    (folder / _DESCRIPTION).write_text(json.dumps(seal(description)), encoding="utf-8")


def _open_entry(
    entry: Path, corpora: Sequence[CorpusConfig], tokenizers: Tokenizers
) -> EncodedData | None:
    """Returns the rows of an entry, or None if it is missing or damaged."""
    if not entry.exists():
        return None
    try:
        for name in (_DESCRIPTION, _IDS, _BOUNDS, _LINES):
            if reason := why_not_regular(entry / name):
                raise ValueError(f"{name}: {reason}")
        if reason := why_not_regular(entry / _DESCRIPTION, bounds_of_files.MAX_RECORD_BYTES):
            raise ValueError(f"{_DESCRIPTION}: {reason}")
        text = (entry / _DESCRIPTION).read_text(encoding="utf-8")
        description = unseal(json.loads(text), required=True)
        ids, bounds, lines = (
            _map_array(entry / name, description["arrays"][name])
            for name in (_IDS, _BOUNDS, _LINES)
        )
        report = Tally(**description["tally"]).report(corpora)
        rows = _corpus_rows(corpora, description["rows"])
        _check_rows(ids, bounds, lines, rows)
        if not 0 <= ids.min() <= ids.max() < max(one.vocab_size for one in tokenizers):
            raise ValueError("a token is in no vocabulary")
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        _logger.warning("The encoded data in %s are damaged (%s); making them again.", entry, error)
        return None
    # The borders of a row are its start, split and end; its end is the start of the next row.
    return EncodedData(ids, bounds[:-1:2], bounds[1::2], bounds[2::2], lines, rows, report)


def _check_rows(
    ids: np.ndarray, bounds: np.ndarray, lines: np.ndarray, rows: Sequence[CorpusRows]
) -> None:
    """Raises ValueError if a row lies outside the tokens, or arrays do not fit together.

    A matching digest does not rule that out: who can write the cache can write a digest too.
    """
    if len(bounds) != 2 * rows[-1].stop + 1 or bounds[0] != 0 or bounds[-1] != len(ids):
        raise ValueError("its rows are not those of its tokens")
    if len(lines) != rows[-1].stop:
        raise ValueError("its rows are not those of its lines")
    if np.any(np.diff(bounds) < 0) or any(corpus.stop < corpus.start for corpus in rows):
        raise ValueError("a row ends before it begins")


def _corpus_rows(corpora: Sequence[CorpusConfig], rows: Sequence[int]) -> tuple[CorpusRows, ...]:
    stops = itertools.accumulate(rows)
    return tuple(
        CorpusRows(corpus.kind, corpus.weight, stop - count, stop)
        for corpus, count, stop in zip(corpora, rows, stops, strict=True)
    )


class _ArrayFile:
    """A file that an array is appended to in parts, with its size and checksum."""

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


def _map_array(path: Path, description: dict[str, Any]) -> np.ndarray:
    """Returns the array of a file, memory-mapped. Raises ValueError if it is damaged."""
    crc32 = size = 0
    with path.open("rb") as file:
        while data := file.read(2**20):
            size += len(data)
            crc32 = zlib.crc32(data, crc32)
    if (size, crc32) != (description["size"], description["crc32"]):
        raise ValueError(f"{path.name} does not hold the {description['size']} bytes written")
    mapped = np.memmap(path, dtype=np.dtype(description["dtype"]), mode="r")
    # A view as a plain array: np.memmap's own indexing costs several times as much.
    return mapped.view(np.ndarray)
