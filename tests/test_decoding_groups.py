"""Groups of lines, with a search that only notes what it is given."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.decoding import SearchResult, search_in_groups
from seq2seq_kit.decoding.groups import LENGTH_STEP, group_sizes, split_into_groups

SIZES = (4, 8, 16, 32, 48, 64)
BATCH_SIZES = (1, 2, 7, 16, 32, 64, 1000)


class Recorder:
    """A search whose result for a line is the sum of its ids; keeps the ids of each call."""

    def __init__(self) -> None:
        self.groups: list[np.ndarray] = []
        self.copies: list[list[bool]] = []

    def __call__(self, ids: tf.Tensor, lines: tf.Tensor, is_copy: tf.Tensor) -> SearchResult:
        self.groups.append(ids.numpy())
        self.copies.append(is_copy.numpy().tolist())
        sums = tf.reduce_sum(ids, axis=1)[:, tf.newaxis]
        numbers = tf.cast(sums, tf.float32)
        return SearchResult(
            tf.stack([sums, sums + 1], axis=2),
            tf.ones_like(sums),
            numbers,
            2 * numbers,
            sums % 2 == 1,
        )


def lines_of(count: int, longest: int = 11) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, longest + 1, count).astype(np.int32)
    ids = rng.integers(4, 90, (count, longest)).astype(np.int32)
    return np.where(np.arange(longest) < lengths[:, None], ids, 0), lengths


def run(ids: np.ndarray, lengths: np.ndarray, **options: Any) -> tuple[Recorder, SearchResult]:
    search = Recorder()
    found = search_in_groups(
        search,
        tf.constant(ids),
        tf.constant(lengths),
        sizes=SIZES,
        max_length=1,
        num_hypotheses=1,
        **options,
    )
    return search, found


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_results_come_in_the_order_of_the_lines(batch_size: int) -> None:
    ids, lengths = lines_of(150)
    _, found = run(ids, lengths, batch_size=batch_size)
    sums = ids.sum(axis=1)
    np.testing.assert_array_equal(found.token_ids[:, 0], np.stack([sums, sums + 1], axis=1))
    np.testing.assert_array_equal(found.log_probs[:, 0], sums)
    np.testing.assert_array_equal(found.scores[:, 0], 2 * sums)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_groups_have_few_row_counts_and_each_line_its_own_length(batch_size: int) -> None:
    ids, lengths = lines_of(150)
    search, _ = run(ids, lengths, batch_size=batch_size)
    for group in search.groups:
        assert len(group) == min(size for size in SIZES if size >= len(group))
        longest = np.count_nonzero(group, axis=1).max()
        assert group.shape[1] == -(-longest // LENGTH_STEP) * LENGTH_STEP
        assert len({-(-np.count_nonzero(row) // LENGTH_STEP) for row in group}) == 1


@pytest.mark.parametrize("batch_size", [3, 7, 64, 1000])
def test_the_groups_are_known_before_the_search(batch_size: int) -> None:
    ids, lengths = lines_of(250)
    search, _ = run(ids, lengths, batch_size=batch_size)
    groups = split_into_groups(lengths, batch_size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(250))
    for lines, group, copies in zip(groups, search.groups, search.copies, strict=True):
        found = group[~np.array(copies)]
        width = min(found.shape[1], ids.shape[1])
        np.testing.assert_array_equal(ids[lines][:, :width], found[:, :width])


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_no_group_holds_more_lines_than_asked_nor_an_empty_one(batch_size: int) -> None:
    ids, lengths = lines_of(100)
    search, _ = run(ids, lengths, batch_size=batch_size)
    for group in search.groups:
        different = {tuple(row) for row in group.tolist()}
        assert len(different) <= batch_size
        assert group[:, 0].all()


def test_missing_rows_are_copies_of_the_first() -> None:
    search, _ = run(np.array([[5, 6, 0], [7, 0, 0]], np.int32), np.array([2, 1], np.int32))
    (group,) = search.groups
    assert group.tolist() == [[5, 6, 0, 0], [7, 0, 0, 0], *[[5, 6, 0, 0]] * 2]
    assert search.copies == [[False] * 2 + [True] * 2]


@pytest.mark.parametrize(
    ("width", "sizes"), [(4, SIZES), (256, SIZES), (6, (16, 32, 48, 64)), (9, (16, 32, 48, 64))]
)
def test_the_rows_of_a_group_fill_whole_registers(width: int, sizes: tuple[int, ...]) -> None:
    assert group_sizes(width) == sizes


@pytest.mark.parametrize("columns", [0, 1, 5])
def test_no_line_needs_no_search(columns: int) -> None:
    search, found = run(np.zeros((0, columns), np.int32), np.zeros(0, np.int32))
    assert not search.groups
    assert {part.shape[0] for part in found} == {0}


def test_padding_of_the_input_does_not_reach_the_search() -> None:
    ids, lengths = lines_of(20)
    narrow, _ = run(ids, lengths)
    wide, _ = run(np.pad(ids, [(0, 0), (0, 9)]), lengths)
    for one, other in zip(narrow.groups, wide.groups, strict=True):
        np.testing.assert_array_equal(one, other)
