"""The optimizer: Adam that updates a variable and its moments in one pass over the memory."""

from typing import Any

import keras
import tensorflow as tf

from seq2seq_kit.config import TrainingConfig

# Biases, and the gains of layer normalization: small decay costs them their meaning and saves no
# capacity. (Parts of the names of variables.)
_EXEMPT_FROM_DECAY = ("bias", "gamma", "beta")


def make_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a config's `training` section."""
    if not config.weight_decay:
        return FusedAdam(config.learning_rate)
    optimizer = FusedAdam(config.learning_rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_EXEMPT_FROM_DECAY)
    return optimizer


@keras.saving.register_keras_serializable("seq2seq_kit")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with TensorFlow's fused update, a third of its time on a CPU.

    Keras's own update passes over gradient, moments and variable a dozen times. Arguments, state
    and, up to rounding, results are the same; with `amsgrad`, Keras's own update is used.

    Reference: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980 (the form before section 2.1).
    """

    def __init__(self, learning_rate: Any = 0.001, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        rate: Any = vars(self)["_learning_rate"]
        if isinstance(rate, keras.Variable):
            # Keras creates it with the dtype that other code may have set by `set_floatx`.
            self._untrack_variable(rate)
            own_rate = keras.Variable(
                learning_rate,
                name=rate.name,
                dtype="float32",
                trainable=False,
                aggregation="only_first_replica",
            )
            self._track_variable(own_rate)
            self._learning_rate = own_rate

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its two moments."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        steps = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.cast(self.beta_1, dtype) ** steps,
            beta2_power=tf.cast(self.beta_2, dtype) ** steps,
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )
