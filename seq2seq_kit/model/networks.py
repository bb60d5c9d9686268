"""The two networks, `EncoderDecoder` and `LanguageModel`.

Both are `keras.Model`s over ids: `call` runs whole sequences in training, `start` and `step` one
token at a time in decoding. Neither knows text, search or loss.
"""

import math
from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from seq2seq_kit.decoding.protocol import StepOutput
from seq2seq_kit.model.attention import Memory
from seq2seq_kit.model.decoder import LSTMDecoder
from seq2seq_kit.model.embedding import (
    EmbeddingOptions,
    TokenEmbedding,
    pop_embedding_options,
)
from seq2seq_kit.model.encoder import LSTMEncoder
from seq2seq_kit.model.lstm import (
    LSTMOptions,
    LSTMStack,
    LSTMState,
    make_dropout,
    pop_lstm_options,
    uniform,
)
from seq2seq_kit.model.matmul import Projection, product, weight_operand
from seq2seq_kit.special_ids import BOS_ID, PAD_ID

# Tokens of a prompt that are read in one pass.
_TOKENS_AT_ONCE = 512


class Start(NamedTuple):
    """Where decoding begins."""

    token_ids: Any
    """int32 `(batch,)`. The first token to feed."""
    states: tuple[LSTMState, ...]
    """The state of each layer before that token, `(batch, units)`."""
    memory: Memory | None
    """What the decoder attends to; None in a language model."""


class VocabularyWeight(NamedTuple):
    """A weight with a row or a column for each token."""

    variable: keras.Variable
    """The weight."""
    axis: int
    """The axis of the tokens."""
    side: Literal["source", "target"]
    """Whose vocabulary it is."""


class Reading(NamedTuple):
    """What a language model makes of the tokens that it reads."""

    outputs: Any
    """float `(batch, time, output_dim)`. The inputs of the output layer."""
    states: tuple[LSTMState, ...]
    """The state of each layer after the last token, padding included, `(batch, units)`."""
    lstm_outputs: Any
    """float `(batch, time, units)`. The outputs of the last LSTM layer, before any dropout."""


class OutputLayer(NamedTuple):
    """From a decoder's outputs to logits, as plain tensors.

    A search makes it once instead of at each step, and can leave out columns.
    """

    kernel: Any
    """float `(output_dim, columns)`."""
    bias: Any
    """float `(columns,)`, or `(lines, columns)` with a bias for each line."""

    def logits(self, outputs: Any) -> Any:
        """Returns float32 `(..., columns)` of outputs `(..., output_dim)`.

        Where each line has its own bias, outputs are `(lines * rows, output_dim)`: the rows of a
        line are adjacent.
        """
        logits = ops.cast(product(outputs, self.kernel), "float32")
        if len(self.bias.shape) == 1:
            return logits + self.bias
        lines, columns = ops.shape(self.bias)
        by_line = ops.reshape(logits, (lines, -1, columns)) + self.bias[:, None]
        return ops.reshape(by_line, (-1, columns))


class TokenModel(keras.Model):
    """Base class of both networks: the embedding, which can be the output layer too.

    Args:
        vocab_size: Target vocabulary.
        embedding_dim: Size of the embeddings.
        tie_embeddings: Whether the output layer shares the embeddings. Its inputs then have the
            size of an embedding, otherwise that of a state.
        lstm_options: Options of the LSTM layers; `init_scale` applies to all weights.
        embedding_options: Options of the embeddings.
        **kwargs: The arguments of `keras.Model`.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        *,
        tie_embeddings: bool,
        lstm_options: LSTMOptions,
        embedding_options: EmbeddingOptions,
        **kwargs: Any,
    ) -> None:
        # Not the policy that other code in the process may have set for all layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.tie_embeddings = tie_embeddings
        self.lstm_options = lstm_options
        self.embedding_options = embedding_options
        self.embedding = self._make_embedding(vocab_size, "embedding")

    def _make_embedding(self, vocab_size: int, name: str) -> TokenEmbedding:
        return TokenEmbedding(
            vocab_size,
            self.embedding_dim,
            **self.embedding_options,
            embeddings_initializer=uniform(self.lstm_options["init_scale"]),
            dtype=self.dtype_policy.name,
            name=name,
        )

    def _build_output(self, output_dim: int) -> None:
        self.embedding.build((None, None))
        if not self.tie_embeddings:
            self.output_kernel = self.add_weight(
                shape=(output_dim, self.vocab_size),
                initializer=uniform(self.lstm_options["init_scale"]),
                name="output_kernel",
            )
        self.output_bias = self.add_weight(
            shape=(self.vocab_size,), initializer="zeros", name="output_bias"
        )

    def vocabulary_weights(self) -> list[VocabularyWeight]:
        """Returns every weight whose shape depends on the size of a vocabulary."""
        weights = [
            VocabularyWeight(self.embedding.embeddings, 0, "target"),
            VocabularyWeight(self.output_bias, 0, "target"),
        ]
        if not self.tie_embeddings:
            weights.append(VocabularyWeight(self.output_kernel, 1, "target"))
        return weights

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return self.output_layer().logits(self.decoder_outputs(inputs, training=training))

    @property
    def gate_width(self) -> int:
        """A number that divides the sizes of all gates; a search chooses its row counts by it."""
        raise NotImplementedError

    def decoder_outputs(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Returns the inputs of the output layer, float `(batch, target_time, output_dim)`.

        Args:
            inputs: As in a call.
            training: Whether dropout is active.
        """
        raise NotImplementedError

    def output_layer(self, token_ids: Any = None) -> OutputLayer:
        """Returns the layer that gives a logit for each token of the vocabulary.

        Args:
            token_ids: int32 `(columns,)`. Only these tokens, in this order.
        """
        weight = self.embedding.embeddings if self.tie_embeddings else self.output_kernel
        bias = ops.convert_to_tensor(self.output_bias)
        if token_ids is None:
            return OutputLayer(weight_operand(weight, transpose=self.tie_embeddings), bias)
        # Gathering rows takes a twentieth of the time of gathering columns.
        by_token = weight_operand(weight, transpose=not self.tie_embeddings)
        kernel = ops.transpose(ops.take(by_token, token_ids, axis=0))
        return OutputLayer(kernel, ops.take(bias, token_ids, axis=0))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocab_size": self.vocab_size,
            "embedding_dim": self.embedding_dim,
            "tie_embeddings": self.tie_embeddings,
            **self.lstm_options,
            **self.embedding_options,
        }


@keras.saving.register_keras_serializable("seq2seq_kit")
class EncoderDecoder(TokenModel):
    """A bidirectional LSTM encoder and an LSTM decoder with attention.

    Args:
        vocab_size: Target vocabulary.
        source_vocab_size: Source vocabulary; None shares the target's embeddings.
        embedding_dim: Size of the embeddings.
        units: Size of the LSTM states; even.
        encoder_layers: Bidirectional layers.
        decoder_layers: LSTM layers; layer `i` starts from the final state of encoder layer `i`, or
            of the last one if the encoder has fewer.
        attention: "additive" or "multiplicative".
        attention_layer: "first" or "last", as in `LSTMDecoder`.
        tie_embeddings: As in `TokenModel`.
        **kwargs: `LSTMOptions` and `EmbeddingOptions`, and the arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of `source_ids`, int32 `(batch, source_time)`, right-padded with 0 and no
            row empty, and `decoder_input_ids`, int32 `(batch, target_time)`.
        training: Whether dropout is active.

    Returns:
        Logits, float32 `(batch, target_time, vocab_size)`.
    """

    def __init__(
        self,
        vocab_size: int,
        source_vocab_size: int | None = None,
        *,
        embedding_dim: int = 256,
        units: int = 512,
        encoder_layers: int = 1,
        decoder_layers: int = 1,
        attention: str = "additive",
        attention_layer: str = "last",
        tie_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        options = pop_lstm_options(kwargs)
        super().__init__(
            vocab_size,
            embedding_dim,
            tie_embeddings=tie_embeddings,
            lstm_options=options,
            embedding_options=pop_embedding_options(kwargs),
            **kwargs,
        )
        self.source_vocab_size = source_vocab_size
        self.units = units
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.attention = attention
        self.attention_layer = attention_layer
        self.source_embedding = self.embedding
        if source_vocab_size is not None:
            self.source_embedding = self._make_embedding(source_vocab_size, "source_embedding")
        dtype = self.dtype_policy.name
        self.encoder = LSTMEncoder(units, encoder_layers, dtype=dtype, name="encoder", **options)
        self.decoder = LSTMDecoder(
            units,
            decoder_layers,
            output_dim=embedding_dim if tie_embeddings else units,
            attention=attention,
            attention_layer=attention_layer,
            dtype=dtype,
            name="decoder",
            **options,
        )

    def build(self, input_shape: Any = None) -> None:
        if self.source_vocab_size is not None:
            self.source_embedding.build((None, None))
        self.encoder.build((None, None, self.embedding_dim))
        self.decoder.build((None, None, self.embedding_dim), values_dim=self.units)
        self._build_output(self.decoder.output_dim)
        self.built = True

    @property
    def gate_width(self) -> int:
        return self.units // 2  # Each direction of the encoder has half of the units.

    def decoder_outputs(self, inputs: dict[str, Any], training: bool = False) -> Any:
        memory, states = self.encode(inputs["source_ids"], training=training)
        embedded = self.embedding(inputs["decoder_input_ids"], training=training)
        return self.decoder(embedded, memory, initial_state=states, training=training)[0]

    def vocabulary_weights(self) -> list[VocabularyWeight]:
        weights = super().vocabulary_weights()
        if self.source_vocab_size is not None:
            weights.append(VocabularyWeight(self.source_embedding.embeddings, 0, "source"))
        return weights

    def encode(
        self, source_ids: Any, training: bool = False
    ) -> tuple[Memory, tuple[LSTMState, ...]]:
        """Returns the memory of the sources and the decoder's first states.

        Args:
            source_ids: int32 `(batch, source_time)`, right-padded, EOS included.
            training: Whether dropout is active.
        """
        mask = ops.not_equal(source_ids, PAD_ID)
        embedded = self.source_embedding(source_ids, training=training)
        values, states = self.encoder(embedded, mask=mask, training=training)
        top = len(states) - 1
        return self.decoder.memorize(values, mask), tuple(
            states[min(layer, top)] for layer in range(self.decoder_layers)
        )

    def start(self, source_ids: Any) -> Start:
        """Encodes the sources; returns the start of decoding, with BOS as the first token."""
        memory, states = self.encode(source_ids)
        bos = ops.full((ops.shape(source_ids)[0],), BOS_ID, dtype="int32")
        return Start(bos, self.decoder.first_state(states), memory)

    def step(
        self,
        token_ids: Any,
        states: tuple[LSTMState, ...],
        memory: Any,
        output_layer: OutputLayer | None = None,
    ) -> StepOutput:
        """Feeds one token to each row.

        Args:
            token_ids: int32 `(batch * rows,)`: the rows of a source are adjacent.
            states: As in `Start`, `(batch * rows, units)`.
            memory: The `Memory` of `batch` sources.
            output_layer: The result of `output_layer()`; None makes it, with all columns.

        Returns:
            Of `batch * rows` rows: `logits`, float32 `(rows, columns of the output layer)`, the
            `state` of each layer, and `attention`.
        """
        outputs, states, attention = self.decoder.step(self.embedding(token_ids), memory, states)
        return StepOutput((output_layer or self.output_layer()).logits(outputs), states, attention)

    def attention_weights(self, source_ids: Any, decoder_input_ids: Any) -> Any:
        """Returns where each target position looks, float32 `(batch, target_time, source_time)`."""
        memory, states = self.encode(source_ids)
        return self.decoder(self.embedding(decoder_input_ids), memory, initial_state=states)[1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "source_vocab_size": self.source_vocab_size,
            "units": self.units,
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "attention": self.attention,
            "attention_layer": self.attention_layer,
        }


@keras.saving.register_keras_serializable("seq2seq_kit")
class LanguageModel(TokenModel):
    """A stack of LSTM layers that predicts each token from those before it.

    Args:
        vocab_size: Vocabulary.
        embedding_dim: Size of the embeddings.
        units: Size of the states of the last LSTM layer.
        decoder_layers: LSTM layers.
        inner_units: Size of the states of the layers before the last one; None is `units`.
        tie_embeddings: As in `TokenModel`.
        **kwargs: `LSTMOptions` and `EmbeddingOptions`, and the arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of `decoder_input_ids`, int32 `(batch, time)`, right-padded.
        training: Whether dropout is active.

    Returns:
        Logits, float32 `(batch, time, vocab_size)`.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_dim: int = 256,
        units: int = 512,
        decoder_layers: int = 1,
        inner_units: int | None = None,
        tie_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        options = pop_lstm_options(kwargs)
        super().__init__(
            vocab_size,
            embedding_dim,
            tie_embeddings=tie_embeddings,
            lstm_options=options,
            embedding_options=pop_embedding_options(kwargs),
            **kwargs,
        )
        self.units = units
        self.decoder_layers = decoder_layers
        self.inner_units = inner_units
        dtype = self.dtype_policy.name
        self.lstm = LSTMStack(
            units,
            decoder_layers,
            inner_units,
            reads_embeddings=True,
            dtype=dtype,
            name="lstm",
            **options,
        )
        self.combine = Projection(
            embedding_dim if tie_embeddings else units,
            activation="tanh",
            kernel_initializer=uniform(options["init_scale"]),
            dtype=dtype,
            name="combine",
        )
        self.output_dropout = make_dropout(
            options["output_dropout"], options, dtype=dtype, name="output_dropout"
        )

    def build(self, input_shape: Any = None) -> None:
        self.lstm.build((None, None, self.embedding_dim))
        self.combine.build((None, None, self.units))
        self.output_dropout.build((None, None, self.combine.units))
        self._build_output(self.combine.units)
        self.built = True

    @property
    def gate_width(self) -> int:
        # Half, as in an encoder, so that the row counts and with them the bits are those of
        # earlier versions.
        return math.gcd(self.units, self.inner_units or self.units) // 2

    def decoder_outputs(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return self.read(inputs["decoder_input_ids"], None, training=training).outputs

    def read(
        self,
        token_ids: Any,
        states: tuple[LSTMState, ...] | None,
        *,
        restarts: Any = None,
        training: bool = False,
    ) -> Reading:
        """Reads tokens from given states on.

        Args:
            token_ids: int32 `(batch, time)`.
            states: The state of each layer before them, `(batch, units)`; None for zeros.
            restarts: bool `(batch,)`. Rows whose state counts as zero.
            training: Whether dropout is active.
        """
        if states is not None and restarts is not None:
            begins = restarts[:, None]
            states = tuple(
                LSTMState(*(ops.where(begins, ops.zeros_like(part), part) for part in state))
                for state in states
            )
        embedded = self.embedding(token_ids, training=training)
        lstm_outputs, states = self.lstm(embedded, initial_state=states, training=training)
        outputs = self.output_dropout(self.combine(lstm_outputs), training=training)
        return Reading(outputs, states, lstm_outputs)

    def start(self, source_ids: Any) -> Start:
        """Reads all but the last token of the prompts; returns the start of their continuation.

        Args:
            source_ids: int32 `(batch, time)`: BOS and the prompt, right-padded.
        """
        mask = ops.not_equal(source_ids, PAD_ID)
        last = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True) - 1

        def read(first: Any, states: Any) -> tuple[Any, Any]:
            """Reads the next tokens of the prompts that have not ended before them."""
            ids = source_ids[:, first : first + _TOKENS_AT_ONCE]
            num_left = last - first
            positions = ops.arange(ops.shape(ids)[1], dtype="int32")[None, :]
            # cuDNN refuses empty rows: where no token is left one step runs, without effect.
            _, new_states = self.lstm(
                self.embedding(ids),
                initial_state=states,
                mask=positions < ops.maximum(num_left, 1),
                training=False,
            )
            return first + _TOKENS_AT_ONCE, tuple(
                LSTMState(*(ops.where(num_left > 0, *parts) for parts in zip(*pair, strict=True)))
                for pair in zip(new_states, states, strict=True)
            )

        # Memory does not grow with the prompt.
        _, states = ops.while_loop(
            lambda first, _: first < ops.max(last),
            read,
            (ops.zeros((), "int32"), self.lstm.zero_state(ops.shape(source_ids)[0])),
        )
        return Start(ops.take_along_axis(source_ids, last, axis=1)[:, 0], states, None)

    def step(
        self,
        token_ids: Any,
        states: tuple[LSTMState, ...],
        memory: Any = None,
        output_layer: OutputLayer | None = None,
    ) -> StepOutput:
        """Feeds one token to each row.

        Args:
            token_ids: int32 `(rows,)`.
            states: As in `Start`, `(rows, units)`.
            memory: Not used: a language model has none.
            output_layer: The result of `output_layer()`; None makes it, with all columns.

        Returns:
            Of `rows` rows: `logits`, float32 `(rows, columns of the output layer)`, and the
            `state` of each layer.
        """
        outputs, states = self.lstm.step(self.embedding(token_ids), states)
        return StepOutput(
            (output_layer or self.output_layer()).logits(self.combine(outputs)), states, None
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "decoder_layers": self.decoder_layers,
            "inner_units": self.inner_units,
        }
