"""Texts of a data set beside their ids: what outputs are compared with and shown next to."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.text.corpus import BadRow, read_corpus
from seq2seq_kit.tokens.tokenizer import Tokenizer

# A prompt made from running text has this many tokens, and so has its continuation.
_PROMPT_TOKENS = 32


class TextPairs(NamedTuple):
    """Inputs and the outputs that the data have for them."""

    sources: list[str]
    """Sources, or prompts."""
    targets: list[str]
    """Their targets, or continuations."""


def validation_texts(data: EncodedData, tokenizers: Tokenizers) -> TextPairs:
    """Returns the texts of a validation set: its pairs, or prompts with their continuations."""
    if data.source is None:
        return _prompts(data, tokenizers.target)
    sources, targets = data.source, data.target
    rows = range(len(data))
    return TextPairs(
        tokenizers.source.decode([sources[row].tolist() for row in rows]),
        tokenizers.target.decode([targets[row].tolist() for row in rows]),
    )


def corpus_texts(corpora: Sequence[CorpusConfig]) -> TextPairs:
    """Returns all pairs of corpora exactly as the files have them."""
    pairs = [
        pair
        for pair in chain.from_iterable(map(read_corpus, corpora))
        if not isinstance(pair, BadRow)
    ]
    return TextPairs([pair.source for pair in pairs], [pair.target for pair in pairs])


def _prompts(data: EncodedData, tokenizer: Tokenizer) -> TextPairs:
    """Cuts each line in two, and running text into prompts and continuations of 32 tokens each."""
    cuts = []
    for row in range(len(data)):
        ids = data.target[row]
        starts = range(0, len(ids), 2 * _PROMPT_TOKENS)
        for stretch in (ids[start : start + 2 * _PROMPT_TOKENS].tolist() for start in starts):
            middle = (len(stretch) + 1) // 2
            cuts.append((stretch[:middle], stretch[middle:]))
    return TextPairs(*(tokenizer.decode(list(part)) for part in zip(*cuts, strict=True)))
