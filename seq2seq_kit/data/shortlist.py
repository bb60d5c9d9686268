"""A lexical shortlist: the target tokens that a source can come out as, learnt from the pairs.

With it decoding computes a logit for each token of the list instead of the whole vocabulary. A
line's list is its own, whatever stands beside it in a batch: the tokens that are frequent in any
text, and the likeliest translations of each of its tokens by IBM Model 1 (Brown et al., 1993,
section 4.1, https://aclanthology.org/J93-2003/). The idea is that of Jean et al., 2015, section 4,
https://aclanthology.org/P15-1001/.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.data.encoded import Sequences
from seq2seq_kit.decoding.numerics import BLOCK
from seq2seq_kit.errors import RunError
from seq2seq_kit.special_ids import EOS_ID, NUM_SPECIAL_IDS, PAD_ID

# Why these: docs/decisions/0007-size-of-the-shortlist.md.
_FREQUENT = 1500
_TRANSLATIONS = 20

_ITERATIONS = 5  # Of expectation maximisation; more change the order of the likeliest little.
_MAX_LINKS = 10_000_000  # Pairs of a source and a target token to learn from: half a GB of memory.


class Columns(NamedTuple):
    """The tokens that some lines can come out as."""

    token_ids: tf.Tensor
    """int32 `(columns,)`. Each token once; padding, unknown, BOS and EOS at their own ids. Padding
    fills the end."""
    allowed: tf.Tensor
    """bool `(lines, columns)`. Whether a token is on a line's own list; of the special tokens only
    EOS is."""


class Shortlist:
    """Which target tokens each source token can come out as.

    Args:
        frequent: int32 `(tokens,)`. Target tokens that are on every list, without the special ones.
        translations: int32 `(source vocabulary, tokens)`. For each source token its likeliest
            target tokens; EOS stands where there are too few.
    """

    def __init__(self, frequent: np.ndarray, translations: np.ndarray) -> None:
        self.frequent = frequent
        self.translations = translations

    @classmethod
    def learn(
        cls,
        sources: Sequences,
        targets: Sequences,
        *,
        source_vocab_size: int,
        vocab_size: int,
        seed: int,
    ) -> Self:
        """Returns the shortlist of a parallel corpus.

        Args:
            sources: Token ids of the inputs, without EOS.
            targets: Token ids of their outputs, row by row, without EOS.
            source_vocab_size: Of the inputs.
            vocab_size: Of the outputs.
            seed: Of the choice of rows, where a corpus is larger than what is learnt from.
        """
        rows = _choose_rows(sources.lengths + 1, targets.lengths, seed)
        # EOS is the source token of what has no translation of its own.
        source_rows = [np.append(sources[row], EOS_ID) for row in rows]
        target_rows = [targets[row] for row in rows]
        counts = np.bincount(np.concatenate(target_rows), minlength=vocab_size)
        frequent = (
            NUM_SPECIAL_IDS + np.argsort(-counts[NUM_SPECIAL_IDS:], kind="stable")[:_FREQUENT]
        )
        keys, probabilities = _model_1(_link(source_rows, target_rows), vocab_size)
        translations = _likeliest(keys, probabilities, source_vocab_size, vocab_size)
        return cls(frequent.astype(np.int32), translations)

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        arrays = {"frequent": self.frequent, "translations": self.translations}
        save_archive(path, arrays.items(), {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Returns what `save` wrote.

        Raises:
            RunError: If the file is missing or damaged.
        """
        arrays = load_archive(path).arrays
        shapes = {name: (array.dtype.name, array.ndim) for name, array in arrays.items()}
        if shapes != {"frequent": ("int32", 1), "translations": ("int32", 2)}:
            raise RunError(f"The shortlist {path} is damaged. Restore it from a copy.")
        return cls(**arrays)

    def fits(self, *, source_vocab_size: int, vocab_size: int) -> bool:
        """Whether all its tokens are in vocabularies of these sizes."""
        ids = np.concatenate([self.frequent, self.translations.ravel()])
        in_vocabulary = bool(((ids >= 0) & (ids < vocab_size)).all())
        return in_vocabulary and len(self.translations) == source_vocab_size

    def columns(self, source_ids: tf.Tensor) -> Columns:
        """Returns the tokens that lines can come out as; in graph.

        Args:
            source_ids: int32 `(lines, time)`, right-padded.
        """
        always = tf.concat([tf.range(NUM_SPECIAL_IDS), self.frequent], axis=0)
        own = tf.gather(tf.constant(self.translations), source_ids)
        token_ids, places = tf.unique(tf.concat([always, tf.reshape(own, [-1])], axis=0))
        fill = [[0, -tf.size(token_ids) % BLOCK]]
        token_ids = tf.pad(token_ids, fill, constant_values=PAD_ID)
        lines, number = tf.shape(source_ids)[0], tf.size(always)
        # (lines, time * translations)
        places = tf.reshape(places[number:], (lines, -1))
        line_of = tf.broadcast_to(tf.range(lines)[:, tf.newaxis], tf.shape(places))
        on_all = tf.tile((tf.range(tf.size(token_ids)) < number)[tf.newaxis], (lines, 1))
        allowed = tf.tensor_scatter_nd_update(
            on_all, tf.stack([line_of, places], axis=-1), tf.ones_like(places, tf.bool)
        )
        return Columns(token_ids, allowed & (token_ids >= EOS_ID))


class _Links(NamedTuple):
    """All pairs of a source and a target token that stand in the same pair of texts."""

    source_ids: np.ndarray  # int64 (links,)
    target_ids: np.ndarray  # int64 (links,)
    targets: np.ndarray  # int64 (links,): which target token of the corpus


def _choose_rows(source_lengths: np.ndarray, target_lengths: np.ndarray, seed: int) -> np.ndarray:
    """Returns the rows to learn from: all, or as many as `_MAX_LINKS` allows, drawn at random."""
    rows = np.random.default_rng(seed).permutation(len(source_lengths))
    links = np.cumsum((source_lengths * target_lengths)[rows])
    return np.sort(rows[: max(1, int(np.searchsorted(links, _MAX_LINKS, side="right")))])


def _link(sources: list[np.ndarray], targets: list[np.ndarray]) -> _Links:
    first = np.cumsum([0, *map(len, targets)])
    pairs = list(zip(sources, targets, first[:-1], strict=True))
    return _Links(
        np.concatenate([np.repeat(source, len(target)) for source, target, _ in pairs]),
        np.concatenate([np.tile(target, len(source)) for source, target, _ in pairs]),
        np.concatenate([np.tile(start + np.arange(len(t)), len(s)) for s, t, start in pairs]),
    )


def _model_1(links: _Links, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs expectation maximisation for `p(target token | source token)`.

    Returns:
        int64 `source id * vocab_size + target id` of the pairs that occur, in ascending order,
        and their probabilities.
    """
    keys, pair_of = np.unique(
        links.source_ids.astype(np.int64) * vocab_size + links.target_ids, return_inverse=True
    )
    source_of = keys // vocab_size
    probabilities = np.ones(len(keys))
    for _ in range(_ITERATIONS):
        # Each target token is shared out among the source tokens of its pair ...
        shares = probabilities[pair_of]
        shares /= np.bincount(links.targets, shares)[links.targets]
        # ... and what each source token got is its distribution.
        counts = np.bincount(pair_of, shares, minlength=len(keys))
        probabilities = counts / np.bincount(source_of, counts)[source_of]
    return keys, probabilities


def _likeliest(
    keys: np.ndarray, probabilities: np.ndarray, source_vocab_size: int, vocab_size: int
) -> np.ndarray:
    """Returns the likeliest target tokens of each source token, int32."""
    source_of, target_of = np.divmod(keys, vocab_size)
    order = np.lexsort((-probabilities, source_of))
    source_of, target_of = source_of[order], target_of[order]
    rank = np.arange(len(keys)) - np.searchsorted(source_of, source_of)
    kept = rank < _TRANSLATIONS
    table = np.full((source_vocab_size, _TRANSLATIONS), EOS_ID, np.int32)
    table[source_of[kept], rank[kept]] = target_of[kept]
    return table
