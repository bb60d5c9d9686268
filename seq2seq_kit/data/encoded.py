"""Encoded text: token ids in one flat, memory-mapped array, and where each row lies in it.

A row is three positions (begin, split, end), so that a subset of the rows copies no token. Knows
nothing of files, batches or TensorFlow.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seq2seq_kit.config.sections import PAIR_KINDS, CorpusKind
from seq2seq_kit.data.report import EncodingReport
from seq2seq_kit.special_ids import EOS_ID

# A million tokens show how frequent each one is.
_COUNTED_ROWS = 100_000
_COUNTED_TOKENS = 1_000_000


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
    """The rows that one corpus has in an encoded set."""

    kind: CorpusKind
    """A row is a pair, a line of `lines`, or the whole stream of `text`."""
    weight: float
    """How often an epoch shows each row."""
    start: int
    """The first row."""
    stop: int
    """The row after the last."""

    @property
    def has_source(self) -> bool:
        """Whether the rows have a source side."""
        return self.kind in PAIR_KINDS


@dataclass(frozen=True, eq=False)
class EncodedData:
    """The rows of a training, validation or test set as token ids.

    Source and target of a row are adjacent: the source is `ids[begin:split]` and the target is
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
    lines: np.ndarray
    """int64 `(rows,)`. The line of its corpus that each row was read from, counted from 1; the
    first line for a stream."""
    corpora: tuple[CorpusRows, ...]
    """The rows of each corpus, in the order of the config."""
    report: EncodingReport
    """Counts of the corpora as they were read; a part split off later keeps those of the whole."""

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


def target_shares(data: EncodedData, vocab_size: int) -> np.ndarray:
    """Returns the share of each token among the targets of an epoch, EOS included.

    Counts at most `_COUNTED_ROWS` rows of a corpus, evenly spaced, and as many tokens of a text.

    Args:
        data: Encoded texts, whose corpora count by their weights.
        vocab_size: Tokens of the target vocabulary.

    Returns:
        float64 `(vocab_size,)`, positive: each token counts once more than it occurs.
    """
    counts = np.ones(vocab_size)
    for corpus in data.corpora:
        num_rows = corpus.stop - corpus.start
        counted = min(num_rows, _COUNTED_ROWS)
        rows = [corpus.start + index * num_rows // counted for index in range(counted)]
        targets = [data.target[row][:_COUNTED_TOKENS] for row in rows]
        own = np.bincount(np.concatenate([[], *targets]).astype(int), minlength=vocab_size)
        own[EOS_ID] += counted
        counts += own * (corpus.weight * num_rows / max(counted, 1))
    return np.asarray(counts / counts.sum())


def unigram_perplexity(data: EncodedData) -> float:
    """Returns the perplexity of predicting each target token by its frequency in the same data.

    A model that does no better has learned nothing from the tokens before the predicted one.
    """
    targets = data.target
    counts = np.bincount(np.concatenate([targets[row] for row in range(len(targets))]))
    shares = np.append(counts[counts > 0], len(targets))  # EOS ends each row.
    shares = shares / shares.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
