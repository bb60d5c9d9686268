"""The training and validation sets of a config: encoded, and cut into batches."""

import logging
from typing import Any, NamedTuple

from seq2seq_kit.config import Config
from seq2seq_kit.data.batches import Batches
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.holdout import split_holdout
from seq2seq_kit.data.plan import BatchSet
from seq2seq_kit.data.sampling import SubwordSampler
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.streams import StreamSet
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests

_logger = logging.getLogger(__name__)


class DataSets(NamedTuple):
    """The rows that a model is trained on, and those that choose its best checkpoint."""

    train: EncodedData
    validation: EncodedData


def encode_data(config: Config, tokenizers: Tokenizers, digests: FileDigests) -> DataSets:
    """Returns the encoded training and validation data; holds some out if none are named.

    Args:
        config: A resolved config.
        tokenizers: The tokenizers of both sides.
        digests: The digests of the config's files.

    Raises:
        DataError: As in `encode_corpora` and `split_holdout`.
        RunError: If the cache folder cannot be written.
    """
    limits = LengthLimits.of(config.data)
    train = encode_corpora(config.data.train, tokenizers, limits, digests)
    if config.data.validation is not None:
        validation = encode_corpora(config.data.validation, tokenizers, limits, digests)
        return DataSets(train, validation)
    sets = DataSets(*split_holdout(train, holdout=config.data.holdout, seed=config.seed))
    amount, unit = len(sets.validation), "lines"
    if config.data.is_running_text:
        amount, unit = int(sets.validation.target.lengths.sum()), "tokens"
    _logger.info("Held out for validation: %s %s (data.holdout).", f"{amount:,}", unit)
    return sets


def batch_set(
    config: Config, data: EncodedData, *, shuffle: bool, sampler: SubwordSampler | None = None
) -> Batches:
    """Returns the batches of encoded data, cut as a config says.

    A language model reads running text as streams.

    Args:
        config: A resolved config.
        data: The encoded data.
        shuffle: Whether rows are in random order, as in training.
        sampler: Samples the segmentations of the texts; not for streams.
    """
    shared: dict[str, Any] = {
        "window": config.data.window,
        "batch_size": config.training.batch_size,
        "batch_unit": config.training.batch_unit,
        "seed": config.seed,
        "shuffle": shuffle,
    }
    if config.reads_streams:
        return StreamSet(data, **shared)
    architecture = config.model.architecture or "encoder_decoder"
    of_epoch = None if sampler is None else sampler.of_epoch
    return BatchSet(data, architecture=architecture, sampler=of_epoch, **shared)


def learn_shortlist(config: Config, data: EncodedData, tokenizers: Tokenizers) -> Shortlist | None:
    """Returns the lexical shortlist of a translation's training data; None for a continuation."""
    if config.task == "continuation" or data.source is None:
        return None
    return Shortlist.learn(
        data.source,
        data.target,
        source_vocab_size=tokenizers.source.vocab_size,
        vocab_size=tokenizers.target.vocab_size,
        seed=config.seed,
    )
