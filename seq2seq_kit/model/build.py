"""From a config to a network: the only place where the `model` section becomes arguments."""

from typing import Any

from seq2seq_kit.config import Config, ModelConfig
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.model.memory import check_model
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel

# Keys of the `model` section that are options of the same name of LSTM layers or embeddings.
_OPTIONS = (
    "cell",
    "dropout",
    "input_dropout",
    "output_dropout",
    "locked_dropout",
    "embedding_dropout",
    "word_dropout",
    "token_noise",
    "weight_drop",
    "layer_normalization",
    "init_scale",
)


def build_network(
    config: Config,
    tokenizers: Tokenizers,
    *,
    use_cudnn: str | bool = "auto",
    is_trained: bool = False,
) -> EncoderDecoder | LanguageModel:
    """Returns the network of a config for its tokenizers, with fresh weights.

    Args:
        config: A resolved config.
        tokenizers: The tokenizers of both sides.
        use_cudnn: As in `build_model`.
        is_trained: Whether it will be trained, which needs more memory.

    Raises:
        InputError: If it does not fit into memory.
    """
    vocab_size = tokenizers.target.vocab_size
    shared = tokenizers.source is tokenizers.target
    source_vocab_size = None if shared else tokenizers.source.vocab_size
    check_model(config.model, vocab_size, source_vocab_size, trains=is_trained)
    return build_model(config.model, vocab_size, source_vocab_size, use_cudnn=use_cudnn)


def build_model(
    config: ModelConfig,
    vocab_size: int,
    source_vocab_size: int | None = None,
    *,
    use_cudnn: str | bool = "auto",
) -> EncoderDecoder | LanguageModel:
    """Returns the network that a config describes, built, with fresh weights.

    Args:
        config: The `model` section, resolved.
        vocab_size: Target vocabulary.
        source_vocab_size: Source vocabulary if it is another than the target's; without one, and
            with tied embeddings, both sides share them.
        use_cudnn: False for a network that must run on any machine, such as an export.
    """
    shared: dict[str, Any] = {
        "embedding_dim": config.embedding_dim,
        "units": config.units,
        "decoder_layers": config.decoder_layers,
        "tie_embeddings": config.tie_embeddings,
        "use_cudnn": use_cudnn,
        **{name: getattr(config, name) for name in _OPTIONS},
    }
    model: EncoderDecoder | LanguageModel
    if config.architecture == "language_model":
        model = LanguageModel(vocab_size, inner_units=config.inner_units, **shared)
    else:
        model = EncoderDecoder(
            vocab_size,
            source_vocab_size if config.tie_embeddings else source_vocab_size or vocab_size,
            encoder_layers=config.encoder_layers,
            attention=config.attention,
            attention_layer=config.attention_layer,
            **shared,
        )
    model.build()
    return model
