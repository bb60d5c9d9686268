"""Weights stored small: what comes back, and how far it is from what went in."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.errors import RunError
from seq2seq_kit.pretrained.compact import Storage, compact, expand

RNG = np.random.default_rng(1)
# More rows than columns, more columns than rows, a bias, zeros, and a matrix for each of two parts.
# Rows and columns are of very different sizes.
BY_ROW = RNG.normal(size=(40, 6)).astype(np.float32)
BY_ROW *= np.float32(10) ** np.arange(-20, 20, dtype=np.float32)[:, None]
BY_COLUMN = BY_ROW.T.copy()
BIAS = RNG.normal(size=40).astype(np.float32)
ZEROS = np.zeros((3, 4), np.float32)
PARTS = RNG.normal(size=(2, 5, 7)).astype(np.float32)
WEIGHTS = [
    (f"weights/{index}", array)
    for index, array in enumerate((BY_ROW, BY_COLUMN, BIAS, ZEROS, PARTS))
]


def there_and_back(storage: Storage) -> dict[str, np.ndarray]:
    return expand(dict(compact(WEIGHTS, storage)))


def test_float32_comes_back_as_it_was() -> None:
    for (name, array), found in zip(WEIGHTS, there_and_back("float32").items(), strict=True):
        assert found[0] == name
        np.testing.assert_array_equal(found[1], array)


def test_bfloat16_rounds_as_tensorflow_does() -> None:
    edges = [1.0, -0.0, 3.0e38, 1.17e-38, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20]
    array = np.concatenate([np.array(edges, np.float32), BY_ROW.ravel()])[None]
    (_, stored), *_ = compact([("weights/0", array)], "bfloat16")
    expected = tf.cast(tf.cast(array, tf.bfloat16), tf.float32).numpy()
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(expand({"weights/0": stored})["weights/0"], expected)


def test_int8_is_within_half_a_step_of_each_row_or_column() -> None:
    found = there_and_back("int8")
    for index, array, axes in ((0, BY_ROW, (1,)), (1, BY_COLUMN, (0,)), (4, PARTS, (0, 1))):
        half_step = np.abs(array).max(axis=axes, keepdims=True) / 127 / 2
        error = np.abs(found[f"weights/{index}"] - array)
        assert (error <= half_step * (1 + 1e-5)).all()


def test_int8_takes_a_quarter_of_the_bytes() -> None:
    array = RNG.normal(size=(200, 300)).astype(np.float32)
    stored = dict(compact([("weights/0", array)], "int8"))
    assert sum(one.nbytes for one in stored.values()) < 0.27 * array.nbytes


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_biases_and_zeros_come_back_as_they_were(storage: Storage) -> None:
    found = there_and_back(storage)
    np.testing.assert_array_equal(found["weights/2"], BIAS)
    np.testing.assert_array_equal(found["weights/3"], ZEROS)


@pytest.mark.parametrize(
    "scales", [None, np.ones((40, 6), np.float32), np.ones((40, 1)), np.ones(40, np.float32)]
)
def test_scales_that_do_not_fit_are_refused(scales: np.ndarray | None) -> None:
    stored = dict(compact(WEIGHTS[:1], "int8"))
    del stored["scales/0"]
    if scales is not None:
        stored["scales/0"] = scales
    with pytest.raises(RunError, match="weights/0 are stored as int8, but their scales"):
        expand(stored)
