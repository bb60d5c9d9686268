"""The graph of an export: its signatures, from strings to strings or numbers.

It is traced without cuDNN, so that it runs on any machine whatever machine made it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit import bounds
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.export.codec import Codec, checked_number
from seq2seq_kit.export.folder import LongLines, as_json
from seq2seq_kit.export.scoring import score_targets
from seq2seq_kit.export.states import StateGraphs
from seq2seq_kit.export.stored_weights import Place, Stored
from seq2seq_kit.export.weights import CompactWeights
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.inference.state import has_single_state
from seq2seq_kit.model.matmul import WeightCache, matmul_precision
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import EOS_ID


class ExportModule:
    """The graph from strings to strings, as signatures.

    Args:
        search: Searches for the ids of the outputs, with a network that uses no cuDNN.
        inputs: Encodes the inputs.
        decoding: The options of the search, fixed in the export.
        long_lines: As for `Codec`.
        ends_with: What follows a text that is scored, as for `Scorer`.
        compact: The weights as `compact` makes them; None stores the operands of the search.
        metadata: Describes the export.
    """

    def __init__(
        self,
        search: ModelSearch,
        inputs: InputEncoder,
        *,
        decoding: DecodingConfig,
        long_lines: LongLines = "error",
        ends_with: int = EOS_ID,
        compact: Mapping[str, np.ndarray] | None = None,
        metadata: Mapping[str, Any],
    ) -> None:
        self._search = search
        self._decoding = decoding
        self._ends_with = ends_with
        self._metadata = metadata
        self._places: list[Place] = []
        self._compact: CompactWeights | None = None
        if compact is not None:
            weights = search.model.trainable_variables
            self._compact = CompactWeights(weights, compact, decoding.precision)
        self._weight_cache = self._compact.cache if self._compact else WeightCache(keep=True)
        self._codec = Codec(inputs, search.tokenizer, long_lines)
        self.root = tf.Module()
        """What is saved, once `signatures` has been called."""
        strings = tf.TensorSpec([None], tf.string, name="inputs")
        self.serve = _graph(self._in_scope(self._serve), strings)
        self.n_best = _graph(self._in_scope(self._n_best), strings)
        self.score = _graph(
            self._in_scope(self._score), strings, tf.TensorSpec([None], tf.string, name="targets")
        )
        self.sample = _graph(
            self._in_scope(self._sample),
            strings,
            tf.TensorSpec([], tf.int32, name="num_samples"),
            tf.TensorSpec([], tf.int64, name="seed"),
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The description of the export, signatures included."""
        signatures = {name: _describe_signature(f) for name, f in self._answering().items()}
        return {**self._metadata, "signatures": signatures, "stored_weights": self._places}

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """Returns the functions to save, by the names of their signatures.

        Loading needs all that their graphs read as attributes of `root`, and nothing else: neither
        the Keras model nor the weights from which cached ones were made; nor functions, of which
        TensorFlow would trace and save a second set.
        """
        functions = self._answering()
        variables = [variable.value for variable in self._search.model.trainable_variables]
        variables += self._weight_cache.variables
        if self._compact is not None:
            functions = self._after_expanding(functions, self._compact)
            variables += self._compact.variables
        read = {
            id(tensor) for function in functions.values() for tensor in function.captured_inputs
        }
        stored = Stored(
            self._search.model.trainable_variables,
            [variable for variable in variables if id(variable.handle) in read],
            self._weight_cache.operands,
            {} if self._compact is None else self._compact.stored,
        )
        self._places = stored.places
        self.root.tokenizers = self._codec.tokenizers
        self.root.weights = stored.variables
        # Not within the graph of `describe`, in which the others would be traced again.
        description = as_json(self.metadata)
        self.describe = _graph(lambda: {"description": tf.constant(description)})
        return {**functions, "describe": self.describe}

    def _after_expanding(
        self, functions: dict[str, Any], weights: CompactWeights
    ) -> dict[str, Any]:
        """Returns functions that expand the weights before they do their work."""
        ready = weights.ready(list(functions.values()))

        def wrap(function: Any) -> Any:
            def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
                with tf.control_dependencies([ready()]):
                    found: dict[str, tf.Tensor] = function(**inputs)
                    return found

            specs = _input_specs(function)
            return tf.function(call, autograph=False).get_concrete_function(**specs)

        return {name: wrap(function) for name, function in functions.items()}

    def _in_scope(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function to trace, in which the network reads the weights of the export."""
        weights = self._compact
        if weights is None:
            return function

        def in_scope(*inputs: tf.Tensor, **others: tf.Tensor) -> Any:
            with weights.in_graph():
                return function(*inputs, **others)

        return functools.wraps(function)(in_scope)

    def _answering(self) -> dict[str, Any]:
        """Returns the traced functions of all signatures but `describe`."""
        return {
            "serving_default": self.serve.get_concrete_function(),
            "n_best": self.n_best.get_concrete_function(),
            "score": self.score.get_concrete_function(),
            "sample": self.sample.get_concrete_function(),
            **self._state_functions,
        }

    @functools.cached_property
    def _state_functions(self) -> dict[str, Any]:
        """The traced functions that read prompts and go on from states, where a search has any."""
        search, decoding = self._search, self._decoding
        if not isinstance(search.model, LanguageModel) or not has_single_state(decoding):
            return {}
        states = StateGraphs(search, self._codec, decoding, self._weight_cache)
        read = _graph(
            self._in_scope(states.read),
            tf.TensorSpec([None], tf.string, name="inputs"),
            tf.TensorSpec([], tf.int64, name="seed"),
        ).get_concrete_function()
        # Nothing was written yet: the sizes of what is empty will grow.
        state = {
            name: tf.TensorSpec([size or None for size in one.shape], one.dtype)
            for name, one in read.structured_outputs.items()
        }
        go_on = tf.function(self._in_scope(states.go_on), autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.int32, name="max_length"), **state
        )
        return {"read": read, "continue": go_on}

    def _serve(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the best output of each input and its score, `(batch,)`."""
        found = self.n_best(inputs)
        return {name: found[name][:, 0] for name in ("outputs", "scores")}

    def _n_best(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the hypotheses of each input, best first.

        Returns:
            Of the shape `(batch, num_hypotheses)`: `outputs`, string; `log_probs` and `scores`,
            float32; `is_cut`, bool. Where inputs are truncated, also `is_truncated`, bool
            `(batch,)`.
        """
        if self._decoding.sample:
            one, seed = tf.constant(1), tf.constant(self._decoding.seed, tf.int64)
            answers = self.sample(inputs, one, seed)
            return {
                name: values[:, :1] if values.shape.rank == 2 else values
                for name, values in answers.items()
            }
        return self._hypotheses(inputs, self._decoding, self._decoding.beam_size)

    def _sample(
        self, inputs: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns samples of each input: as `_n_best`, `(batch, num_samples)`."""
        num_samples = checked_number("num_samples", num_samples, 1, bounds.MAX_BEAM_SIZE)
        seed = checked_number("seed", seed, 0, bounds.SEEDS - 1)
        # The search itself does not check its options, of which one is a tensor here.
        options = self._decoding.model_copy(update={"sample": True, "seed": seed})
        return self._hypotheses(inputs, options, num_samples)

    def _hypotheses(
        self, inputs: tf.Tensor, decoding: DecodingConfig, number: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        encoded = self._codec.encode(inputs)
        found = self._search(
            encoded.inputs, decoding, num_hypotheses=number, weight_cache=self._weight_cache
        )
        answers = {
            "outputs": self._codec.texts(found, encoded.inputs.lost_space),
            "log_probs": found.hypotheses.log_probs,
            "scores": found.hypotheses.scores,
            "is_cut": found.hypotheses.is_cut,
        }
        return self._codec.finish(self._codec.answer_empty(answers, encoded), encoded)

    def _score(self, inputs: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns how likely each target is after its input.

        Returns:
            `log_probs`, float32 `(batch,)`, in nats; `num_tokens`, int32 `(batch,)`, the end
            included; `token_log_probs`, float32 `(batch, tokens)`, 0 beyond the last token.
        """
        encoded = self._codec.encode(inputs)
        ids, is_no_text = self._codec.encode_targets(inputs, targets)
        ids = tf.concat([ids, tf.fill([ids.nrows(), 1], self._ends_with)], axis=1)
        with matmul_precision(self._decoding.precision, self._weight_cache):
            token_log_probs = score_targets(
                self._search,
                encoded.inputs,
                ids,
                # A shortlist needs the operand by token: made of that, there is no second one.
                by_token=self._decoding.shortlist,
            )
        answers = {
            "log_probs": tf.reduce_sum(token_log_probs, axis=1),
            "num_tokens": tf.cast(ids.row_lengths(), tf.int32),
            "token_log_probs": token_log_probs,
        }
        is_unanswered = encoded.is_unanswered | is_no_text
        return self._codec.finish(answers, encoded._replace(is_unanswered=is_unanswered))


def _graph(function: Callable[..., Any], *specs: tf.TensorSpec) -> Any:
    return tf.function(function, input_signature=specs, autograph=False)


def _describe_signature(function: Any) -> dict[str, Any]:
    """Returns the type of each input and output of a signature, such as `float32 (?, ?)`."""
    return {
        "inputs": {n: _describe_type(spec) for n, spec in _input_specs(function).items()},
        "outputs": {
            name: _describe_type(spec) for name, spec in function.structured_outputs.items()
        },
    }


def _input_specs(function: Any) -> dict[str, tf.TensorSpec]:
    """Returns the type of each input of a traced function."""
    positional, named = function.structured_input_signature
    return {spec.name: spec for spec in positional} | named


def _describe_type(spec: Any) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in spec.shape.as_list())
    return f"{spec.dtype.name} ({sizes})"
