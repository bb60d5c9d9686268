"""Adaptation at test time: a language model that learns from a text while it reads it.

Dynamic evaluation moves the weights after each segment; a neural cache makes tokens likelier that
followed on similar states. Both predict a token before they learn from it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import AdaptationConfig
from seq2seq_kit.model.networks import LanguageModel, TokenModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.training.losses import cross_entropy

# The text that a model writes to find out how large its gradients are.
_OWN_ROWS = 16
_OWN_SEGMENTS = 16
# Added to the root mean square of each gradient, as a share of the mean over all weights: the
# embedding of a rare token has hardly any gradient.
_EPSILON = 0.1
# A gradient that is larger than usual by more than this factor counts as large by it: a text unlike
# all that the model has learned would throw the weights far off.
_LARGEST_STEP = 10.0


@contextmanager
def restored_weights(model: TokenModel) -> Iterator[None]:
    """Puts the weights back that the model had before the body."""
    saved = [variable.value.numpy() for variable in model.trainable_variables]
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, saved, strict=True):
            variable.assign(value)


class NeuralCache:
    """Predicts a token by what followed on similar outputs of the network before.

    The probability of a token is that of a softmax over the places of the cache, with the scores
    `sharpness * output . output at the place`, summed over the places that the token followed on
    (Grave et al., 2017, https://arxiv.org/abs/1612.04426).

    Args:
        size: Places.
        sharpness: Multiplies the scores.
    """

    def __init__(self, size: int, sharpness: float) -> None:
        self._size = size
        self._sharpness = sharpness
        self._outputs: np.ndarray | None = None
        self._token_ids = np.empty(0, np.int64)

    def read(self, outputs: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        """Returns the probability of each target, and then remembers it.

        Args:
            outputs: float `(time, output_dim)`. The inputs of the output layer.
            target_ids: int `(time,)`. What follows on each.

        Returns:
            float64 `(time,)`; NaN for the first target of all, before which nothing is remembered.
        """
        before = outputs[:0] if self._outputs is None else self._outputs
        keys = np.concatenate([before, outputs])
        values = np.concatenate([self._token_ids, target_ids])
        here = len(before) + np.arange(len(outputs))[:, np.newaxis]
        place = np.arange(len(keys))
        is_remembered = (place < here) & (place >= here - self._size)
        scores = self._sharpness * (outputs.astype(np.float64) @ keys.T.astype(np.float64))
        scores = np.where(is_remembered, scores, -np.inf)
        with np.errstate(invalid="ignore"):  # The first target has no score but minus infinity.
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
        follows = values == target_ids[:, np.newaxis]
        self._outputs, self._token_ids = keys[-self._size :], values[-self._size :]
        return np.asarray(np.sum(weights * follows, axis=1))


class AdaptiveReader:
    """Reads texts with a language model that adapts to them; changes its weights.

    After each segment, the weights `w` move by

        -rate * clip(gradient / (rms + epsilon)) + decay * min(rms, 1 / decay) * (saved - w)

    where `rms` is the root mean square of the gradient of each weight, divided by the mean over all
    weights, which divides the gradient, too (Krause et al., 2018, section 4,
    https://arxiv.org/abs/1709.07432). They measure it on the training data; here the model writes
    text for it, so that a model without its data can adapt.

    Args:
        model: The network.
        config: The `adaptation` section.
    """

    def __init__(self, model: LanguageModel, config: AdaptationConfig) -> None:
        self._model = model
        self._config = config
        self._cache = NeuralCache(config.cache_size, config.cache_sharpness)
        state_specs = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, part.shape[-1]], part.dtype), self._zero_states()
        )
        ids = tf.TensorSpec([1, None], tf.int32)
        signature = [ids, ids, tf.TensorSpec([1], tf.bool), state_specs]
        self._read = tf.function(self._trace_read, input_signature=signature, autograph=False)
        self._learn = tf.function(self._trace_learn, input_signature=signature, autograph=False)
        self._measure = tf.function(self._trace_measure, input_signature=signature, autograph=False)
        variables = [tf.convert_to_tensor(variable) for variable in model.trainable_variables]
        self._rms = [tf.Variable(tf.zeros_like(value)) for value in variables]
        self._mean_rms = tf.Variable(1.0)
        self._saved = [tf.Variable(value) for value in variables]
        if config.rate > 0:
            self._measure_gradients()

    def read_texts(self, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the losses of the tokens of each text; what was read before changes them.

        Args:
            texts: The ids of each text, without BOS, in the order in which they are read.

        Returns:
            float64 `(tokens,)` for each text, in nats.
        """
        return [self._read_text(np.asarray(text, np.int32)) for text in texts]

    def _read_text(self, ids: np.ndarray) -> np.ndarray:
        config = self._config
        losses = []
        for input_ids, target_ids, restarts, states in self._segments(ids):
            graph = self._learn if config.rate > 0 else self._read
            loss, outputs, states[0] = graph.get_concrete_function()(
                input_ids, tf.constant(target_ids), restarts, states[0]
            )
            loss = loss.numpy()[0].astype(np.float64)
            if config.cache_weight > 0:
                share = self._cache.read(outputs.numpy()[0], target_ids[0])
                mixed = (1 - config.cache_weight) * np.exp(-loss) + config.cache_weight * share
                loss = np.where(np.isnan(share), loss, -np.log(mixed))
            losses.append(loss)
        return np.concatenate([np.empty(0), *losses])

    def _segments(self, ids: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """Yields inputs, targets and restarts of each segment, and a list with the states.

        The reader of a segment puts the next states into the list.
        """
        input_ids = np.concatenate([[BOS_ID], ids[:-1]]).astype(np.int32)
        states = [self._zero_states()]
        for start in range(0, len(ids), self._config.segment):
            here = slice(start, start + self._config.segment)
            restarts = tf.constant([start == 0])
            yield tf.constant(input_ids[here][None]), ids[here][None], restarts, states

    def _zero_states(self) -> Any:
        return self._model.lstm.zero_state(1)

    def _trace_read(
        self, input_ids: tf.Tensor, target_ids: tf.Tensor, restarts: tf.Tensor, states: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Returns the loss of each target, the inputs of the output layer, and the next states."""
        outputs, states, _ = self._model.read(input_ids, states, restarts=restarts)
        logits = self._model.output_layer().logits(outputs)
        losses = cross_entropy(logits, target_ids).negative_log_likelihood
        return losses, outputs, states

    def _gradients(
        self, input_ids: tf.Tensor, target_ids: tf.Tensor, restarts: tf.Tensor, states: Any
    ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, tf.Tensor, Any]]:
        """Returns the gradients of the mean loss of a segment, and what `_trace_read` returns."""
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            found = self._trace_read(input_ids, target_ids, restarts, states)
            loss = tf.reduce_mean(found[0])
        return [tf.convert_to_tensor(part) for part in tape.gradient(loss, variables)], found

    def _trace_learn(self, *segment: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Reads a segment, then moves the weights."""
        gradients, found = self._gradients(*segment)
        variables = self._model.trainable_variables
        with tf.control_dependencies(tf.nest.flatten(found)):
            for variable, gradient, rms, saved in zip(
                variables, gradients, self._rms, self._saved, strict=True
            ):
                step = gradient / self._mean_rms / (rms + _EPSILON)
                step = tf.clip_by_value(step, -_LARGEST_STEP, _LARGEST_STEP)
                decay = tf.minimum(self._config.decay * rms, 1.0)
                variable.assign(variable - self._config.rate * step + decay * (saved - variable))
        return found

    def _trace_measure(self, *segment: Any) -> Any:
        """Reads a segment and adds the squares of its gradients; returns the next states."""
        gradients, found = self._gradients(*segment)
        for rms, gradient in zip(self._rms, gradients, strict=True):
            rms.assign_add(tf.square(gradient))
        return found[2]

    def _measure_gradients(self) -> None:
        """Measures the gradients on text that the model writes."""
        write = tf.function(self._write, autograph=False)
        texts = write(_OWN_ROWS, _OWN_SEGMENTS * self._config.segment)
        for text in texts.numpy():
            for input_ids, target_ids, restarts, states in self._segments(text):
                states[0] = self._measure.get_concrete_function()(
                    input_ids, tf.constant(target_ids), restarts, states[0]
                )
        number = _OWN_ROWS * _OWN_SEGMENTS
        for rms in self._rms:
            rms.assign(tf.sqrt(rms / number))
        count = sum(tf.size(rms, out_type=tf.int64) for rms in self._rms)
        total = sum(tf.reduce_sum(tf.cast(rms, tf.float64)) for rms in self._rms)
        self._mean_rms.assign(tf.cast(total / tf.cast(count, tf.float64), tf.float32))
        for rms in self._rms:
            rms.assign(rms / self._mean_rms)

    def _write(self, rows: int, length: int) -> tf.Tensor:
        """Returns texts that the model writes, int32 `(rows, length)`; none ends before that."""
        never = tf.reduce_sum(
            tf.one_hot([PAD_ID, UNK_ID, BOS_ID, EOS_ID], self._model.vocab_size), axis=0
        )
        layer = self._model.output_layer()

        def step(time: tf.Tensor, fed: tf.Tensor, states: Any, written: tf.TensorArray) -> Any:
            output = self._model.step(fed, states, output_layer=layer)
            logits = output.logits - 1e9 * never
            drawn = tf.random.stateless_categorical(logits, 1, tf.stack([0, time]), tf.int32)[:, 0]
            return time + 1, drawn, output.state, written.write(time, drawn)

        states = self._model.lstm.zero_state(rows)
        written = tf.TensorArray(tf.int32, size=length, element_shape=[rows])
        *_, written = tf.while_loop(
            lambda time, *_: time < length,
            step,
            (tf.constant(0), tf.fill([rows], BOS_ID), states, written),
            parallel_iterations=1,
        )
        return tf.transpose(written.stack())
