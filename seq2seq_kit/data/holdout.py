"""Validation rows held out of the training data, where a config names no validation corpus."""

from dataclasses import replace

import numpy as np

from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.errors import DataError

# Rows hashed at once: bounds the temporary arrays to a few dozen MB.
_HASH_ROWS = 100_000


def split_holdout(data: EncodedData, *, holdout: int, seed: int) -> tuple[EncodedData, EncodedData]:
    """Splits a set into training and validation rows when there is no validation corpus.

    Rows are drawn in groups: rows that share a source or a target, directly or through other rows,
    go to the same side. If that would link too much of the set (few distinct targets), the groups
    are the rows with the same source; a source is never on both sides. Of running text, the last
    texts of each corpus are held out, up to `holdout` thousand tokens, or the end of the last one
    if it is longer. At most a tenth of the rows, or of the tokens of running text, is held out.

    Args:
        data: The whole set.
        holdout: Rows to hold out; of running text, thousands of tokens.
        seed: Seed of the draw.

    Returns:
        The training rows and the validation rows, in their order in `data`; both share `data.ids`.

    Raises:
        DataError: If the set is too small to hold anything out.
    """
    # Where the held-out part of each row begins: at its end (nothing is held out), at its start
    # (the whole row is), or, in a stream, in between.
    cuts = np.array(data.ends)
    row_parts = [np.arange(c.start, c.stop) for c in data.corpora if c.kind != "text"]
    if row_parts:
        rows = np.concatenate(row_parts)
        held = rows[_draw_rows(data, rows, min(holdout, len(rows) // 10), seed)]
        cuts[held] = data.begins[held]
    for corpus in data.corpora:
        if corpus.kind == "text" and corpus.stop > corpus.start:
            span = slice(corpus.start, corpus.stop)
            cuts[span] = _cut_texts(data.begins[span], data.ends[span], 1000 * holdout)
    if np.array_equal(cuts, data.ends):
        raise DataError(
            f"Expected at least 10 distinct lines (running text: 10 tokens), of which a tenth can "
            f"be held out for validation; found {len(data)} usable. Give data.validation."
        )
    train = _with_bounds(data, data.begins, data.splits, cuts)
    return train, _with_bounds(data, cuts, np.maximum(data.splits, cuts), data.ends)


def _cut_texts(begins: np.ndarray, ends: np.ndarray, num_tokens: int) -> np.ndarray:
    """Returns where the held-out part of each text begins; arguments are of adjacent texts."""
    first = int(ends[-1]) - min(num_tokens, int(ends[-1] - begins[0]) // 10)
    if first <= begins[-1]:  # Whole texts fit.
        return np.where(begins >= first, begins, ends)
    return np.append(ends[:-1], first)


def _with_bounds(
    data: EncodedData, begins: np.ndarray, splits: np.ndarray, ends: np.ndarray
) -> EncodedData:
    """Returns the set with other bounds, without the rows that are empty then."""
    kept = ends > begins
    rows_before = np.concatenate([[0], np.cumsum(kept)])
    corpora = tuple(
        c._replace(start=int(rows_before[c.start]), stop=int(rows_before[c.stop]))
        for c in data.corpora
    )
    return replace(
        data,
        begins=begins[kept],
        splits=splits[kept],
        ends=ends[kept],
        lines=data.lines[kept],
        corpora=corpora,
    )


def _draw_rows(data: EncodedData, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Marks the rows to hold out: `count` of them, or a few less if the groups do not fit."""
    begins, splits, ends = data.begins[rows], data.splits[rows], data.ends[rows]
    targets = _group_numbers(_hash_spans(data.ids, splits, ends))
    # A text without a source is its own source.
    source_ends = np.where(begins == splits, ends, splits)
    sources = _group_numbers(_hash_spans(data.ids, begins, source_ends))
    held = _draw_groups(_linked(sources, targets), count, seed)
    if 2 * np.count_nonzero(held) < count:
        held = _draw_groups(sources, count, seed)
    return held


def _draw_groups(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Marks the rows of whole groups, drawn in random order as long as they fit into `count`."""
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
    """Joins rows that share a group in either grouping, directly or through other rows.

    Args:
        first: int64 `(rows,)`. Group numbers.
        second: int64 `(rows,)`. Group numbers.

    Returns:
        int64 `(rows,)`. Numbers of the joined groups, the connected components.
    """
    labels = np.arange(len(first))
    while True:
        spread = _least_in_group(_least_in_group(labels, first), second)
        # A label is a row of the same component. Passing the label on to that row, and then
        # following labels, joins whole parts at once: a long chain takes a few rounds instead of
        # one for each link (the FastSV algorithm, https://arxiv.org/abs/1910.05971).
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
    """Returns the same number for equal values, counted from 0."""
    return np.unique(values, return_inverse=True)[1]


def _hash_spans(ids: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Returns a hash of each span, uint64 `(rows,)`.

    Different spans may collide, which does no harm: their rows are then on the same side.
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
    """Mixes all bits with the finalizer of SplitMix64, https://doi.org/10.1145/2714064.2660195."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
