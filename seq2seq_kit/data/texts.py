"""The texts of a data set as its files have them, to compare outputs with and to show."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from seq2seq_kit.config import Config, CorpusConfig
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.text.corpus import BadRow, Pair, read_corpus, read_pairs
from seq2seq_kit.tokens.tokenizer import Tokenizer

# A prompt made from running text has this many tokens, and so has its continuation.
_PROMPT_TOKENS = 32


class TextPairs(NamedTuple):
    """Inputs and the outputs that the data have for them."""

    sources: list[str]
    """Sources, or prompts."""
    targets: list[str]
    """Their targets, or continuations."""


def validation_texts(
    config: Config, data: EncodedData, tokenizers: Tokenizers, digests: FileDigests
) -> TextPairs:
    """Returns the texts of a validation set: its pairs, or prompts with their continuations.

    Pairs are read from the files again, because the ids of a text may lack some of it: characters
    that have no token, or the end of a line that is too long. Texts without a source are decoded
    from their ids, since a prompt ends between two tokens.

    Args:
        config: A resolved config.
        data: Its encoded validation data, or the rows held out of its training data.
        tokenizers: The tokenizers of both sides.
        digests: The digests under which the files were encoded.

    Raises:
        DataError: If a file has changed since it was encoded, or cannot be read.
    """
    if data.source is None:
        return _prompts(data, tokenizers.target)
    corpora = config.data.validation or config.data.train
    pairs = [
        pair
        for corpus, rows in zip(corpora, data.corpora, strict=True)
        for pair in read_pairs(corpus, data.lines[rows.start : rows.stop].tolist())
    ]
    for corpus in corpora:
        digests.check_unchanged(corpus.files)
    return _text_pairs(pairs)


def corpus_texts(corpora: Sequence[CorpusConfig]) -> TextPairs:
    """Returns all pairs of corpora exactly as the files have them."""
    pairs = chain.from_iterable(map(read_corpus, corpora))
    return _text_pairs([pair for pair in pairs if not isinstance(pair, BadRow)])


def _text_pairs(pairs: Sequence[Pair]) -> TextPairs:
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
