"""The tokenizers of a run: trained on its training data, found in the cache, or given as files."""

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from seq2seq_kit.config import Config, CorpusConfig, VocabularyConfig
from seq2seq_kit.data.cache import cache_folder, describe_corpus, read_cached, write_cached
from seq2seq_kit.digests import FileDigests, digest
from seq2seq_kit.text.corpus import read_corpus
from seq2seq_kit.tokens.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

# Part of a cached tokenizer's key: raised when the same texts give a different tokenizer.
_VERSION = 2


class Tokenizers(NamedTuple):
    """The tokenizers of both sides; twice the same object if the sides share one."""

    source: Tokenizer
    target: Tokenizer

    def by_name(self) -> dict[str, Tokenizer]:
        """Returns each tokenizer once: as `shared`, or as `source` and `target`."""
        return {"shared": self.target} if self.source is self.target else self._asdict()


def build_tokenizers(config: Config, digests: FileDigests) -> Tokenizers:
    """Returns the tokenizers that a config describes.

    A tokenizer that was trained before on the same texts with the same options comes from the
    cache.

    Args:
        config: A resolved config.
        digests: The digests of its files.

    Raises:
        ConfigError: If an option does not suit the texts, or a given model cannot be used.
        DataError: If a text cannot be used, or changes while it is read.
    """
    settings = config.tokenizer
    if settings.source is None or settings.target is None:
        shared = _build_tokenizer(settings, config.data.train, ("source", "target"), digests)
        return Tokenizers(shared, shared)
    return Tokenizers(
        _build_tokenizer(settings.source, config.data.train, ("source",), digests),
        _build_tokenizer(settings.target, config.data.train, ("target",), digests),
    )


def _build_tokenizer(
    settings: VocabularyConfig,
    corpora: Sequence[CorpusConfig],
    sides: Sequence[str],
    digests: FileDigests,
) -> Tokenizer:
    if settings.model is not None:
        return Tokenizer.load(settings.model, settings.normalization)
    described = [describe_corpus(corpus, digests) for corpus in corpora]
    key = json.dumps([_VERSION, settings.model_dump(mode="json"), list(sides), described])
    path = cache_folder() / f"tokenizer-{digest(key.encode())[:32]}"
    if (model_proto := read_cached(path)) is not None:
        tokenizer = Tokenizer(model_proto)
        tokenizer.warn_if_smaller(settings.vocab_size)
        return tokenizer
    _logger.info("Training a %s tokenizer of %d pieces.", settings.type, settings.vocab_size)
    tokenizer = Tokenizer.train(
        _texts(corpora, sides),
        type=settings.type,
        vocab_size=settings.vocab_size,
        character_coverage=settings.character_coverage,
        byte_fallback=settings.byte_fallback,
        user_defined_symbols=settings.user_defined_symbols,
        lossless=bool(settings.lossless),
        normalization=settings.normalization,
    )
    for corpus in corpora:
        digests.check_unchanged(corpus.files)
    write_cached(path, tokenizer.model_proto, "The trained tokenizer")
    return tokenizer


def _texts(corpora: Sequence[CorpusConfig], sides: Sequence[str]) -> Iterator[str]:
    """Yields the texts of the given sides of all pairs."""
    for pair in chain.from_iterable(map(read_corpus, corpora)):
        yield from filter(None, (getattr(pair, side) for side in sides))
