"""Defaults that suit the data: a few rules from statistics of the texts to keys of a config.

This is the only place where a default depends on the data. It knows nothing of files or TensorFlow.
A key that a config gives is never changed. The choices are meant for some minutes of training on a
CPU: `benchmarks/three_line_configs.py` measures them.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from seq2seq_kit.config.sections import Config, ModelConfig, VocabularyConfig

# Scripts without spaces between words. In the first group a character is a syllable or a word,
# so that characters make good tokens; in the second a character is a letter.
_SYLLABLES = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI")
_LETTERS = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
# A Han character says as much as several letters: a third of them makes a text Chinese.
_UNSPACED_SHARE = 0.3
# Segmented Chinese has words of one or two characters.
_SEGMENTED_WORD_LENGTH = 3.0

# Japanese has a larger share of kana, Chinese with a few quotations a smaller one.
_KANA_SHARE = 0.05

_SPECIAL_PIECES = 4
_BYTE_PIECES = 256
_MAX_CHARACTER_PIECES = 8000

# A closed set of words, such as phones, commands or labels: few words, each of them frequent. Text
# of the same length in a language has many more distinct words.
_CLOSED_SET_WORDS = 500
_CLOSED_SET_REPEATS = 50

# Where the output is a single word, inputs of up to this many characters are split into characters:
# a longer one is a text, and the word summarizes it.
_MAX_CHARACTERS_OF_A_FORM = 60

# Characters per piece in vocabularies of a few thousand, measured on Tatoeba: 3.6 in English, 3.4
# in German.
_CHARACTERS_PER_PIECE = 3.5

VocabularyType = Literal["unigram", "bpe", "word", "char"]


@dataclass(frozen=True)
class TextStatistics:
    """Statistics of the texts of one side."""

    characters_per_line: float
    """Mean number of characters of a line."""
    words_per_line: float
    """Mean number of words of a line; words are separated by spaces."""
    long_line: int
    """Characters that 99.5 % of the lines do not exceed."""
    characters: AbstractSet[str]
    """The distinct characters, without the space."""
    words: AbstractSet[str]
    """The distinct words."""
    num_words: int
    """Number of words that were counted."""
    scripts: Mapping[str, float] = field(default_factory=dict)
    """Share of each script among the letters: `{"CJK": 0.98, "LATIN": 0.02}`. A script is named
    after the first word in the Unicode names of its letters; CJK are Han characters."""

    def share(self, scripts: Iterable[str]) -> float:
        """Returns the share of the letters that belong to one of the scripts."""
        return sum(self.scripts.get(script, 0.0) for script in scripts)

    @property
    def main_script(self) -> str:
        """The script of most letters; empty if there are no letters."""
        return max(self.scripts, key=lambda script: self.scripts[script], default="")

    @property
    def is_segmented(self) -> bool:
        """Whether spaces separate words, even in a script that is usually written without them."""
        return self.characters_per_line < _SEGMENTED_WORD_LENGTH * self.words_per_line

    @property
    def is_syllabic(self) -> bool:
        """Whether the text is Chinese or Japanese without spaces between words."""
        return self.share(_SYLLABLES) >= _UNSPACED_SHARE and not self.is_segmented

    @property
    def is_unspaced(self) -> bool:
        """Whether no spaces separate words, as in Chinese, Japanese and Thai."""
        return self.is_syllabic or self.share(_LETTERS) >= _UNSPACED_SHARE

    @property
    def is_closed_set(self) -> bool:
        """Whether the words are a few frequent ones, such as phones or labels."""
        num_distinct = len(self.words)
        return (
            0 < num_distinct <= _CLOSED_SET_WORDS
            and self.num_words >= _CLOSED_SET_REPEATS * num_distinct
            and not self.is_unspaced
        )

    @property
    def is_one_word(self) -> bool:
        """Whether a line is a word and not a sentence."""
        return self.words_per_line < 1.5 and not self.is_unspaced


@dataclass(frozen=True)
class CorpusStatistics:
    """Statistics of the training data."""

    num_lines: float
    """Lines of an epoch, multiplied by the weights of their corpora."""
    target: TextStatistics
    """The target side; for continuation without prompts, the texts."""
    source: TextStatistics | None = None
    """The source side; None if there is none."""

    @property
    def sides(self) -> dict[str, TextStatistics]:
        """The existing sides by name."""
        sides = {} if self.source is None else {"source": self.source}
        return sides | {"target": self.target}


class Choice(NamedTuple):
    """Keys that were chosen together, and why."""

    values: Mapping[str, Any]
    """Dotted keys with their values."""
    reason: str
    """The property of the data that the values follow from."""

    def __str__(self) -> str:
        """One line for the log, such as `model.units 256, model.embedding_dim 256: few tokens`."""
        return f"{', '.join(f'{key} {_shown(value)}' for key, value in self.values.items())}: " + (
            self.reason
        )


def choose_defaults(config: Config, statistics: CorpusStatistics) -> tuple[Config, list[Choice]]:
    """Fills in the keys that a config leaves out with values that suit its data.

    Args:
        config: A config from `load_config`. The keys that it gives are never changed.
        statistics: Statistics of the training data.

    Returns:
        A config in which every key counts as given, so that it is never filled in again, and the
        choices.

    Example:

        config = load_config("my.yaml")
        config, choices = choose_defaults(config, measure_corpora(config.data))
    """
    given = given_keys(config)
    choices = []
    for rule in (_vocabularies, _lengths, _sizes, _optimisation, _validation, _scores):
        new: dict[str, Any] = {}
        for choice in rule(config, statistics, given):
            values = {key: value for key, value in choice.values.items() if key not in given}
            if values:
                choices.append(choice._replace(values=values))
                new |= values
        config = _with_values(config, new)  # Both sides' vocabularies, or none.
    return _with_values(config, {}), choices


def keep_chosen(config: Config, saved: Config) -> Config:
    """Fills in the keys that a config leaves out with the choices made when its run was started.

    Args:
        config: A config from `load_config`, to resume a run with.
        saved: The config saved with the run, which has every key.
    """
    given, values = given_keys(config), {}
    taken_over = [f"model.{key}" for key in ModelConfig.model_fields]
    taken_over += ["init_from.tokenizer", "init_from.sha256"]
    for key in (*_CHOSEN, *(taken_over if config.init_from and saved.init_from else ())):
        if key not in given and not (key == "tokenizer" and _any_below("tokenizer", given)):
            values[key] = _value(saved, key)
    for section in ("tokenizer", "tokenizer.source", "tokenizer.target"):
        # Earlier versions saved `byte_fallback: true` if it was left out.
        key = f"{section}.byte_fallback"
        if key not in given and _has(config, section) and _has(saved, section):
            values[key] = _value(saved, key)
    return _with_values(config, values)


def _has(config: Config, key: str) -> bool:
    return _value(config, key) is not None


def given_keys(config: Config) -> set[str]:
    """Returns the dotted keys that a config gives: all others have a default in it."""
    return set(_given_below(config, ""))


# Keys that the rules may choose; `tokenizer` as a whole, because its two forms exclude each other.
_CHOSEN = (
    "tokenizer",
    "data.max_source_length",
    "data.max_target_length",
    "decoding.max_length",
    "data.holdout",
    "data.bleu_tokenize",
    "model.embedding_dim",
    "model.units",
    "model.dropout",
    "training.batch_size",
    "training.learning_rate",
    "training.label_smoothing",
    "training.validate_every",
    "training.early_stopping.metric",
)


# ---- The rules, each a generator of choices in the order in which they are applied.


def _vocabularies(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    """Characters, words or pieces; one vocabulary for both sides or one for each."""
    sides = statistics.sides
    types = {name: _vocabulary_type(name, statistics) for name in sides}
    if config.tokenizer.source is not None and config.tokenizer.target is not None:
        two = True
    else:
        free = not _any_below("tokenizer", given)
        two = free and config.model.architecture == "encoder_decoder" and _differ(sides, types)
    if two:
        for name, side in sides.items():
            vocabulary = getattr(config.tokenizer, name) or VocabularyConfig(lossless=False)
            key = f"tokenizer.{name}"
            yield _vocabulary(key, vocabulary, [side], types[name], statistics.num_lines, given)
    else:
        texts = list(sides.values())
        joint = _joint_type(set(types.values()), texts)
        settings = config.tokenizer
        yield _vocabulary("tokenizer", settings, texts, joint, statistics.num_lines, given)


def _vocabulary(
    key: str,
    settings: VocabularyConfig,
    texts: list[TextStatistics],
    suggested: VocabularyType,
    num_lines: float,
    given: AbstractSet[str],
) -> Choice:
    if settings.model is not None:
        return Choice({}, "")
    if suggested == "word" and settings.lossless:
        suggested = "unigram"  # words are split at spaces, which lossless keeps
    kind = settings.type if f"{key}.type" in given else suggested
    size, reason = _vocabulary_size(kind, settings, texts, num_lines)
    return Choice({f"{key}.type": kind, f"{key}.vocab_size": size}, reason)


def _vocabulary_type(name: str, statistics: CorpusStatistics) -> VocabularyType:
    """Returns the type of vocabulary that suits a side."""
    side = statistics.sides[name]
    if side.is_closed_set:
        return "word"
    if side.is_syllabic:
        return "char"
    if side.is_unspaced:
        return "bpe"  # unigram takes minutes to train if no spaces separate words
    is_form = statistics.target.is_one_word and not statistics.target.is_closed_set
    if statistics.source is not None and is_form:
        return "char" if side.characters_per_line <= _MAX_CHARACTERS_OF_A_FORM else "unigram"
    return "char" if side.is_one_word else "unigram"


def _differ(sides: Mapping[str, TextStatistics], types: Mapping[str, VocabularyType]) -> bool:
    """Whether the sides have so little in common that each needs its own vocabulary."""
    # Chinese and Japanese share many characters.
    scripts = {"CJK" if side.is_syllabic else side.main_script for side in sides.values()}
    return len(set(types.values())) > 1 or len(scripts) > 1


def _joint_type(types: set[VocabularyType], texts: list[TextStatistics]) -> VocabularyType:
    """Returns the type of a vocabulary that both sides share."""
    if len(types) == 1:
        return next(iter(types))
    if any(text.is_unspaced for text in texts):
        return "bpe"
    return "char" if "char" in types else "unigram"


def _vocabulary_size(
    kind: VocabularyType, settings: VocabularyConfig, texts: list[TextStatistics], num_lines: float
) -> tuple[int, str]:
    """Returns the number of pieces, and the reason for it."""
    characters = set().union(*(text.characters for text in texts))
    fixed = _SPECIAL_PIECES + _BYTE_PIECES * (settings.byte_fallback is not False)
    fixed += len(settings.user_defined_symbols) + bool(settings.lossless)
    if kind == "char":
        size = min(fixed + 1 + len(characters), _MAX_CHARACTER_PIECES)  # 1: the space
        what = "no spaces between words" if texts[-1].is_unspaced else "lines of one word"
        return max(size, 8), f"{what}, {len(characters):,} different characters"
    if kind == "word":
        words = set().union(*(text.words for text in texts))
        return max(fixed + len(words), 8), f"{len(words):,} different words, each seen often"
    total = num_lines * sum(text.characters_per_line for text in texts)
    size = next((pieces for limit, pieces in _PIECES if total < limit), _MOST_PIECES)
    # Each character has a piece; some more keep the size feasible for the smallest data.
    return max(size, fixed + len(characters) + 100), f"{_about(total)} characters of text"


# Vocabulary size by number of characters: the less text, the rarer the rare pieces.
_PIECES = ((50_000, 500), (200_000, 1000), (1_000_000, 2000), (20_000_000, 4000))
_MOST_PIECES = 8000


# A batch of longer lines would need gigabytes.
_LONGEST = 500


def _lengths(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    """Raises the limits if many lines would be skipped."""
    if config.data.is_running_text:
        return
    limit = _LONGEST
    if config.training.batch_unit == "tokens":
        limit = min(limit, config.training.batch_size - 1)
    for name, side in statistics.sides.items():
        key = f"data.max_{name}_length"
        tokens = side.long_line / _characters_per_token(config, name, side, at_most=2.5)
        chosen = min(limit, 50 * (int(tokens) // 50 + 1))
        if chosen > getattr(config.data, f"max_{name}_length"):
            values = {key: chosen}
            if name == "target":
                values["decoding.max_length"] = chosen
            yield Choice(values, f"lines of up to {side.long_line:,} characters")


def _characters_per_token(
    config: Config, name: str, side: TextStatistics, at_most: float = _CHARACTERS_PER_PIECE
) -> float:
    vocabulary = getattr(config.tokenizer, name) or config.tokenizer
    if vocabulary.type == "char":
        return 1.0
    if vocabulary.type == "word":
        return max(1.0, side.characters_per_line / max(side.words_per_line, 1.0))
    return 1.5 if side.is_syllabic else at_most


def _tokens_per_line(config: Config, name: str, side: TextStatistics) -> float:
    """Returns the mean number of tokens of a line, including EOS."""
    return 1.0 + side.characters_per_line / _characters_per_token(config, name, side)


def _tokens_per_epoch(config: Config, statistics: CorpusStatistics) -> float:
    return statistics.num_lines * _tokens_per_line(config, "target", statistics.target)


_MANY_TOKENS = 2_500_000
# With 256 units, on two cores with AVX-512.
_TOKENS_A_MINUTE = 600_000
# Where a config gives no limit.
_USUAL_MINUTES = 10.0


def _sizes(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    tokens = _tokens_per_epoch(config, statistics)
    units = 256 if tokens < _MANY_TOKENS else 384
    yield Choice(
        {"model.embedding_dim": 256, "model.units": units}, f"{_about(tokens)} tokens an epoch"
    )
    minutes = config.training.max_minutes or _USUAL_MINUTES
    passes = minutes * _TOKENS_A_MINUTE / tokens
    dropout = 0.1 if passes < 5 else 0.2 if passes < 15 else 0.3
    shown = "less than once" if passes < 1 else f"about {_about(passes)} times"
    yield Choice(
        {"model.dropout": dropout},
        f"in {minutes:g} minute{'s' * (minutes != 1)}, two cores train on each line "
        f"{shown if passes < 1000 else 'more than 1,000 times'}",
    )


def _optimisation(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    units = config.model.units
    rate = 0.003 if units <= 384 else 0.002 if units <= 768 else 0.001
    yield Choice({"training.learning_rate": rate}, f"{units} units")
    if config.task == "continuation":
        yield Choice({"training.label_smoothing": 0.0}, "continuation is judged by its perplexity")
    if config.training.batch_unit == "sentences":
        length = _row_length(config, statistics)
        rows = 64 if length <= 25 else 32 if length <= 50 else 16
        yield Choice({"training.batch_size": rows}, f"about {_about(length)} tokens a line")


def _row_length(config: Config, statistics: CorpusStatistics) -> float:
    if config.data.is_running_text:
        return config.data.window
    return _tokens_per_line(config, "target", statistics.target)


def _validation(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    if config.data.is_running_text and config.data.validation is None:
        yield Choice(
            {"data.holdout": _HELD_OUT_THOUSANDS},
            f"{_HELD_OUT_THOUSANDS},000 tokens are enough to compare by",
        )
    steps = _steps_per_epoch(config, statistics)
    if steps > 2 * _VALIDATE_EVERY:
        yield Choice(
            {"training.validate_every": _VALIDATE_EVERY},
            f"an epoch has about {_about(steps)} steps",
        )


# A validation takes about as long as 20 steps of training.
_VALIDATE_EVERY = 500
# The default for lines, 1,000, would take a fifth of the time of training for running text.
_HELD_OUT_THOUSANDS = 50


def _steps_per_epoch(config: Config, statistics: CorpusStatistics) -> float:
    if config.training.batch_unit == "tokens" or config.data.is_running_text:
        row = _row_length(config, statistics)
        rows = _tokens_per_epoch(config, statistics) / row
        per_step = config.training.batch_size
        if config.training.batch_unit == "tokens":
            per_step = max(1, per_step // int(row))
        return rows / per_step
    return statistics.num_lines / config.training.batch_size


def _scores(
    config: Config, statistics: CorpusStatistics, given: AbstractSet[str]
) -> Iterator[Choice]:
    target = statistics.target
    is_japanese = target.share(("HIRAGANA", "KATAKANA")) > _KANA_SHARE
    if target.share(("CJK", "BOPOMOFO")) >= _UNSPACED_SHARE and not is_japanese:
        yield Choice({"data.bleu_tokenize": "zh"}, "the target is Chinese")
    elif target.is_unspaced:
        yield Choice({"data.bleu_tokenize": "char"}, "the target has no spaces between words")


# ---- Helpers of the rules


def _given_below(section: BaseModel, prefix: str) -> Iterator[str]:
    for name in section.model_fields_set:
        value, key = getattr(section, name), f"{prefix}{name}"
        yield key
        if isinstance(value, BaseModel):
            yield from _given_below(value, f"{key}.")


def _any_below(key: str, given: AbstractSet[str]) -> bool:
    return any(one.startswith(f"{key}.") for one in given)


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value.model_dump() if isinstance(value, BaseModel) else value


def _with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns a config with new values, in which every key counts as given."""
    return Config.model_validate(set_values(config.model_dump(), values))


def set_values(config: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Sets dotted keys in a config of plain values, and returns it."""
    for key, value in values.items():
        *parents, name = key.split(".")
        section = config
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            section = section[parent]
        section[name] = value
    return config


def _about(number: float) -> str:
    """Rounds to two significant digits, such as `1,500,000`: an estimate is no more precise."""
    return f"{float(f'{number:.2g}'):,.0f}" if number >= 10 else f"{number:.2g}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
