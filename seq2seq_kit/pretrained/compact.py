"""Weights as small arrays: float16, bfloat16, or int8 with a scale for each row or each column.

A vector, such as a bias, stays float32: all of them together are a hundredth of a model. What each
form costs in quality, `seq2seq_kit.packing` measures for every model.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np

from seq2seq_kit.errors import RunError

Storage = Literal["float32", "float16", "bfloat16", "int8"]
"""How matrices are stored: in 4, 2, 2 or 1 byte a weight."""

_WEIGHTS, _SCALES = "weights/", "scales/"
_LARGEST = 127  # int8 without -128, so that the range is symmetric.


def compact(
    arrays: Iterable[tuple[str, np.ndarray]], storage: Storage
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays to store in place of float32 weights.

    Args:
        arrays: Names that begin with `weights/`, and float32 arrays.
        storage: How matrices are stored. bfloat16 becomes its bits, uint16; int8 gets a second
            array, `scales/...`, by which it is to be multiplied.
    """
    for name, array in arrays:
        if array.ndim < 2 or storage == "float32":
            yield name, array
        elif storage == "float16":
            yield name, array.astype(np.float16)
        elif storage == "bfloat16":
            yield name, _as_bfloat16(array)
        else:
            rounded, scales = _as_int8(array)
            yield name, rounded
            yield name.replace(_WEIGHTS, _SCALES, 1), scales


def expand(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the float32 weights of arrays that `compact` made; others stay as they are.

    Raises:
        RunError: If an int8 array lacks its scales, or they do not fit.
    """
    expanded = {}
    for name, array in arrays.items():
        if name.startswith(_SCALES):
            continue
        if array.dtype == np.uint16:
            expanded[name] = (array.astype(np.uint32) << 16).view(np.float32)
        elif array.dtype == np.float16:
            expanded[name] = array.astype(np.float32)
        elif array.dtype == np.int8:
            expanded[name] = array.astype(np.float32) * scales_of(name, arrays)
        else:
            expanded[name] = array
    return expanded


def scales_of(name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the scales of an int8 array, by which it is to be multiplied.

    Args:
        name: The name of the array, `weights/...`.
        arrays: What `compact` made.

    Raises:
        RunError: If they are missing, or do not fit.
    """
    array, scales = arrays[name], arrays.get(name.replace(_WEIGHTS, _SCALES, 1))
    ones = [1] * (array.ndim - 1)
    by_row, by_column = [array.shape[0], *ones], [*ones, array.shape[-1]]
    fits = scales is not None and list(scales.shape) in (by_row, by_column)
    if scales is None or not fits or scales.dtype != np.float32:
        raise RunError(
            f"The weights {name} are stored as int8, but their scales are missing or do not fit. "
            f"Restore the file from a copy."
        )
    return scales


def _as_bfloat16(array: np.ndarray) -> np.ndarray:
    """Returns the bits of the nearest bfloat16 numbers, ties to even; uint16."""
    bits = array.view(np.uint32)
    # The upper half of a float32 is a bfloat16; what is added carries into it where it rounds up.
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _as_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds to multiples of a scale; returns an int8 array and its scales.

    Each row has a scale or each column, whichever are more: a scale is then shared by fewer weights
    and follows them more closely.
    """
    by_row = array.shape[0] > array.shape[-1]
    axes = tuple(range(1, array.ndim) if by_row else range(array.ndim - 1))
    scales = np.max(np.abs(array), axis=axes, keepdims=True) / np.float32(_LARGEST)
    scales = np.where(scales > 0, scales, np.float32(1))
    return np.rint(array / scales).astype(np.int8), scales
