"""Plans of epochs: against rows gathered one by one in plain Python."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies
from rows import encode_rows, encode_stream, plan_of, random_pairs, shown_rows

from seq2seq_kit.data.batches import make_dataset
from seq2seq_kit.data.plan import padded_length

PAD, BOS, EOS = 0, 2, 3


def elements_of(dataset: tf.data.Dataset) -> list[dict[str, np.ndarray]]:
    return list(dataset.as_numpy_iterator())


def test_padded_lengths_are_rungs_of_a_ladder() -> None:
    ladder = [*range(21), *range(22, 41, 2), *range(44, 81, 4), *range(88, 161, 8), 176, 192]
    expected = [min(rung for rung in ladder if rung >= length) for length in range(193)]
    assert padded_length(np.arange(193)).tolist() == expected


@pytest.mark.parametrize("architecture", ["encoder_decoder", "language_model"])
@pytest.mark.parametrize(("batch_unit", "batch_size"), [("sentences", 16), ("tokens", 500)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_is_shown_once(
    architecture: str, batch_unit: str, batch_size: int, shuffle: bool
) -> None:
    rows = random_pairs(333)
    data = encode_rows(rows)
    plan = plan_of(
        data,
        architecture=architecture,
        batch_unit=batch_unit,
        batch_size=batch_size,
        shuffle=shuffle,
    )
    if architecture == "language_model":
        rows = [([], source + target) for source, target in rows]
    assert sorted(shown_rows(data, plan)) == sorted((tuple(s), tuple(t)) for s, t in rows)


def test_batches_of_sentences_are_full_but_for_one() -> None:
    plan = plan_of(encode_rows(random_pairs(333)), batch_size=16)
    assert Counter(len(batch.rows) for batch in plan) == {16: 20, 13: 1}


def test_batches_of_tokens_keep_the_limit() -> None:
    data = encode_rows([*random_pairs(500), ([4] * 300, [5] * 20)])
    plan = plan_of(data, batch_unit="tokens", batch_size=256)
    sizes = []
    for batch in plan:
        positions = len(batch.rows) * max(batch.source_length, batch.target_length)
        assert positions <= 256 or len(batch.rows) == 1
        sizes.append(len(batch.rows))
    assert 1 in sizes  # The row that alone is too long still is shown.
    assert all(size % 8 == 0 for size in sizes if size > 8)


def test_a_batch_knows_its_lengths_and_tokens() -> None:
    data = encode_rows(random_pairs(200))
    plan = plan_of(data)
    for batch in plan:
        sources = data.source.lengths[batch.rows] + 1
        targets = data.target.lengths[batch.rows] + 1
        longest_source = data.source.lengths.max() + 1
        longest_target = data.target.lengths.max() + 1
        assert batch.source_length == min(padded_length(sources).max(), longest_source)
        assert batch.target_length == min(padded_length(targets).max(), longest_target)
        assert batch.num_tokens == targets.sum()


def test_padding_share_is_what_the_masks_say() -> None:
    data = encode_rows(random_pairs(200))
    for architecture in ("encoder_decoder", "language_model"):
        plan = plan_of(data, architecture=architecture)
        positions = real = 0
        for element in elements_of(make_dataset(data, plan)):
            for key in {"source_ids", "target_ids"} & element.keys():
                positions += element[key].size
                real += np.count_nonzero(element[key] != PAD)
        assert plan.padding_share == pytest.approx(1 - real / positions)


def test_little_padding_and_few_shapes_on_lengths_like_those_of_sentences() -> None:
    data = encode_rows(random_pairs(30_000))
    plans = [plan_of(data, batch_size=64, epoch=epoch) for epoch in range(2)]
    shapes = [
        {(len(batch.rows), batch.source_length, batch.target_length) for batch in plan}
        for plan in plans
    ]
    assert plans[0].padding_share < 0.03
    assert shapes[0] == shapes[1]  # A step compiled in the first epoch serves in all.
    assert len(shapes[0]) < 200


def test_the_same_arguments_give_the_same_plan() -> None:
    rows = random_pairs(300)
    plans = [plan_of(encode_rows(rows), epoch=3) for _ in range(2)]
    for first, second in zip(*plans, strict=True):
        assert first.rows.tolist() == second.rows.tolist()


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 1}])
def test_seed_and_epoch_change_the_batches_and_their_order(change: dict[str, int]) -> None:
    # Few distinct lengths: which rows share a batch is then mostly a matter of the draw.
    data = encode_rows([([number], [number] * (1 + number % 2)) for number in range(4, 200)])
    before, after = plan_of(data), plan_of(data, **change)
    first, second = ([frozenset(batch.rows.tolist()) for batch in p] for p in (before, after))
    assert not set(first) & set(second)
    assert before.num_tokens.tolist() != after.num_tokens.tolist()


def test_without_shuffle_rows_come_by_length_in_the_same_order_each_epoch() -> None:
    data = encode_rows(random_pairs(300), [("tsv", 2.5, 300)])
    plans = [plan_of(data, shuffle=False, epoch=epoch) for epoch in range(2)]
    assert shown_rows(data, plans[0]) == shown_rows(data, plans[1])
    lengths = plans[0].target_lengths.tolist()
    assert lengths == sorted(lengths)
    assert len(plans[0].order) == 300


def test_weights_repeat_rows() -> None:
    rows = [([4 + number], [4 + number]) for number in range(60)]
    data = encode_rows(rows, [("tsv", 2.0, 20), ("tsv", 1.25, 20), ("tsv", 0.5, 20)])
    drawn = []
    for epoch in range(2):
        counts = Counter(row[0][0] - 4 for row in shown_rows(data, plan_of(data, epoch=epoch)))
        assert [counts[row] for row in range(20)] == [2] * 20
        assert sorted(counts[row] for row in range(20, 40)) == [1] * 15 + [2] * 5
        assert sorted(counts[row] for row in range(40, 60)) == [0] * 10 + [1] * 10
        drawn.append({row for row in range(40, 60) if counts[row]})
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("num_tokens", [1, 7, 8, 9, 100, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_token_of_running_text_is_shown_once(num_tokens: int, shuffle: bool) -> None:
    data = encode_stream(num_tokens)
    for epoch in range(4):
        plan = plan_of(data, shuffle=shuffle, epoch=epoch)
        shown = [token for row in shown_rows(data, plan) for side in row for token in side]
        assert sorted(shown) == list(range(10, 10 + num_tokens))
        assert np.count_nonzero(plan.examples.ends_text) == 1


def test_windows_are_full_but_for_the_ends_and_begin_anywhere() -> None:
    data = encode_stream(1000)
    first_lengths = set()
    for epoch in range(30):
        examples = plan_of(data, epoch=epoch).examples
        lengths = examples.source_lengths + examples.target_lengths + examples.ends_text
        assert set(lengths[1:-1].tolist()) == {8}
        assert 1 <= lengths[0] <= 8
        assert 1 <= lengths[-1] <= 8
        first_lengths.add(int(lengths[0]))
    assert first_lengths == set(range(1, 9))


def test_windows_and_lines_are_split_anywhere_into_prompt_and_continuation() -> None:
    line = list(range(1000, 1006))
    data = encode_rows(
        [([], range(10, 410)), ([], line), ([], [9])], [("text", 1.0, 1), ("lines", 1.0, 2)]
    )
    line_splits = set()
    for epoch in range(50):
        for source, target in shown_rows(data, plan_of(data, epoch=epoch)):
            if source + target == tuple(line):
                line_splits.add(len(source))
            if len(source) + len(target) > 1:
                assert source
                assert target
            else:
                assert not source
    assert line_splits == {1, 2, 3, 4, 5}


def test_a_weight_repeats_a_stream_with_other_windows() -> None:
    data = encode_stream(800, weight=2.0)
    plan = plan_of(data)
    counts = Counter(token for row in shown_rows(data, plan) for side in row for token in side)
    assert set(counts.values()) == {2}
    assert len(set(plan.examples.begins.tolist())) > 190


def test_each_text_of_a_corpus_has_windows_and_an_end_for_itself() -> None:
    data = encode_rows([([], range(10, 40)), ([], range(40, 43))], [("text", 1.0, 2)])
    plan = plan_of(data, shuffle=False)
    windows = [
        tuple(data.ids[begin : begin + source + target].tolist())
        for begin, source, target, _ in zip(*plan.examples, strict=True)
    ]
    first = [tuple(range(10 + 8 * place, min(18 + 8 * place, 40))) for place in range(4)]
    assert windows == [*first, (40, 41, 42)]
    assert plan.examples.ends_text.tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"window": 0}])
def test_sizes_must_be_positive(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        plan_of(encode_rows(random_pairs(5)), **options)


LENGTHS = strategies.integers(1, 60)
PAIRS = strategies.lists(strategies.tuples(LENGTHS, LENGTHS), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    lengths=PAIRS,
    architecture=strategies.sampled_from(["encoder_decoder", "language_model"]),
    batch_unit=strategies.sampled_from(["sentences", "tokens"]),
    batch_size=strategies.integers(1, 200),
    epoch=strategies.integers(0, 9),
    shuffle=strategies.booleans(),
)
def test_any_plan_shows_every_row_once_in_batches_that_hold_it(
    lengths: list[tuple[int, int]],
    architecture: str,
    batch_unit: str,
    batch_size: int,
    epoch: int,
    shuffle: bool,
) -> None:
    rows = [([n] * source, [n] * target) for n, (source, target) in enumerate(lengths, start=4)]
    options = {"architecture": architecture, "batch_unit": batch_unit, "batch_size": batch_size}
    plan = plan_of(encode_rows(rows), epoch=epoch, shuffle=shuffle, **options)
    joined = [([], source + target) for source, target in rows]
    expected = joined if architecture == "language_model" else rows
    assert sorted(shown_rows(encode_rows(rows), plan)) == sorted(
        (tuple(source), tuple(target)) for source, target in expected
    )
    for batch in plan:
        chosen = plan.examples.take(batch.rows)
        has_source = architecture == "encoder_decoder"
        assert batch.num_tokens == sum(chosen.target_lengths + 1)
        assert batch.target_length >= max(chosen.target_lengths + 1)
        assert batch.source_length >= max(chosen.source_lengths + has_source)
        positions = len(batch.rows) * max(batch.source_length, batch.target_length)
        size = positions if batch_unit == "tokens" else len(batch.rows)
        assert size <= batch_size or len(batch.rows) == 1


@settings(max_examples=40, deadline=None)
@given(
    num_tokens=strategies.integers(1, 90),
    window=strategies.integers(1, 40),
    epoch=strategies.integers(0, 9),
    shuffle=strategies.booleans(),
)
def test_any_plan_of_running_text_shows_every_token_and_its_end_once(
    num_tokens: int, window: int, epoch: int, shuffle: bool
) -> None:
    data = encode_stream(num_tokens)
    plan = plan_of(data, epoch=epoch, shuffle=shuffle, window=window)
    tokens = [token for row in shown_rows(data, plan) for side in row for token in side]
    assert sorted(tokens) == data.ids.tolist()
    assert plan.examples.ends_text.sum() == 1
    lengths = plan.examples.source_lengths + plan.examples.target_lengths
    assert max(lengths + plan.examples.ends_text) <= window
