"""One step of training or validation on all devices: the gradient, its clipping, the update.

Knows neither the loop around the steps nor files.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.batches import Batches, Plan, make_dataset
from seq2seq_kit.model.dropout import grow_dropout
from seq2seq_kit.model.matmul import matmul_precision
from seq2seq_kit.model.networks import LanguageModel, Reading, TokenModel
from seq2seq_kit.training.carried import CarriedStates, zero_states
from seq2seq_kit.training.losses import (
    MaskedCrossEntropy,
    ProjectedLoss,
    activation_penalty,
    consistent_cross_entropy,
    cross_entropy,
    projected_cross_entropy,
)
from seq2seq_kit.training.optimizer import make_optimizer


class TrainingSteps:
    """Trains and validates a model batch by batch, spread over the devices of a strategy.

    Compiles the model with its optimizer and loss.

    Args:
        model: A built network, made under the scope of `strategy`.
        config: The `training` section.
        strategy: How the work is spread over devices.
        carried_rows: Rows of a training batch whose states are carried to the next one.
    """

    def __init__(
        self,
        model: TokenModel,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
        *,
        carried_rows: int = 0,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.carried = CarriedStates(model, strategy, carried_rows)
        """The states of streams after the last training step."""
        self._config = config
        with strategy.scope():
            model.compile(
                optimizer=make_optimizer(config), loss=MaskedCrossEntropy(config.label_smoothing)
            )
            model.optimizer.build(model.trainable_variables)
            self.dropout = grow_dropout(model) if config.dropout_warmup_steps else None
            """The strength of dropout, where it grows."""
        self.train_function = tf.function(self._train, autograph=False)
        """From a batch as `batches` yields it, and the states of its rows, to its mean loss, its
        number of target tokens and the next states."""
        self._validation_function = tf.function(self._validate, autograph=False)
        self._batch_spec: Any = None
        self._train_step: Callable[..., Any] | None = None
        # For each shape of the states.
        self._validation_steps: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def batches(self, batch_set: Batches, plan: Plan, *, start: int = 0) -> Iterator[Any]:
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
        states = self.carried.by_replica
        if self._train_step is None:
            self._train_step = self._trace(self.train_function, states)
        loss, num_tokens, self.carried.by_replica = self._train_step(batch, states)
        return float(loss), float(num_tokens)

    def validate(self, batch: Any, states: Any) -> tuple[tf.Tensor, Any]:
        """Returns the negative log-likelihood of a batch and its number of target tokens.

        Args:
            batch: As `batches` yields it.
            states: The states of its rows, spread over the replicas; `()` without streams.

        Returns:
            Both sums over all replicas, float32 `(2,)`, the first in nats; and the next states.
        """
        key = tuple(map(tf.type_spec_from_value, tf.nest.flatten(states)))
        if key not in self._validation_steps:
            self._validation_steps[key] = self._trace(self._validation_function, states)
        sums, states = self._validation_steps[key](batch, states)
        return sums, states

    def mean_loss(
        self, batch_set: Batches, *, callbacks: keras.callbacks.CallbackList | None = None
    ) -> float:
        """Returns the mean negative log-likelihood of a target token, in nats.

        Args:
            batch_set: The batches.
            callbacks: They are called before and after each batch.
        """
        total = tf.zeros([2], tf.float64)
        states = zero_states(self.model, self.strategy, batch_set.carried_rows)
        for index, batch in enumerate(self.batches(batch_set, batch_set.plan(0))):
            if callbacks is not None:
                callbacks.on_test_batch_begin(index)
            sums, states = self.validate(batch, states)
            total += tf.cast(sums, tf.float64)
            if callbacks is not None:
                callbacks.on_test_batch_end(index, {"loss": float(total[0] / total[1])})
        nll, num_tokens = (float(value) for value in total)
        return nll / num_tokens

    def _trace(self, function: Any, states: Any) -> Callable[..., Any]:
        """Returns a graph for batches of any shape; otherwise each new shape would be traced.

        A concrete function stays a graph where other code has functions run eagerly.
        """
        state_specs = tf.nest.map_structure(tf.type_spec_from_value, states)
        concrete: Callable[..., Any] = function.get_concrete_function(self._batch_spec, state_specs)
        return concrete

    def _train(self, batch: Any, states: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        losses, states = self.strategy.run(self._train_replica, args=(batch, states))
        num_tokens = self.strategy.experimental_local_results(batch["num_tokens"])[0]
        loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return loss, num_tokens, states

    def _train_replica(self, batch: dict[str, tf.Tensor], states: Any) -> tuple[tf.Tensor, Any]:
        """Applies the gradient of the global batch's mean loss; returns its part of that loss.

        The loss of a window of streams is divided by the tokens of a usual one: with the mean of
        each window, tokens of short windows would have more weight (Merity et al., 2018, section 5,
        scale the learning rate; Adam would scale with it what earlier windows left in its means).
        """
        variables = self.model.trainable_variables
        divisor = batch.get("usual_tokens", batch["num_tokens"])
        with matmul_precision(self._config.precision):
            with tf.GradientTape() as tape:
                losses, reading = self._read_and_compare(batch, states, batch["weights"] / divisor)
                penalized = losses.objective + self._penalty(reading, batch["weights"] / divisor)
            gradients = tape.gradient(penalized, variables)
        gradients = [tf.convert_to_tensor(part) for part in gradients]
        self.model.optimizer.apply(self._clip(gradients), variables)
        return losses.loss * (divisor / batch["num_tokens"]), reading.states

    def _read_and_compare(
        self, batch: dict[str, tf.Tensor], states: Any, weights: tf.Tensor
    ) -> tuple[ProjectedLoss, Reading]:
        """Reads a batch as training does, once or for R-Drop twice; returns loss and reading."""
        targets, layer = batch["target_ids"], self.model.output_layer()
        smoothing = self._config.label_smoothing
        if not self._config.r_drop:
            reading = self._read(batch, states, training=True)
            loss = projected_cross_entropy(
                reading.outputs, layer, targets, weights, label_smoothing=smoothing
            )
            return ProjectedLoss(loss, loss), reading
        # Both passes are one of twice the rows, whose dropout masks differ.
        twice, states_twice = tf.nest.map_structure(_repeat_rows, (batch, states))
        reading = self._read(twice, states_twice, training=True)
        losses = consistent_cross_entropy(
            reading.outputs,
            layer,
            targets,
            weights,
            label_smoothing=smoothing,
            divergence_weight=self._config.r_drop,
        )
        # The penalty and the states carried to the next batch are those of the first pass.
        lstm_outputs = reading.lstm_outputs
        return losses, Reading(
            reading.outputs,
            tf.nest.map_structure(_first_half, reading.states),
            None if lstm_outputs is None else _first_half(lstm_outputs),
        )

    def _penalty(self, reading: Reading, weights: tf.Tensor) -> tf.Tensor | float:
        """Returns what training minimizes beside the loss that is shown."""
        rates = (
            self._config.activation_regularization,
            self._config.temporal_activation_regularization,
        )
        if not any(rates):
            return 0.0
        return activation_penalty(reading.lstm_outputs, weights, *rates)

    def _read(self, batch: dict[str, tf.Tensor], states: Any, *, training: bool) -> Reading:
        """Returns the inputs of the output layer, and the states of streams after the batch.

        States are inputs of a step, so that no gradient reaches beyond its window.
        """
        if not isinstance(self.model, LanguageModel):
            return Reading(self.model.decoder_outputs(batch, training=training), states, None)
        if not tf.nest.flatten(states):
            reading = self.model.read(batch["decoder_input_ids"], None, training=training)
            return reading._replace(states=states)
        # Padding occurs only after the end of a text, after which the state is not used.
        return self.model.read(
            batch["decoder_input_ids"], states, restarts=batch["restarts"], training=training
        )

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

    def _validate(self, batch: Any, states: Any) -> tuple[tf.Tensor, Any]:
        sums, states = self.strategy.run(self._validate_replica, args=(batch, states))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None), states

    def _validate_replica(self, batch: dict[str, tf.Tensor], states: Any) -> tuple[tf.Tensor, Any]:
        outputs, states, _ = self._read(batch, states, training=False)
        logits = self.model.output_layer().logits(outputs)
        nll = cross_entropy(logits, batch["target_ids"]).negative_log_likelihood
        weights = batch["weights"]
        return tf.stack([tf.reduce_sum(nll * weights), tf.reduce_sum(weights)]), states


def _repeat_rows(values: tf.Tensor) -> tf.Tensor:
    """Returns all rows twice; a number as it is."""
    return tf.concat([values, values], axis=0) if values.shape.rank else values


def _first_half(values: tf.Tensor) -> tf.Tensor:
    """Returns the first of what `_repeat_rows` repeated."""
    return values[: tf.shape(values)[0] // 2]
