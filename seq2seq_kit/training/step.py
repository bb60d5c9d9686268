"""One step of training or validation on all devices: the gradient, its clipping, the update.

Knows neither the loop around the steps nor files.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.batches import make_dataset
from seq2seq_kit.data.plan import BatchSet, EpochPlan
from seq2seq_kit.model.matmul import matmul_precision
from seq2seq_kit.model.networks import TokenModel
from seq2seq_kit.training.losses import MaskedCrossEntropy, cross_entropy, projected_cross_entropy
from seq2seq_kit.training.optimizer import make_optimizer


class TrainingSteps:
    """Trains and validates a model batch by batch, spread over the devices of a strategy.

    Compiles the model with its optimizer and loss.

    Args:
        model: A built network, made under the scope of `strategy`.
        config: The `training` section.
        strategy: How the work is spread over devices.
    """

    def __init__(
        self, model: TokenModel, config: TrainingConfig, strategy: tf.distribute.Strategy
    ) -> None:
        self.model = model
        self.strategy = strategy
        self._config = config
        with strategy.scope():
            model.compile(
                optimizer=make_optimizer(config), loss=MaskedCrossEntropy(config.label_smoothing)
            )
            model.optimizer.build(model.trainable_variables)
        self.train_function = tf.function(self._train, autograph=False)
        """From a batch as `batches` yields it to its mean loss and its number of target tokens."""
        self._validation_function = tf.function(self._validate, autograph=False)
        self._batch_spec: Any = None
        self._train_step: Callable[[Any], Any] | None = None
        self._validation_step: Callable[[Any], Any] | None = None

    def batches(self, batch_set: BatchSet, plan: EpochPlan, *, start: int = 0) -> Iterator[Any]:
        """Yields the batches of a plan from number `start` on, spread over the replicas."""
        replicas = self.strategy.num_replicas_in_sync
        # A dataset can read its plan only as long as something refers to it (see `make_dataset`).
        datasets = []

        def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
            datasets.append(
                make_dataset(
                    batch_set.data,
                    plan,
                    start=start,
                    worker=context.input_pipeline_id,
                    num_workers=context.num_input_pipelines,
                    replicas_per_worker=replicas // context.num_input_pipelines,
                )
            )
            return datasets[-1]

        batches = self.strategy.distribute_datasets_from_function(make)
        self._batch_spec = batches.element_spec
        yield from batches

    def train(self, batch: Any) -> tuple[float, float]:
        """Updates the weights with a batch; returns its mean loss and number of target tokens."""
        if self._train_step is None:
            self._train_step = self._trace(self.train_function)
        loss, num_tokens = self._train_step(batch)
        return float(loss), float(num_tokens)

    def validate(self, batch: Any) -> tf.Tensor:
        """Returns the negative log-likelihood of a batch and its number of target tokens.

        Both are sums over all replicas: float32 `(2,)`, the first in nats.
        """
        if self._validation_step is None:
            self._validation_step = self._trace(self._validation_function)
        return self._validation_step(batch)

    def mean_loss(
        self, batch_set: BatchSet, *, callbacks: keras.callbacks.CallbackList | None = None
    ) -> float:
        """Returns the mean negative log-likelihood of a target token, in nats.

        Args:
            batch_set: The batches.
            callbacks: They are called before and after each batch.
        """
        total = tf.zeros([2], tf.float64)
        for index, batch in enumerate(self.batches(batch_set, batch_set.plan(0))):
            if callbacks is not None:
                callbacks.on_test_batch_begin(index)
            total += tf.cast(self.validate(batch), tf.float64)
            if callbacks is not None:
                callbacks.on_test_batch_end(index, {"loss": float(total[0] / total[1])})
        nll, num_tokens = (float(value) for value in total)
        return nll / num_tokens

    def _trace(self, function: Any) -> Callable[[Any], Any]:
        """Returns a graph for batches of any shape; otherwise each new shape would be traced.

        A concrete function stays a graph where other code has functions run eagerly.
        """
        concrete: Callable[[Any], Any] = function.get_concrete_function(self._batch_spec)
        return concrete

    def _train(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
        losses = self.strategy.run(self._train_replica, args=(batch,))
        num_tokens = self.strategy.experimental_local_results(batch["num_tokens"])[0]
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None), num_tokens

    def _train_replica(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Applies the gradient of the global batch's mean loss; returns its part of that loss."""
        variables = self.model.trainable_variables
        with matmul_precision(self._config.precision):
            with tf.GradientTape() as tape:
                loss = projected_cross_entropy(
                    self.model.decoder_outputs(batch, training=True),
                    self.model.output_layer(),
                    batch["target_ids"],
                    batch["weights"] / batch["num_tokens"],
                    label_smoothing=self._config.label_smoothing,
                )
            gradients = [tf.convert_to_tensor(part) for part in tape.gradient(loss, variables)]
        self.model.optimizer.apply(self._clip(gradients), variables)
        return loss

    def _clip(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the replica's share of the gradients, clipped to the global norm."""
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            # Clipping needs the whole gradient; the optimizer will add up the replicas' again.
            summed = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [part / replicas.num_replicas_in_sync for part in summed]
        clip_norm = self._config.clip_norm / replicas.num_replicas_in_sync
        norm = tf.linalg.global_norm(gradients)
        clipped: list[tf.Tensor] = tf.cond(
            norm > clip_norm,
            lambda: tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)[0],
            lambda: gradients,  # Most are short enough, which saves a pass over all of them.
        )
        return clipped

    def _validate(self, batch: Any) -> tf.Tensor:
        sums = self.strategy.run(self._validate_replica, args=(batch,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _validate_replica(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = self.model(batch, training=False)
        nll = cross_entropy(logits, batch["target_ids"]).negative_log_likelihood
        weights = batch["weights"]
        return tf.stack([tf.reduce_sum(nll * weights), tf.reduce_sum(weights)])
