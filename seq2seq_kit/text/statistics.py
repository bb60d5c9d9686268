"""What training texts look like, from a sample of their lines: the basis of `config.rules`."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from seq2seq_kit.config import CorpusConfig, DataConfig, TokenizerConfig
from seq2seq_kit.config.rules import CorpusStatistics, TextStatistics
from seq2seq_kit.config.sections import Normalization
from seq2seq_kit.text.corpus import Pair, read_corpus
from seq2seq_kit.text.lines import raw_lines
from seq2seq_kit.text.normalization import normalize

# Lines that are read of a corpus. A million take seconds; of the rest only the number matters.
_READ_LINES = 200_000
# Lines, and characters, that are looked at; the first limit that is reached holds.
_SAMPLE_LINES = 50_000
_SAMPLE_CHARACTERS = 4_000_000
# Of a line: a whole book may be one.
_LINE_CHARACTERS = 100_000
# A line that is longer than 99.5 % of the lines, and by this factor, is an outlier.
_OUTLIER = 2


def measure_corpora(
    data: DataConfig,
    tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 - it cannot change
) -> CorpusStatistics:
    """Returns what the training texts look like.

    Takes lines at equal distances from the first 200,000 of each corpus, the same ones each time,
    and counts the others without decoding them. Lines that training skips do not count: neither
    those without text nor, where `long_lines` is "skip", those that are far longer than the others
    and than the limit. (Which lines exceed it is known only when there are tokens.)

    Args:
        data: The `data` section, with absolute paths.
        tokenizer: How their texts are normalized: the statistics are of the normalized texts.

    Raises:
        DataError: If a file cannot be used as it is; the message names file and line.
    """
    source = _Side((tokenizer.source or tokenizer).normalization)
    target = _Side((tokenizer.target or tokenizer).normalization)
    num_lines = 0.0
    samples = list(map(_sample, data.train))
    max_source, max_target = _longest_lines(data, [pair for pairs, _ in samples for pair in pairs])
    for corpus, (sample, number) in zip(data.train, samples, strict=True):
        # Each corpus counts by the lines that training shows of it.
        weight = number * corpus.weight / max(len(sample), 1)
        has_source = corpus.kind in ("parallel", "tsv")
        for pair in sample:
            # As in training, where only running text keeps an empty line.
            if corpus.kind != "text" and not (pair.target and (pair.source or not has_source)):
                continue
            if len(pair.source) > max_source or len(pair.target) > max_target:
                continue
            num_lines += weight
            if has_source:
                source.add(pair.source, weight)
            target.add(pair.target, weight)
    return CorpusStatistics(
        num_lines=num_lines,
        target=target.statistics(),
        source=source.statistics() if source.num_lines else None,
    )


def _longest_lines(data: DataConfig, pairs: Sequence[Pair]) -> tuple[float, float]:
    """Returns how many characters a source and a target may have and count."""
    if data.is_running_text or data.long_lines != "skip":
        return math.inf, math.inf
    return (
        max(data.max_source_length, _OUTLIER * _long_line([len(pair.source) for pair in pairs])),
        max(data.max_target_length, _OUTLIER * _long_line([len(pair.target) for pair in pairs])),
    )


def _long_line(lengths: Sequence[int]) -> int:
    """Returns the length that 99.5 % of the lines do not exceed."""
    return sorted(lengths)[int(0.995 * (len(lengths) - 1))] if lengths else 0


def measure_texts(texts: Iterable[str]) -> TextStatistics:
    """Returns what some texts look like, all of them as they are."""
    side = _Side("none")
    for text in texts:
        side.add(text, 1.0)
    return side.statistics()


def _sample(corpus: CorpusConfig) -> tuple[list[Pair], int]:
    """Returns lines at equal distances, and the number of lines of the whole corpus."""
    kept: list[Pair] = []
    number, stride, characters = 0, 1, 0
    for pair in islice(read_corpus(corpus), _READ_LINES):
        if number % stride == 0:
            kept.append(pair)
            characters += len(pair.source) + len(pair.target)
            while len(kept) > _SAMPLE_LINES or (characters > _SAMPLE_CHARACTERS and len(kept) > 1):
                # Every second goes whenever there are too many, so that the rest is even.
                kept, stride = kept[::2], 2 * stride
                characters = sum(len(one.source) + len(one.target) for one in kept)
        number += 1
    if number == _READ_LINES:
        number = max(number, sum(1 for _ in raw_lines(corpus.files[-1])) - corpus.header)
    return kept, number


class _Side:
    """The texts of one side, added one by one."""

    def __init__(self, normalization: Normalization) -> None:
        self.num_lines = 0.0
        self._normalization = normalization
        self._num_characters = 0.0
        self._num_words = 0.0
        self._lengths: list[int] = []
        self._characters: Counter[str] = Counter()
        self._words: Counter[str] = Counter()

    def add(self, text: str, weight: float) -> None:
        start = normalize(text[:_LINE_CHARACTERS], self._normalization)
        words = [word for word in start.split(" ") if word]
        length = len(start) + len(text[_LINE_CHARACTERS:])
        self.num_lines += weight
        self._num_characters += weight * length
        self._num_words += weight * len(words)
        self._lengths.append(length)
        self._characters.update(start)
        self._words.update(words)

    def statistics(self) -> TextStatistics:
        self._characters.pop(" ", None)
        return TextStatistics(
            characters_per_line=self._num_characters / max(self.num_lines, 1e-9),
            words_per_line=self._num_words / max(self.num_lines, 1e-9),
            long_line=_long_line(self._lengths),
            characters=frozenset(self._characters),
            words=frozenset(self._words),
            num_words=self._words.total(),
            scripts=_scripts(self._characters),
        )


def _scripts(characters: Counter[str]) -> dict[str, float]:
    """Returns the share of each script among the letters."""
    letters = Counter(dict(_letters(characters)))
    scripts: Counter[str] = Counter()
    for letter, number in letters.items():
        scripts[unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]] += number
    total = scripts.total()
    return {script: number / total for script, number in scripts.items()}


def _letters(characters: Counter[str]) -> Iterator[tuple[str, int]]:
    for character, number in characters.items():
        if unicodedata.category(character).startswith("L"):
            yield character, number
