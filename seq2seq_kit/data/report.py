"""What happened to the lines of a set of corpora while they were encoded, for the log."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

from seq2seq_kit.config import CorpusConfig

Side = Literal["source", "target"]

_PLACES_SHOWN = 5


@dataclass(frozen=True)
class EncodingReport:
    """How many lines of a set of corpora are used, and why the others are not."""

    lines: int
    """Lines read."""
    kept: int
    """Lines used, including truncated ones."""
    empty: int
    """Lines skipped because a side has no text."""
    bad: int
    """TSV rows skipped because their number of columns is not the usual one."""
    too_long: int
    """Lines skipped because a side has more tokens than allowed."""
    truncated: int
    """Lines with a side that was cut to the allowed number of tokens."""
    source_tokens: int
    """Source tokens used, without BOS and EOS."""
    target_tokens: int
    """Target tokens used, without BOS and EOS."""
    empty_at: tuple[str, ...]
    """`file:line` of the first five empty lines."""
    bad_at: tuple[str, ...]
    """`file:line` of the first five rows with an unusual number of columns."""
    too_long_at: tuple[str, ...]
    """`file:line` of the first five lines skipped or truncated for their length."""

    def __str__(self) -> str:
        """One line for a log, such as `98 of 100 lines used, 2 empty skipped (a:7, a:9)`."""
        parts = [f"{self.kept:,} of {self.lines:,} lines used"]
        if self.empty:
            parts.append(f"{self.empty:,} empty skipped{_listed(self.empty, self.empty_at)}")
        if self.bad:
            shown = _listed(self.bad, self.bad_at)
            parts.append(f"{self.bad:,} with an unusual number of columns skipped{shown}")
        if self.too_long:
            shown = _listed(self.too_long, self.too_long_at)
            parts.append(f"{self.too_long:,} too long skipped{shown}")
        if self.truncated:
            shown = _listed(self.truncated, self.too_long_at)
            parts.append(f"{self.truncated:,} truncated{shown}")
        return ", ".join(parts)


def _listed(count: int, places: tuple[str, ...]) -> str:
    return f" ({', '.join(places)}{', ...' if count > len(places) else ''})"


class Place(NamedTuple):
    """A line of a corpus. It has no path, because a file may be moved after it was encoded."""

    corpus: int
    """Index of the corpus in its set."""
    side: Side
    line: int
    """Line number, counted from 1."""

    def locate(self, corpora: Sequence[CorpusConfig]) -> str:
        """Returns `file:line`."""
        corpus = corpora[self.corpus]
        path = getattr(corpus, self.side) or corpus.table or corpus.lines or corpus.text
        return f"{path}:{self.line}"


@dataclass
class Tally:
    """The counts of a report while corpora are encoded; stored in the cache as JSON."""

    lines: int = 0
    kept: int = 0
    empty: int = 0
    bad: int = 0
    too_long: int = 0
    truncated: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    empty_at: list[Place] = field(default_factory=list)
    bad_at: list[Place] = field(default_factory=list)
    too_long_at: list[Place] = field(default_factory=list)

    def report(self, corpora: Sequence[CorpusConfig]) -> EncodingReport:
        """Returns the counts with the places under the present paths of the files."""
        counts = asdict(self)
        for key in ("empty_at", "bad_at", "too_long_at"):
            counts[key] = tuple(Place(*place).locate(corpora) for place in counts[key])
        return EncodingReport(**counts)


def note(places: list[Place], place: Place) -> None:
    """Adds a place to a list of a tally unless it has five already."""
    if len(places) < _PLACES_SHOWN:
        places.append(place)
