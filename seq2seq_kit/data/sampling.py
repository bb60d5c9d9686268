"""Subword sampling: in each epoch, training sees the same texts cut into other pieces.

Subword regularization (Kudo, 2018, https://arxiv.org/abs/1804.10959) for unigram vocabularies and
BPE-dropout (Provilkov et al., 2020, https://arxiv.org/abs/1910.13267) for BPE. A sampled
segmentation is a pure function of seed, epoch and the tokens of the best one, so that any number of
workers, and a resumed run, see the same.
"""

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np

from seq2seq_kit.config import Config
from seq2seq_kit.data.plan import Examples, Sample
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Kudo, 2018, uses 0.1 to 0.5, and Provilkov et al., 2020, drop 0.1 of the merges.
_DEFAULT_ALPHAS = {"unigram": 0.2, "bpe": 0.1}


@dataclass(frozen=True, eq=False)
class SampledSide:
    """How one side of the training data is segmented."""

    tokenizer: Tokenizer
    """Its vocabulary; unigram or BPE."""
    alpha: float
    """The parameter of `Tokenizer.resample`."""


@dataclass(frozen=True, eq=False)
class SubwordSampler:
    """Replaces the tokens of examples by sampled segmentations of the same texts."""

    source: SampledSide | None
    """The source side; None leaves its tokens as they are."""
    target: SampledSide | None
    """The target side."""
    seed: int
    """The seed of the run."""

    def of_epoch(self, epoch: int) -> Sample:
        """Returns `sample` for one epoch, counted from 0."""
        return partial(self.sample, epoch=epoch)

    def sample(
        self, ids: np.ndarray, examples: Examples, epoch: int
    ) -> tuple[np.ndarray, Examples]:
        """Samples a segmentation of each text.

        Args:
            ids: integers `(tokens,)`. The array that the spans of `examples` refer to.
            examples: The examples; only they are read.
            epoch: The number of the epoch, counted from 0.

        Returns:
            New ids, int32, and the examples as spans of them.
        """
        sources, targets = [], []
        spans = zip(examples.begins, examples.source_lengths, examples.target_lengths, strict=True)
        for begin, source_length, target_length in spans:
            split = begin + source_length
            sources.append(self._sample_text(ids[begin:split], self.source, epoch))
            targets.append(
                self._sample_text(ids[split : split + target_length], self.target, epoch)
            )
        source_lengths, target_lengths = (
            np.array([len(text) for text in side], np.int64) for side in (sources, targets)
        )
        ends = np.cumsum(source_lengths + target_lengths)
        texts = [text for pair in zip(sources, targets, strict=True) for text in pair]
        return np.concatenate(texts), Examples(
            ends - source_lengths - target_lengths,
            source_lengths,
            target_lengths,
            examples.ends_text,
        )

    def _sample_text(self, ids: np.ndarray, side: SampledSide | None, epoch: int) -> np.ndarray:
        ids = ids.astype(np.int32)
        if side is None or not len(ids):
            return ids
        content = np.concatenate([[self.seed, epoch], ids]).astype("<i8").tobytes()
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "little")
        sampled = side.tokenizer.resample(ids.tolist(), alpha=side.alpha, seed=seed)
        return np.array(sampled, np.int32)


def make_sampler(config: Config, tokenizers: Tokenizers) -> SubwordSampler | None:
    """Returns the sampler that `training.subword_sampling` asks for; None without one.

    Args:
        config: A resolved config.
        tokenizers: The tokenizers of both sides.

    Raises:
        ConfigError: If a side to be sampled has neither a unigram nor a BPE vocabulary.
    """
    sides: dict[str, SampledSide | None] = {"source": None, "target": None}
    for name in config.training.sampled_sides:
        tokenizer = getattr(tokenizers, name)
        if tokenizer.type not in _DEFAULT_ALPHAS:
            raise ConfigError(
                "`training.subword_sampling` needs a unigram or BPE vocabulary, whose texts can be"
                f" segmented in several ways. The vocabulary of the {name} is of the type"
                f" {tokenizer.type!r}. Use another one, or set `training.subword_sampling: none`."
            )
        alpha = config.training.subword_sampling_alpha or _DEFAULT_ALPHAS[tokenizer.type]
        sides[name] = SampledSide(tokenizer, alpha)
    if not any(sides.values()):
        return None
    return SubwordSampler(**sides, seed=config.seed)
