"""What a hypothesis must not contain, as masks over the next token's log-probabilities."""

import tensorflow as tf


def repeats_ngram(
    token_ids: tf.Tensor, length: tf.Tensor, *, ngram: int, vocab_size: int | tf.Tensor
) -> tf.Tensor:
    """Tells which next tokens would make a hypothesis contain an n-gram twice.

    Args:
        token_ids: int32 `(rows, time)`. The hypotheses so far; what stands from `length` on does
            not count.
        length: int32 `()`. Their tokens.
        ngram: The `n`, 1 or more.
        vocab_size: Tokens to choose from.

    Returns:
        bool `(rows, vocab_size)`.

    Reference: Paulus et al., 2017, section 2.5, https://arxiv.org/abs/1705.04304
    """
    rows, time = tf.unstack(tf.shape(token_ids))
    # An n-gram that begins at `start` ends with the token at `start + ngram - 1`.
    starts = tf.range(tf.maximum(time - ngram + 1, 0))
    repeated = tf.tile((starts + ngram <= length)[tf.newaxis], (rows, 1))
    for place in range(ngram - 1):
        # The last n - 1 tokens are what the next one would complete.
        last = token_ids[:, tf.maximum(length - ngram + 1 + place, 0)]
        repeated &= tf.gather(token_ids, starts + place, axis=1) == last[:, tf.newaxis]
    # Beyond `length` there may be anything: it must not index the vocabulary.
    ends = tf.where(repeated, tf.gather(token_ids, starts + ngram - 1, axis=1), 0)
    row_of = tf.tile(tf.range(rows)[:, tf.newaxis], (1, tf.size(starts)))
    return tf.cast(
        tf.scatter_nd(
            tf.stack([row_of, ends], axis=-1), tf.cast(repeated, tf.int32), (rows, vocab_size)
        ),
        tf.bool,
    )
