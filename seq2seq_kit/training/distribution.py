"""How training is spread over devices and machines, and what its processes agree on.

Knows nothing of models and data.
"""

import os

import tensorflow as tf

from seq2seq_kit.errors import InputError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy of a config's `training.strategy`.

    Raises:
        InputError: If "multi_worker" is requested without the environment variable TF_CONFIG, or
            after TensorFlow has computed anything.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        if "TF_CONFIG" not in os.environ:
            raise InputError(
                "training.strategy multi_worker expects the environment variable TF_CONFIG, which "
                "is not set. Set it on each machine (tensorflow.org/guide/distributed_training), "
                "or use `default` or `mirrored`."
            )
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise InputError(
                "training.strategy multi_worker must be the first use of TensorFlow in a process, "
                "but this process has already used TensorFlow. Start a new process."
            ) from error
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder: exactly one of several workers does."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return bool(resolver.task_type == "chief")
    return bool(resolver.task_id == 0)


def mean_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """Returns the mean of a number over all workers; waits until each of them has called this.

    A decision based on a clock or on a signal must be the same on all workers: one that stopped
    alone would leave the others waiting forever.

    Args:
        strategy: The strategy of the training.
        value: This worker's number; it is averaged in float32.
    """
    if strategy.cluster_resolver is None:
        return value
    values = strategy.experimental_distribute_values_from_function(
        lambda _context: tf.constant(value, tf.float32)
    )
    return float(strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None))


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers have called this, for example until the chief has written a file."""
    mean_over_workers(strategy, 0.0)
