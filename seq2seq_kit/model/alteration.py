"""Alterations of a trained network: parts of its layers, and its attention, held or scaled.

They are variables, so that a graph that was traced once serves every alteration. A network without
alterations has none of their operations. Knows neither layers nor texts.
"""

from typing import Any

import numpy as np
import tensorflow as tf


class LayerAlteration:
    """Scales the parts of a recurrent layer, unit by unit, and adds to them.

    Args:
        parts: The names of the parts: gates, cell, hidden state.
        units: Units of the layer.

    Call arguments:
        part: The name of a part.
        value: float `(..., units)`. What the layer computed.

    Returns:
        What the layer goes on with: `scale * value + offset`; at first the value itself.
    """

    def __init__(self, parts: tuple[str, ...], units: int) -> None:
        self.parts = parts
        self.scales = tf.Variable(tf.ones((len(parts), units)), trainable=False)
        self.offsets = tf.Variable(tf.zeros((len(parts), units)), trainable=False)

    def __call__(self, part: str, value: tf.Tensor) -> tf.Tensor:
        place = self.parts.index(part)
        scale, offset = (
            tf.cast(tf.convert_to_tensor(variable)[place], value.dtype)
            for variable in (self.scales, self.offsets)
        )
        return scale * value + offset

    def assign(self, scales: np.ndarray, offsets: np.ndarray) -> None:
        """Replaces the alteration; both are float `(parts, units)`."""
        self.scales.assign(scales)
        self.offsets.assign(offsets)


class AttentionOverride:
    """Replaces the attention weights of some decoding steps.

    Call arguments:
        weights: float32 `(batch, rows, source_time)`. What attention computed.
        steps: int32 `(batch, rows)` or `(rows,)`. The step of each row, from 0.

    Returns:
        float32 `(batch, rows, source_time)`. The same, with the given weights at the given steps.
    """

    def __init__(self) -> None:
        self.table = tf.Variable(
            tf.zeros((1, 1)), trainable=False, shape=[None, None], name="attention_table"
        )
        self.is_given = tf.Variable(
            tf.zeros((1,), tf.bool), trainable=False, shape=[None], name="attention_is_given"
        )

    def __call__(self, weights: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        table, is_given = map(tf.convert_to_tensor, (self.table, self.is_given))
        source_time = tf.shape(weights)[-1]
        # Sources of a group are padded to its longest, which has no fewer tokens than the weights.
        missing = tf.maximum(source_time - tf.shape(table)[1], 0)
        table = tf.pad(table, [[0, 0], [0, missing]])[:, :source_time]
        place = tf.minimum(steps, tf.size(is_given) - 1)
        replaced = tf.gather(is_given, place) & (steps < tf.size(is_given))
        return tf.where(replaced[..., tf.newaxis], tf.gather(table, place), weights)

    def assign(self, weights: dict[int, np.ndarray]) -> None:
        """Replaces the override.

        Args:
            weights: float `(source_time,)` for each step that is overridden.
        """
        width = max((len(row) for row in weights.values()), default=1)
        table = np.zeros((max(weights, default=0) + 1, width), np.float32)
        is_given = np.zeros(len(table), bool)
        for step, row in weights.items():
            table[step, : len(row)] = row
            is_given[step] = True
        self.table.assign(table)
        self.is_given.assign(is_given)


def unaltered(part: str, value: Any) -> Any:
    """Returns the value of a part of a layer that is not altered."""
    return value
