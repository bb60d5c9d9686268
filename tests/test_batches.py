"""Batches of a plan: against arrays written by hand."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from rows import encode_rows, encode_stream, plan_of, random_pairs, shown_rows

from seq2seq_kit.data.batches import make_dataset

PAD, BOS, EOS = 0, 2, 3


def elements_of(dataset: tf.data.Dataset) -> list[dict[str, np.ndarray]]:
    return list(dataset.as_numpy_iterator())


def test_pairs_for_an_encoder_decoder() -> None:
    data = encode_rows([([11, 12], [21]), ([13], [22, 23, 24])])
    plan = plan_of(data, batch_size=2, shuffle=False)
    (element,) = elements_of(make_dataset(data, plan))
    assert element["source_ids"].tolist() == [[11, 12, EOS], [13, EOS, PAD]]
    assert element["decoder_input_ids"].tolist() == [[BOS, 21, PAD, PAD], [BOS, 22, 23, 24]]
    assert element["target_ids"].tolist() == [[21, EOS, PAD, PAD], [22, 23, 24, EOS]]
    assert element["weights"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert element["num_tokens"] == 6
    dtypes = {key: value.dtype for key, value in element.items()}
    assert dtypes.pop("weights") == dtypes.pop("num_tokens") == np.float32
    assert set(dtypes.values()) == {np.dtype(np.int32)}


def test_pairs_for_a_language_model() -> None:
    data = encode_rows([([11, 12], [21]), ([13], [22])])
    plan = plan_of(data, architecture="language_model", batch_size=2, shuffle=False)
    (element,) = elements_of(make_dataset(data, plan))
    assert "source_ids" not in element
    assert element["decoder_input_ids"].tolist() == [[BOS, 13, 22, PAD], [BOS, 11, 12, 21]]
    assert element["target_ids"].tolist() == [[13, 22, EOS, PAD], [11, 12, 21, EOS]]
    assert element["num_tokens"] == 7


def test_windows_for_an_encoder_decoder() -> None:
    data = encode_stream(6)
    plan = plan_of(data, window=4)
    shown = shown_rows(data, plan)
    (element,) = elements_of(make_dataset(data, plan))
    for row, (source, target) in enumerate(shown):
        expected_target = [*target, EOS] if 15 in target else list(target)
        ids = element["source_ids"][row].tolist()
        assert ids == [*source, EOS] + [PAD] * (len(ids) - len(source) - 1)
        real = element["weights"][row] > 0
        assert element["target_ids"][row][real].tolist() == expected_target
        assert element["decoder_input_ids"][row][real].tolist() == [BOS, *expected_target[:-1]]


def test_a_dataset_can_start_at_any_batch() -> None:
    data = encode_rows(random_pairs(100))
    plan = plan_of(data)
    whole = elements_of(make_dataset(data, plan))
    for start in (0, 1, 5, len(plan)):
        rest = make_dataset(data, plan, start=start)
        assert len(rest) == len(plan) - start
        for expected, element in zip(whole[start:], elements_of(rest), strict=True):
            for key in expected:
                np.testing.assert_array_equal(element[key], expected[key])


@pytest.mark.parametrize(("num_workers", "replicas_per_worker"), [(1, 2), (3, 1), (2, 3), (1, 16)])
def test_replicas_share_each_batch(num_workers: int, replicas_per_worker: int) -> None:
    data = encode_rows(random_pairs(90))
    plan = plan_of(data, batch_size=16)  # The last of the six batches has 10 rows.
    whole = elements_of(make_dataset(data, plan))
    num_replicas = num_workers * replicas_per_worker
    per_worker = [
        elements_of(
            make_dataset(
                data,
                plan,
                worker=worker,
                num_workers=num_workers,
                replicas_per_worker=replicas_per_worker,
            )
        )
        for worker in range(num_workers)
    ]
    for index, expected in enumerate(whole):
        first = index * replicas_per_worker
        parts = [
            part for worker in per_worker for part in worker[first : first + replicas_per_worker]
        ]
        assert len({part["target_ids"].shape for part in parts}) == 1
        for replica, part in enumerate(parts):
            real = np.flatnonzero(part["weights"].any(axis=1))
            for key in ("source_ids", "decoder_input_ids", "target_ids", "weights"):
                np.testing.assert_array_equal(part[key][real], expected[key][replica::num_replicas])
            assert part["source_ids"].any(axis=1).all()  # A row of padding alone stops cuDNN.
            assert part["target_ids"].any(axis=1).all()
            assert part["num_tokens"] == expected["weights"].sum()


def test_shapes_are_unknown_but_ranks_are_not() -> None:
    data = encode_rows(random_pairs(20))
    spec = make_dataset(data, plan_of(data)).element_spec
    assert spec.pop("num_tokens").shape == ()
    assert set(spec) == {"source_ids", "decoder_input_ids", "target_ids", "weights"}
    assert all(tensor.shape.as_list() == [None, None] for tensor in spec.values())


def test_a_dataset_outlives_the_names_of_its_parts_but_not_itself() -> None:
    data = encode_rows(random_pairs(100))
    plan = plan_of(data)
    reference, num_batches = weakref.ref(plan), len(plan)
    iterator = iter(make_dataset(data, plan).map(lambda element: element["target_ids"]))
    del plan
    gc.collect()
    assert sum(1 for _ in iterator) == num_batches
    del iterator
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 8}, r"`start` must be from 0 to 7 batches. Received: start=8"),
        ({"start": -1}, r"Received: start=-1"),
        ({"worker": 2, "num_workers": 2}, r"`worker` must be from 0 to 1 .* Received: worker=2"),
    ],
)
def test_a_dataset_outside_the_plan_is_an_error(options: dict[str, int], message: str) -> None:
    data = encode_rows(random_pairs(100))
    with pytest.raises(ValueError, match=message):
        make_dataset(data, plan_of(data), **options)
