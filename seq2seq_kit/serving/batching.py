"""Which lines are searched together: those with the same options and of like length.

A search pads no line to the length of another (docs/decisions/0004-groups-of-fixed-size.md), so
that lines of like length share its work and others do not. Knows nothing of threads.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.options import SearchOptions

_MOST_TURNS = 16
"""Batches that a line lets pass at most: about twice as many as common lengths."""


@dataclass(eq=False)
class Job:
    """Texts of one request that wait for their hypotheses."""

    texts: Sequence[str]
    """The inputs."""
    options: SearchOptions
    """The options of the search."""
    prefixes: Sequence[str] = ()
    """A forced beginning for each output; nothing where none is forced."""
    answer: "Future[list[list[Hypothesis]]]" = field(default_factory=Future)
    """The hypotheses of each text, or the error. Cancelling it takes the job out of the queue."""
    arrived: float = field(default_factory=time.monotonic)
    """When it came, in seconds of `time.monotonic`."""
    found: dict[int, list[Hypothesis]] = field(default_factory=dict)
    """The hypotheses of the texts that were searched already, by their places."""


class Line(NamedTuple):
    """One text of a job."""

    job: Job
    """The job."""
    place: int
    """The place of the text in it, from 0."""
    turn: int
    """The batches that were taken before it came."""

    @property
    def text(self) -> str:
        """The input."""
        return self.job.texts[self.place]

    @property
    def prefix(self) -> str:
        """The forced beginning of its output, "" for none."""
        return self.job.prefixes[self.place] if self.job.prefixes else ""


class LineQueue:
    """The lines that wait for a model.

    The fullest batch is taken first, except that no line lets more than a few batches pass: so
    lines of frequent lengths are searched many at a time, and those of others are not forgotten.

    Args:
        batch_lines: Returns how many lines with some options are worth searching together.
    """

    def __init__(self, batch_lines: Callable[[SearchOptions], int]) -> None:
        self._batch_lines = batch_lines
        self._groups: dict[Hashable, deque[Line]] = {}
        self._turn = 0

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    @property
    def arrived(self) -> float:
        """When the oldest line came, in seconds of `time.monotonic`."""
        return min(group[0].job.arrived for group in self._groups.values())

    @property
    def has_full_batch(self) -> bool:
        """Whether there are lines for a full batch."""
        return any(len(group) >= self._most(group) for group in self._groups.values())

    def add(self, job: Job, lengths: Sequence[int]) -> None:
        """Adds the lines of a job.

        Args:
            job: The job.
            lengths: For each text a number that texts of like length share.
        """
        for place, length in enumerate(lengths):
            key = (job.options, bool(job.prefixes), length)
            self._groups.setdefault(key, deque()).append(Line(job, place, self._turn))

    def remove(self, job: Job) -> None:
        """Removes the lines of a job that still wait."""
        for key, group in list(self._groups.items()):
            self._keep(key, deque(line for line in group if line.job is not job))

    def take(self) -> list[Line]:
        """Removes and returns the lines of the next batch."""
        key = min(self._groups, key=lambda one: self._groups[one][0].turn)
        if self._groups[key][0].turn > self._turn - _MOST_TURNS:
            key = max(self._groups, key=lambda one: len(self._groups[one]))
        group = self._groups[key]
        taken = [group.popleft() for _ in range(min(self._most(group), len(group)))]
        self._keep(key, group)
        self._turn += 1
        return taken

    def _most(self, group: Sequence[Line]) -> int:
        return self._batch_lines(group[0].job.options)

    def _keep(self, key: Hashable, group: deque[Line]) -> None:
        """Sets the lines of a key; a key without lines is forgotten."""
        if group:
            self._groups[key] = group
        else:
            del self._groups[key]
