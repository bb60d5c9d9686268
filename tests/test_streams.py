"""Streams of running text: against texts read token by token in plain Python."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from rows import REPORT

from seq2seq_kit.data import streams
from seq2seq_kit.data.batches import make_dataset
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.streams import StreamPlan, StreamSet

PAD, BOS, EOS = 0, 2, 3


def encode_texts(*corpora: list[int], weights: tuple[float, ...] = ()) -> EncodedData:
    """Texts of the given lengths, with ids that count from 10."""
    lengths = [length for corpus in corpora for length in corpus]
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    rows, start = [], 0
    for corpus, weight in zip(corpora, weights or [1.0] * len(corpora), strict=True):
        rows.append(CorpusRows("text", weight, start, start + len(corpus)))
        start += len(corpus)
    ids, begins = np.arange(10, 10 + bounds[-1]), bounds[:-1]
    return EncodedData(
        ids, begins, begins, bounds[1:], np.arange(len(lengths)), tuple(rows), REPORT
    )


def stream_set(data: EncodedData, **options: Any) -> StreamSet:
    defaults = {
        "window": 8,
        "batch_size": 4,
        "batch_unit": "sentences",
        "seed": 1,
        "shuffle": True,
    }
    return StreamSet(data, **(defaults | options))


def batches_of(data: EncodedData, plan: StreamPlan, **options: Any) -> list[dict[str, np.ndarray]]:
    return list(make_dataset(data, plan, **options).as_numpy_iterator())


def with_ends(data: EncodedData) -> list[list[int]]:
    """The targets of each text: its ids and EOS."""
    return [
        [*data.ids[begin:end].tolist(), EOS]
        for begin, end in zip(data.begins, data.ends, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    lengths=strategies.lists(strategies.integers(1, 90), min_size=1, max_size=6),
    window=strategies.integers(1, 30),
    batch_size=strategies.integers(1, 9),
    epoch=strategies.integers(0, 9),
    shuffle=strategies.booleans(),
)
def test_every_token_and_every_end_is_a_target_once(
    lengths: list[int], window: int, batch_size: int, epoch: int, shuffle: bool
) -> None:
    data = encode_texts(lengths)
    plan = stream_set(data, window=window, batch_size=batch_size, shuffle=shuffle).plan(epoch)
    shown: Counter[tuple[int, int]] = Counter()
    for begins, sizes, unscored in zip(plan.begins, plan.lengths, plan.unscored, strict=True):
        for begin, size, skipped in zip(begins, sizes, unscored, strict=True):
            shown.update(range(begin + skipped, begin + size))
    # The EOS of a text has the position of the first token of the next text.
    expected = Counter(range(sum(lengths)))
    expected.update(np.cumsum(lengths).tolist())
    assert shown == expected
    assert plan.ends_text.sum() == len(lengths)
    assert plan.num_tokens.sum() == sum(lengths) + len(lengths)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_row_reads_on_where_it_stopped_and_restarts_where_a_text_begins(shuffle: bool) -> None:
    data = encode_texts([50, 3, 31], [120])
    plan = stream_set(data, shuffle=shuffle).plan(0)
    first_ids = {10, 60, 63, 94}
    rows: list[list[tuple[int, int]]] = [[] for _ in range(plan.begins.shape[1])]
    for batch in batches_of(data, plan):
        for row, read in enumerate(rows):
            real = batch["target_ids"][row] != PAD
            inputs = batch["decoder_input_ids"][row][real].tolist()
            targets = batch["target_ids"][row][real].tolist()
            assert inputs[1:] == targets[:-1]
            if not targets:
                continue
            if batch["restarts"][row]:
                assert inputs[0] == BOS
            else:
                assert inputs[0] == read[-1][1]
            if read and read[-1][1] == EOS:
                assert batch["restarts"][row]
            read += zip(inputs, targets, strict=True)
    for read in rows:
        for before, target in read:
            assert before == BOS or target in (before + 1, EOS)
            if target in first_ids:
                assert before == BOS


def test_rows_of_a_batch_have_windows_of_one_length_around_the_mean() -> None:
    plan = stream_set(encode_texts([60_000]), window=70).plan(0)
    longest = plan.lengths.max(axis=1)[:-2]
    shorter = plan.lengths[:-2] < longest[:, np.newaxis]
    assert shorter.sum() <= 2, "only where the text ends, and where the epoch has cut it"
    halves = longest < 52
    assert 0.02 < halves.mean() < 0.09
    assert longest[~halves].mean() == pytest.approx(70, abs=1.5)
    assert longest[~halves].std() == pytest.approx(5, abs=1)
    assert longest.max() <= 80


def test_rows_begin_at_other_places_in_each_epoch() -> None:
    of_epochs = [stream_set(encode_texts([1000])).plan(epoch).begins[0] for epoch in range(5)]
    assert len(np.unique(of_epochs)) == 20


def test_the_same_arguments_give_the_same_plan() -> None:
    first, second = (stream_set(encode_texts([300, 70])).plan(3) for _ in range(2))
    np.testing.assert_array_equal(first.begins, second.begins)
    np.testing.assert_array_equal(first.restarts, second.restarts)
    other = stream_set(encode_texts([300, 70]), seed=2).plan(3)
    assert first.begins[0].tolist() != other.begins[0].tolist()


def test_a_long_text_sometimes_restarts_and_many_texts_need_not() -> None:
    long = stream_set(encode_texts([200_000]), window=10).plan(0)
    assert long.restarts.mean() == pytest.approx(0.01, rel=0.2)
    texts = [200] * 1000
    many = stream_set(encode_texts(texts), window=10).plan(0)
    # One for each text, one where each row begins, and one at the cut of the first text.
    is_read = many.lengths > 0
    assert len(texts) + 4 <= many.restarts[is_read].sum() <= len(texts) + 5


def test_weights_repeat_texts() -> None:
    data = encode_texts([400], [300], [200, 200], weights=(2.0, 1.25, 0.5))
    drawn = []
    for epoch in range(2):
        plan = stream_set(data).plan(epoch)
        shown: Counter[int] = Counter()
        for begins, sizes, ends in zip(plan.begins, plan.lengths, plan.ends_text, strict=True):
            for begin, size, is_end in zip(begins, sizes, ends, strict=True):
                shown.update(range(begin, begin + size - is_end))
        assert {shown[place] for place in range(400)} == {2}
        assert {shown[place] for place in range(400, 700)} == {1, 2}
        again = [place for place in range(400, 700) if shown[place] == 2]
        assert len(again) == pytest.approx(75, abs=1)
        half = {place for place in range(700, 1100) if shown[place]}
        assert len(half) == pytest.approx(200, abs=2)
        drawn.append(half)
    assert drawn[0] != drawn[1]


def test_windows_for_a_language_model() -> None:
    data = encode_texts([5, 2])
    plan = stream_set(data, window=4, batch_size=1, shuffle=False).plan(0)
    elements = batches_of(data, plan)
    assert [element["decoder_input_ids"].tolist() for element in elements] == [
        [[BOS, 10, 11, 12]],
        [[13, 14]],
        [[BOS, 15, 16]],
    ]
    assert [element["target_ids"].tolist() for element in elements] == [
        [[10, 11, 12, 13]],
        [[14, EOS]],
        [[15, 16, EOS]],
    ]
    assert [element["restarts"].tolist() for element in elements] == [[True], [False], [True]]
    assert [element["num_tokens"] for element in elements] == [4, 2, 3]
    assert {float(element["usual_tokens"]) for element in elements} == {4.0}


def test_validation_rows_first_read_the_tokens_before_their_stretch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_SHORTEST_STRETCH", 40)
    monkeypatch.setattr(streams, "_WARM_UP", 6)
    data = encode_texts([60, 41, 20])
    plan = stream_set(data, window=5, shuffle=False).plan(7)
    assert plan.begins.shape[1] == 4  # 124 targets
    # 13, 9 and 5 windows, EOS included: rows start after 0, 6.75, 13.5 and 20.25 of them, at
    # targets 0 and 33 of the first text, and 2 and 36 of the second.
    assert plan.begins[0].tolist() == [0, 27, 60, 90]
    assert plan.unscored[:2].tolist() == [[0, 5, 2, 5], [0, 1, 0, 1]]
    assert plan.restarts[:2].tolist() == [[True] * 4, [False] * 4]
    targets = [
        int(target)
        for batch in batches_of(data, plan)
        for target in batch["target_ids"][batch["weights"] > 0]
    ]
    assert sorted(targets) == sorted(token for text in with_ends(data) for token in text)


@pytest.mark.parametrize(("num_workers", "replicas_per_worker"), [(1, 2), (2, 2)])
def test_a_row_is_always_on_the_same_replica(num_workers: int, replicas_per_worker: int) -> None:
    data = encode_texts([100, 37])
    plan = stream_set(data, batch_size=5).plan(0)
    whole = batches_of(data, plan)
    replicas = num_workers * replicas_per_worker
    for worker in range(num_workers):
        options = {"num_workers": num_workers, "replicas_per_worker": replicas_per_worker}
        elements = batches_of(data, plan, worker=worker, **options)
        for index, element in enumerate(elements):
            batch, local = divmod(index, replicas_per_worker)
            own = range(worker * replicas_per_worker + local, 5, replicas)
            assert len(element["target_ids"]) == -(-5 // replicas)
            for place, row in enumerate(own):
                for key in ("decoder_input_ids", "target_ids", "weights", "restarts"):
                    np.testing.assert_array_equal(element[key][place], whole[batch][key][row])
            assert not element["weights"][len(own) :].any()


def test_a_batch_of_tokens_has_as_many_rows_of_a_window_as_fit() -> None:
    plan = stream_set(encode_texts([5000]), batch_size=90, batch_unit="tokens").plan(0)
    assert plan.begins.shape[1] == 11


def test_few_tokens_need_few_rows() -> None:
    plan = stream_set(encode_texts([4]), batch_size=64).plan(0)
    assert plan.lengths.tolist() == [[1] * 5]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"window": 0}])
def test_sizes_must_be_positive(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        stream_set(encode_texts([5]), **options)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_short_texts_end_an_epoch_with_those_of_long_ones(seed: int) -> None:
    data = encode_texts([3000, 2000], [5] * 1000)
    plan = stream_set(data, window=40, batch_size=8, seed=seed).plan(0)
    is_active = plan.lengths > 0
    # Texts of 5 tokens take a window each: rows of equal numbers of tokens would differ by 8 times.
    assert is_active.sum(axis=0).min() > 0.8 * len(plan)
