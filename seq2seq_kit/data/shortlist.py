"""A lexical shortlist: for each source token its likely target tokens, learned from the pairs.

With it, decoding computes the logits of these tokens only instead of the whole vocabulary's. The
list of a line depends only on the line: the tokens that are frequent in any text, and the likeliest
translations of each of its tokens by IBM Model 1 (Brown et al., 1993, section 4.1,
https://aclanthology.org/J93-2003/). The idea is that of Jean et al., 2015, section 4,
https://aclanthology.org/P15-1001/.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.data.encoded import Sequences
from seq2seq_kit.errors import RunError
from seq2seq_kit.special_ids import EOS_ID, NUM_SPECIAL_IDS

# Why these: docs/decisions/0007-size-of-the-shortlist.md.
_FREQUENT = 1500
_TRANSLATIONS = 20

# Iterations of expectation maximization; more of them hardly change the order of the likeliest.
_ITERATIONS = 5
# Pairs of a source and a target token to learn from: half a GB of memory.
_MAX_LINKS = 10_000_000


class Shortlist:
    """The target tokens that each source token can be translated to.

    Args:
        frequent: int32 `(tokens,)`. Target tokens on the list of every line, without the special
            ones.
        translations: int32 `(source vocabulary, tokens)`. The likeliest target tokens of each
            source token; EOS fills the end of a row with fewer.
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
            sources: Token ids of the sources, without EOS.
            targets: Token ids of their targets, in the same order, without EOS.
            source_vocab_size: Source vocabulary.
            vocab_size: Target vocabulary.
            seed: Seed of the sample of rows that is used of a large corpus.
        """
        rows = _choose_rows(sources.lengths + 1, targets.lengths, seed)
        # EOS is the source token of target tokens that translate no other.
        source_rows = [np.append(sources[row], EOS_ID) for row in rows]
        target_rows = [targets[row] for row in rows]
        counts = np.bincount(np.concatenate(target_rows), minlength=vocab_size)
        frequent = (
            NUM_SPECIAL_IDS + np.argsort(-counts[NUM_SPECIAL_IDS:], kind="stable")[:_FREQUENT]
        )
        keys, probabilities = _model_1(_link(source_rows, target_rows), vocab_size)
        translations = _likeliest(keys, probabilities, source_vocab_size, vocab_size)
        return cls(frequent.astype(np.int32), translations)

    def joined(self, other: Self) -> Self:
        """Returns a shortlist with the tokens of both, which have the same vocabularies."""
        return type(self)(
            np.union1d(self.frequent, other.frequent),
            np.concatenate([self.translations, other.translations], axis=1),
        )

    def save(self, path: Path) -> None:
        """Writes the shortlist, whole or not at all."""
        arrays = {"frequent": self.frequent, "translations": self.translations}
        save_archive(path, arrays.items(), {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Returns a shortlist that `save` wrote.

        Raises:
            RunError: If the file is missing or damaged.
        """
        arrays = load_archive(path).arrays
        shapes = {name: (array.dtype.name, array.ndim) for name, array in arrays.items()}
        if shapes != {"frequent": ("int32", 1), "translations": ("int32", 2)}:
            raise RunError(f"The shortlist {path} is damaged. Restore it from a copy.")
        return cls(**arrays)

    def fits(self, *, source_vocab_size: int, vocab_size: int) -> bool:
        """Whether it belongs to vocabularies of these sizes."""
        ids = np.concatenate([self.frequent, self.translations.ravel()])
        in_vocabulary = bool(((ids >= 0) & (ids < vocab_size)).all())
        return in_vocabulary and len(self.translations) == source_vocab_size


class _Links(NamedTuple):
    """All pairs of a source and a target token of the same pair of texts."""

    source_ids: np.ndarray  # int64 (links,)
    target_ids: np.ndarray  # int64 (links,)
    targets: np.ndarray  # int64 (links,): position of the target token in the corpus


def _choose_rows(source_lengths: np.ndarray, target_lengths: np.ndarray, seed: int) -> np.ndarray:
    """Returns the rows to learn from: all, or a random sample within `_MAX_LINKS`."""
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
    """Runs expectation maximization for `p(target token | source token)`.

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
        # Each target token is divided among the source tokens of its pair ...
        shares = probabilities[pair_of]
        shares /= np.bincount(links.targets, shares)[links.targets]
        # ... and the sum of the shares of a source token is its distribution.
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
