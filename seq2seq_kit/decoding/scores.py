"""Scores that make hypotheses of different lengths comparable."""

import tensorflow as tf

from seq2seq_kit.decoding.numerics import in_own_registers


def normalize_log_probs(
    log_probs: tf.Tensor, lengths: tf.Tensor, length_penalty: tf.Tensor | float
) -> tf.Tensor:
    """Scores hypotheses so that a longer one does not lose only by being longer.

    The score is `log_prob / ((5 + length) / 6) ** length_penalty` (Wu et al., 2016, equation 14,
    https://arxiv.org/abs/1609.08144).

    Args:
        log_probs: float32, any shape. Summed log-probabilities in nats.
        lengths: int32, the same shape. Tokens, EOS included.
        length_penalty: The exponent, 0 or more; 0 returns `log_probs`.

    Returns:
        float32, the same shape. Higher is better.

    Example:

    >>> normalize_log_probs([-6.0, -6.0], [1, 7], 1.0).numpy().tolist()
    [-6.0, -3.0]
    """
    grown = (5.0 + tf.cast(lengths, tf.float32)) / 6.0
    return log_probs / in_own_registers(lambda value: value**length_penalty, grown)
