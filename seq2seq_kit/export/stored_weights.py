"""Where the weights of a network are among the variables of an export.

An export stores what its graphs read: some weights as they are, others stacked, transposed or in
compact form. Its metadata say which, so that the network can be rebuilt without a second copy of
any weight in the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np
import tensorflow as tf


class Place(TypedDict):
    """Where a weight is, as JSON."""

    variable: int
    """The number of the variable that holds it."""
    transposed: NotRequired[bool]
    """Whether the variable holds it transposed."""
    rows: NotRequired[list[int]]
    """The rows of the variable that it is: the first one, and the first one after it. They count
    after transposing back."""
    scales: NotRequired[int]
    """The number of the variable by which it is to be multiplied."""


class Stored:
    """The variables of an export, and the places of a network's weights in them.

    Args:
        weights: The weights of the network.
        variables: What graphs read. A weight that is not among them is added.
        operands: The operands made of weights, as in `WeightCache.operands`.
        compact: By the identity of a weight, its compact form, and its scales or None.
    """

    def __init__(
        self,
        weights: Sequence[keras.Variable],
        variables: Sequence[tf.Variable],
        operands: Mapping[tuple[Any, ...], tf.Variable],
        compact: Mapping[int, tuple[tf.Variable, tf.Variable | None]],
    ) -> None:
        self.variables = list(variables)
        """What an export must hold, in the order of its `weights`."""
        self._numbers = {id(variable): number for number, variable in enumerate(variables)}
        self._rows = {id(weight): weight.shape[0] for weight in weights}
        self._operands = operands
        self._compact = compact
        self.places = [self._place(weight) for weight in weights]
        """The place of each weight."""

    def _place(self, weight: keras.Variable) -> Place:
        if id(weight) in self._compact:
            stored, scales = self._compact[id(weight)]
            place = Place(variable=self._numbers[id(stored)])
            if scales is not None:
                place["scales"] = self._numbers[id(scales)]
            return place
        if id(weight.value) in self._numbers:
            return Place(variable=self._numbers[id(weight.value)])
        for (is_transposed, *stacked), operand in self._operands.items():
            if id(weight) in stacked and id(operand) in self._numbers:
                place = Place(variable=self._numbers[id(operand)])
                if is_transposed:
                    place["transposed"] = True
                if len(stacked) > 1:
                    first = sum(self._rows[one] for one in stacked[: stacked.index(id(weight))])
                    place["rows"] = [first, first + self._rows[id(weight)]]
                return place
        self.variables.append(weight.value)
        return Place(variable=len(self.variables) - 1)


def read_weight(place: Place, variables: Sequence[tf.Variable]) -> np.ndarray:
    """Returns a weight, float32, as the graphs of an export read it.

    Args:
        place: Where it is.
        variables: The variables of the loaded export.
    """
    array = variables[place["variable"]].numpy().astype(np.float32)
    if "scales" in place:
        array = array * variables[place["scales"]].numpy()
    if place.get("transposed", False):
        array = array.T
    return array[slice(*place["rows"])] if "rows" in place else array
