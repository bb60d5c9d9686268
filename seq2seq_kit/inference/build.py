"""Builds the generator and the scorer of a config."""

from seq2seq_kit.config import Config
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.inputs import input_encoder
from seq2seq_kit.inference.scorer import Scorer
from seq2seq_kit.model.ensemble import Network
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer


def build_generator(
    config: Config,
    model: Network,
    tokenizers: Tokenizers,
    shortlist: Shortlist | None,
) -> Generator:
    """Returns the generator of a model, whose defaults are those of the config."""
    return Generator(
        model,
        input_encoder(config, tokenizers.source),
        tokenizers.target,
        defaults=config.decoding,
        continues=config.task == "continuation",
        heals=config.joins_texts,
        shortlist=shortlist,
    )


def build_scorer(config: Config, model: Network, tokenizers: Tokenizers) -> Scorer:
    """Returns the scorer of a model."""
    return Scorer(
        model,
        input_encoder(config, tokenizers.source),
        tokenizers.target,
        ends_with=text_end(config, tokenizers.target),
        reads_running_text=config.data.is_running_text,
        has_separator=config.data.train[0].separator is not None,
    )


def text_end(config: Config, tokenizer: Tokenizer) -> int:
    """Returns the token that ends a text to score: the newline in running text, otherwise EOS."""
    return tokenizer.encode(["\n"])[0][-1] if config.data.is_running_text else EOS_ID
