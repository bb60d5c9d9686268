"""Several decoders that choose each token together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from seq2seq_kit.decoding.protocol import Decoder, StepOutput


@dataclass(frozen=True)
class EnsembleDecoder:
    """Combines the predictions of decoders with one vocabulary; see `combine_logits`.

    State and memory are tuples with a part for each decoder. The attention is the mean, or None if
    a decoder has none.

    Args:
        decoders: One or more.
    """

    decoders: Sequence[Decoder]

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        """Feeds one token to each row of each decoder."""
        outputs = [
            decoder.step(token_ids, *parts)
            for decoder, *parts in zip(self.decoders, state, memory, strict=True)
        ]
        attentions = [output.attention for output in outputs]
        has_attention = all(attention is not None for attention in attentions)
        return StepOutput(
            combine_logits([output.logits for output in outputs]),
            tuple(output.state for output in outputs),
            _mean(attentions) if has_attention else None,
        )


def combine_logits(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the logits of an ensemble: the mean of its members' logits.

    The probability of a token is then the normalized geometric mean of the probabilities that the
    `n` members give it, `prod_i p_i(y) ** (1 / n) / sum_z prod_i p_i(z) ** (1 / n)`: a member's
    logits are its log-probabilities but for a number that is the same for all tokens, which the
    normalization removes.

    Args:
        logits: float32, all of the same shape `(..., vocab_size)`.

    Returns:
        float32, the same shape. The mean of two equal tensors is bit for bit either of them.

    Example:

    >>> combine_logits([tf.constant([0.0, 2.0]), tf.constant([4.0, 0.0])]).numpy().tolist()
    [2.0, 1.0]
    """
    return _mean(logits)


def _mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(tensors)) / float(len(tensors))
