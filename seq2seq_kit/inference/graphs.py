"""A search as graphs: one for each set of the options that are no tensors in it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.inference.inputs import PREFIX_SIGNATURE, SIGNATURE, Inputs, Prefixes
from seq2seq_kit.inference.search import Found, ModelSearch
from seq2seq_kit.special_ids import EOS_ID, PAD_ID

# A line of one token, and the beginning of its output.
_ONE_LINE = Inputs(
    np.full((1, 1), EOS_ID, np.int32),
    np.ones(1, np.int32),
    np.zeros(1, bool),
    np.zeros(1, np.int64),
)
_NO_PREFIX = Prefixes(np.full((1, 1), PAD_ID, np.int32), np.zeros(1, np.int32), np.zeros(1, bool))


class SearchGraphs:
    """Runs a search as a graph, which is traced when its options come for the first time.

    Args:
        search: The search.
    """

    def __init__(self, search: ModelSearch) -> None:
        self._search = search
        self._graph = functools.lru_cache(maxsize=8)(self._trace)

    def search(
        self, decoding: DecodingConfig, num_hypotheses: int, *, has_prefixes: bool
    ) -> Callable[[Inputs, Prefixes | None], Found]:
        """Returns the search with some options; several threads may call it at the same time.

        Args:
            decoding: The options.
            num_hypotheses: As in `ModelSearch`, as are the arguments of the search, but arrays.
            has_prefixes: Whether the beginnings of outputs are given.
        """
        graph = self._graph(decoding.of_graph(), num_hypotheses, has_prefixes)
        numbers = graph_numbers(decoding)

        def search(inputs: Inputs, prefixes: Prefixes | None) -> Found:
            tensors = tf.nest.map_structure(tf.constant, (inputs, prefixes or ()))
            return Found(*graph(*tensors, numbers))

        return search

    def _trace(self, decoding: DecodingConfig, num_hypotheses: int, has_prefixes: bool) -> Any:
        """Returns the graph of a search, which takes the graph numbers at each call."""

        @tf.function(
            input_signature=[
                SIGNATURE,
                PREFIX_SIGNATURE if has_prefixes else (),
                graph_number_specs(),
            ],
            autograph=False,  # Its loops are TensorFlow's own already.
        )
        def search(
            inputs: Inputs, prefixes: Prefixes | tuple[()], numbers: dict[str, tf.Tensor]
        ) -> Found:
            return self._search(
                inputs,
                decoding.model_copy(update=numbers),
                num_hypotheses=num_hypotheses,
                prefixes=prefixes if isinstance(prefixes, Prefixes) else None,
            )

        # As a graph, even where other code has functions run eagerly.
        graph = search.get_concrete_function()
        # TensorFlow optimizes a graph in its first calls: threads would each do it in theirs.
        prefixes = _NO_PREFIX if has_prefixes else ()
        tensors = tf.nest.map_structure(tf.constant, (_ONE_LINE, prefixes))
        graph(*tensors, graph_numbers(DecodingConfig(max_length=1)))
        return graph


@functools.lru_cache(maxsize=64)  # Making these tensors takes 3 % of the time of a short line.
def graph_numbers(decoding: DecodingConfig) -> dict[str, tf.Tensor]:
    """Returns the options that graphs take as tensors."""
    with tf.init_scope():  # Never of the graph in which they are first asked for.
        return {
            name: tf.constant(getattr(decoding, name), dtype)
            for name, dtype in DecodingConfig.graph_numbers().items()
        }


def graph_number_specs() -> dict[str, tf.TensorSpec]:
    """Returns the types of `graph_numbers`."""
    return {
        name: tf.TensorSpec([], dtype) for name, dtype in DecodingConfig.graph_numbers().items()
    }
