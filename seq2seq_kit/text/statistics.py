"""Statistics of training texts, from a sample of their lines; `config.rules` uses them."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from seq2seq_kit.config import CorpusConfig, DataConfig, TokenizerConfig
from seq2seq_kit.config.rules import CorpusStatistics, TextStatistics
from seq2seq_kit.config.section import Normalization
from seq2seq_kit.config.sections import PAIR_KINDS
from seq2seq_kit.text.corpus import Pair, read_corpus
from seq2seq_kit.text.lines import raw_lines
from seq2seq_kit.text.normalization import normalize

# Lines read of a corpus, since a million take seconds; the others are only counted.
_READ_LINES = 200_000
# Lines and characters measured; the first limit reached applies.
_SAMPLE_LINES = 50_000
_SAMPLE_CHARACTERS = 4_000_000
# Characters measured of a line: a whole book may be one line.
_LINE_CHARACTERS = 100_000
# A line that is longer than 99.5 % of the lines, and by this factor, is an outlier.
_OUTLIER = 2


def measure_corpora(
    data: DataConfig,
    tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 - it cannot change
) -> CorpusStatistics:
    """Returns statistics of the training texts.

    Measures lines at equal distances from the first 200,000 of each corpus, the same ones each
    time, and counts the others without decoding them. Lines that training skips are left out: lines
    without text and, if `long_lines` is "skip", lines far longer than both the others and the
    limit. (Which lines exceed the limit is known only after tokenizing.)

    Args:
        data: The `data` section, with absolute paths.
        tokenizer: The normalization of the texts; the normalized texts are measured.

    Raises:
        DataError: If a file cannot be used as it is; the message names file and line.
    """
    source = _Side((tokenizer.source or tokenizer).normalization)
    target = _Side((tokenizer.target or tokenizer).normalization)
    num_lines = 0.0
    samples = list(map(_sample, data.train))
    max_source, max_target = _longest_lines(data, [pair for pairs, _ in samples for pair in pairs])
    for corpus, (sample, number) in zip(data.train, samples, strict=True):
        # A corpus has the weight of the lines that an epoch shows of it.
        weight = number * corpus.weight / max(len(sample), 1)
        has_source = corpus.kind in PAIR_KINDS
        for pair in sample:
            # As in training, which keeps empty lines only in running text.
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
    """Returns the characters of a source and of a target above which a line is left out."""
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
    """Returns statistics of all given texts, without normalization."""
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
                # Dropping every second keeps the distances equal.
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
