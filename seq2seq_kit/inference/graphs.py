"""A search as graphs: one for each set of the options that are no tensors in it."""

import functools
from typing import Any

import tensorflow as tf

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.inference.inputs import PREFIX_SIGNATURE, SIGNATURE, Inputs, Prefixes
from seq2seq_kit.inference.search import Found, ModelSearch


class SearchGraphs:
    """Runs a search as a graph, which is traced when its options come for the first time.

    Args:
        search: The search.
    """

    def __init__(self, search: ModelSearch) -> None:
        self._search = search
        self._graph = functools.lru_cache(maxsize=8)(self._trace)

    def __call__(
        self,
        inputs: Inputs,
        decoding: DecodingConfig,
        *,
        num_hypotheses: int,
        prefixes: Prefixes | None,
    ) -> Found:
        """Returns the outputs of some lines; arguments as in `ModelSearch`, but arrays."""
        fixed = decoding.model_copy(update=dict.fromkeys(DecodingConfig.graph_numbers()))
        graph = self._graph(fixed, num_hypotheses, prefixes is not None)
        tensors = tf.nest.map_structure(tf.constant, (inputs, prefixes or ()))
        return Found(*graph(*tensors, graph_numbers(decoding)))

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
        return search.get_concrete_function()


@functools.lru_cache(maxsize=64)  # Making these tensors takes 3 % of the time of a short line.
def graph_numbers(decoding: DecodingConfig) -> dict[str, tf.Tensor]:
    """Returns the options that graphs take as tensors."""
    return {
        name: tf.constant(getattr(decoding, name), dtype)
        for name, dtype in DecodingConfig.graph_numbers().items()
    }


def graph_number_specs() -> dict[str, tf.TensorSpec]:
    """Returns the types of `graph_numbers`."""
    return {
        name: tf.TensorSpec([], dtype) for name, dtype in DecodingConfig.graph_numbers().items()
    }
