"""How likely given targets are, in graph: with the operands of a search, one token at a time.

`Scorer` computes the same for whole sequences at once, from weights that an export does not hold.
"""

from typing import Any

import tensorflow as tf

from seq2seq_kit.decoding import map_in_groups
from seq2seq_kit.decoding.loop import run_while
from seq2seq_kit.decoding.numerics import log_normalizer
from seq2seq_kit.inference.inputs import Inputs
from seq2seq_kit.inference.search import ModelSearch


def score_targets(
    search: ModelSearch, inputs: Inputs, target_ids: tf.RaggedTensor, *, by_token: bool
) -> tf.Tensor:
    """Returns the log-probability of each token of targets after their inputs.

    A target's numbers do not depend on the other targets.

    Args:
        search: Knows the network, and how many lines are computed together.
        inputs: The inputs.
        target_ids: int32 `(batch, None)`. Each target with its end.
        by_token: Whether to make the output layer from the operand that shortlists use.

    Returns:
        float32 `(batch, longest target)`, in nats; 0 beyond the end of a target.
    """
    model: Any = search.model  # Never an ensemble, which is not exported.
    layer = model.output_layer(tf.range(model.vocab_size) if by_token else None)
    targets = target_ids.to_tensor()
    lengths = tf.cast(target_ids.row_lengths(), tf.int32)
    width = tf.shape(targets)[1]

    def score_group(ids: tf.Tensor, lines: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        start = model.start(ids)
        targets_here = tf.gather(targets, lines)

        def step(
            time: tf.Tensor, fed: tf.Tensor, states: Any, log_probs: tf.Tensor
        ) -> tuple[Any, ...]:
            output = model.step(fed, states, start.memory, layer)
            token = targets_here[:, time]
            log_prob = tf.gather(output.logits, token, batch_dims=1)
            log_prob -= log_normalizer(output.logits)
            here = tf.range(width) == time
            log_probs = tf.where(here, log_prob[:, tf.newaxis], log_probs)
            return time + 1, token, output.state, log_probs

        longest = tf.reduce_max(tf.gather(lengths, lines))
        zeros = tf.zeros([tf.size(lines), width])
        first = (tf.constant(0), start.token_ids, start.states, zeros)
        log_probs: tf.Tensor = run_while(lambda time, *_: time < longest, step, first)[-1]
        return log_probs

    empty = tf.zeros([tf.size(lengths), width])
    found: tf.Tensor = map_in_groups(
        score_group, inputs.token_ids, inputs.lengths, empty, sizes=search.group_sizes
    )
    return tf.where(tf.range(width) < lengths[:, tf.newaxis], found, 0.0)
