"""The embeddings of tokens, and the noise that training adds to token ids.

The noise is drawn from a seed generator, whose state is a variable of the network: a resumed
training draws what an uninterrupted one draws.
"""

from typing import Any, TypedDict, cast

import keras
import tensorflow as tf

from seq2seq_kit.special_ids import NUM_SPECIAL_IDS, UNK_ID


class EmbeddingOptions(TypedDict):
    """What training does to the inputs of a network, as shares from 0 to 1."""

    embedding_dropout: float
    """Share of the vocabulary whose embeddings are zeroed."""
    word_dropout: float
    """Share of the input tokens that are replaced by the unknown token."""
    token_noise: float
    """Share of the input tokens that are replaced by others of the batch."""


_DEFAULTS = EmbeddingOptions(embedding_dropout=0.0, word_dropout=0.0, token_noise=0.0)


def pop_embedding_options(kwargs: dict[str, Any]) -> EmbeddingOptions:
    """Removes the embedding options from keyword arguments; returns them with defaults."""
    options = {name: kwargs.pop(name, value) for name, value in _DEFAULTS.items()}
    return cast(EmbeddingOptions, options)


@keras.saving.register_keras_serializable("seq2seq_kit")
class TokenEmbedding(keras.layers.Embedding):
    """`keras.layers.Embedding` with noise on its inputs in training.

    - Word dropout replaces tokens by the unknown token, whose embedding learns to represent a
      missing token (Bowman et al., 2016, section 3.1, https://arxiv.org/abs/1511.06349).
    - Token noise replaces tokens by others drawn from the batch, so by their frequency (Xie et al.,
      2017, unigram noising, https://arxiv.org/abs/1703.02573). Special tokens are neither replaced
      nor drawn.
    - Embedding dropout zeroes the embeddings of a part of the vocabulary, the same in all rows, and
      divides the others by the share that is left (Gal and Ghahramani, 2016, section 4.2,
      https://arxiv.org/abs/1512.05287, for a whole batch as in Merity et al., 2018).

    Args:
        input_dim: Vocabulary.
        output_dim: Size of an embedding.
        **kwargs: `EmbeddingOptions`, and the arguments of `keras.layers.Embedding`.

    Call arguments:
        token_ids: int32, any shape.
        training: Whether there is noise.

    Returns:
        float, the shape of `token_ids` and one more axis, of `output_dim`.
    """

    def __init__(self, input_dim: int, output_dim: int, **kwargs: Any) -> None:
        options = pop_embedding_options(kwargs)
        super().__init__(input_dim, output_dim, **kwargs)
        self.embedding_dropout = options["embedding_dropout"]
        self.word_dropout = options["word_dropout"]
        self.token_noise = options["token_noise"]
        self._options = options
        if any(options.values()):
            self.seed_generator = keras.random.SeedGenerator()

    def call(self, token_ids: Any, training: bool = False) -> Any:
        if not training:
            return super().call(token_ids)
        if self.token_noise:
            token_ids = self._add_token_noise(token_ids)
        if self.word_dropout:
            is_dropped = self._is_drawn(token_ids, self.word_dropout)
            token_ids = tf.where(is_dropped, tf.cast(UNK_ID, token_ids.dtype), token_ids)
        embedded = super().call(token_ids)
        if self.embedding_dropout:
            # Rows of the matrix are dropped after the lookup: few of them are looked up.
            scale = keras.random.dropout(
                tf.ones([self.input_dim], embedded.dtype),
                self.embedding_dropout,
                seed=self.seed_generator,
            )
            embedded *= tf.gather(scale, token_ids)[..., tf.newaxis]
        return embedded

    def _add_token_noise(self, token_ids: tf.Tensor) -> tf.Tensor:
        token_ids = tf.convert_to_tensor(token_ids)
        words = tf.boolean_mask(token_ids, token_ids >= NUM_SPECIAL_IDS)
        # Of no words nothing is drawn, but the range must not be empty.
        places = keras.random.randint(
            tf.shape(token_ids), 0, tf.maximum(tf.size(words), 1), seed=self.seed_generator
        )
        drawn = tf.gather(tf.concat([words, [UNK_ID]], axis=0), places)
        return tf.where(self._is_drawn(token_ids, self.token_noise), drawn, token_ids)

    def _is_drawn(self, token_ids: tf.Tensor, share: float) -> tf.Tensor:
        """Draws a share of the tokens that are not special; bool, the shape of `token_ids`."""
        draws = keras.random.uniform(tf.shape(token_ids), dtype="float32", seed=self.seed_generator)
        return (draws < share) & (token_ids >= NUM_SPECIAL_IDS)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | dict(self._options)
