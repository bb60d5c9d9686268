"""The common model the stock Keras way, as a peer: `keras.layers.LSTM` in `keras.Model.fit`.

    python benchmarks/peers/keras_fit.py IDS.npz --seconds 40

Batches of like lengths by `tf.data`'s `bucket_by_sequence_length`. Prints a line of JSON.
"""

import argparse
import json
import os
import resource
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

BOS, EOS = 2, 3
BATCH_SIZE = 64


def make_model(vocab_size: int, embedding_dim: int = 256, units: int = 512) -> keras.Model:
    """Returns the model: encoder 2 x 256, decoder 512, dot-product attention on projected keys."""
    start = keras.initializers.RandomUniform(-0.1, 0.1)
    source, inputs = keras.Input([None], dtype="int32"), keras.Input([None], dtype="int32")
    embedded = layers.Embedding(vocab_size, embedding_dim, mask_zero=True)(source)
    mask = keras.ops.not_equal(source, 0)
    lstm = layers.LSTM(units // 2, return_sequences=True, return_state=True)
    memory, *states = layers.Bidirectional(lstm)(embedded, mask=mask)
    state = [layers.Concatenate()([states[part], states[part + 2]]) for part in (0, 1)]
    decoder = layers.LSTM(units, return_sequences=True)
    queries = decoder(layers.Embedding(vocab_size, embedding_dim)(inputs), initial_state=state)
    keys = layers.Dense(units, use_bias=False, kernel_initializer=start)(memory)
    context = layers.Attention()([queries, memory, keys], mask=[None, mask])
    combined = layers.Dense(units, activation="tanh", use_bias=False, kernel_initializer=start)(
        layers.Concatenate()([context, queries])
    )
    logits = layers.Dense(vocab_size, kernel_initializer=start)(layers.Dropout(0.3)(combined))
    model = keras.Model([source, inputs], logits)
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=5.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    )
    return model


def make_dataset(data: Any) -> tf.data.Dataset:
    """Returns the batches of an epoch: ((source, decoder inputs), targets)."""
    sides = []
    for side in ("source", "target"):
        rows = np.split(data[f"{side}_ids"], np.cumsum(data[f"{side}_lengths"])[:-1])
        sides.append(tf.ragged.constant([[*row, EOS] for row in rows], dtype=tf.int32))
    dataset = tf.data.Dataset.from_tensor_slices(tuple(sides)).shuffle(30_000, seed=1)
    dataset = dataset.map(
        lambda source, target: ((source, tf.concat([[BOS], target[:-1]], 0)), target)
    )
    boundaries = list(range(6, 41, 2))
    return dataset.bucket_by_sequence_length(
        lambda sides, target: tf.maximum(tf.size(sides[0]), tf.size(target)),
        boundaries,
        [BATCH_SIZE] * (len(boundaries) + 1),
    ).prefetch(8)


class Meter(keras.callbacks.Callback):
    """Measures after the first steps and stops in time."""

    def __init__(self, num_tokens: list[int], seconds: float, warmup_steps: int) -> None:
        super().__init__()
        self.tokens_of = num_tokens
        self.seconds = seconds
        self.warmup_steps = warmup_steps
        self.num_tokens = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step."""
        self.ended = time.perf_counter()
        if batch == self.warmup_steps - 1:
            self.started = self.ended
        elif batch >= self.warmup_steps:
            self.num_tokens += self.tokens_of[batch]
            self.model.stop_training |= self.ended - self.started > self.seconds


def main() -> None:
    """Trains for some seconds and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--warmup-steps", type=int, default=15)
    arguments = parser.parse_args()
    data = np.load(arguments.ids)
    model = make_model(int(data["vocab_size"]))
    num_tokens, positions = [], 0

    def count(sides: Any, target: tf.Tensor) -> Any:
        """Notes the real targets of each batch on its way into the model."""

        def note(target: np.ndarray) -> np.ndarray:
            nonlocal positions
            num_tokens.append(int(np.count_nonzero(target)))
            positions += target.size
            return target

        noted = tf.numpy_function(note, [target], tf.int32)
        return sides, tf.ensure_shape(noted, [None, None])

    meter = Meter(num_tokens, arguments.seconds, arguments.warmup_steps)
    dataset = make_dataset(data).map(count)

    # `fit` ends an epoch, not a step, when it is asked to stop.
    def until_stopped() -> Any:
        for batch in dataset:
            if model.stop_training:
                return
            yield batch

    signature = dataset.element_spec
    limited = tf.data.Dataset.from_generator(until_stopped, output_signature=signature)
    model.fit(limited, verbose=0, callbacks=[meter])
    print(
        json.dumps(
            {
                "tokens_per_second": meter.num_tokens / (meter.ended - meter.started),
                "padding": 1 - sum(num_tokens) / positions,
                "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main()
