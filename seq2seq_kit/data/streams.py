"""Running text as streams: the rows of a batch are stretches of the corpus that advance together.

A language model is trained by truncated backpropagation through time: each batch is the next window
of every row, and a row's state is carried from window to window. The plan of an epoch is a pure
function of seed, epoch and the lengths of the texts, in NumPy, so that a resumed run continues in
the middle of one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.plan import BatchUnit, check_sizes, passes

# Merity et al., 2018, section 5 (https://arxiv.org/abs/1708.02182): one window in twenty is half as
# long, so that texts are cut at other places in each epoch, and lengths vary a little.
_HALF_WINDOWS = 0.05
_LENGTH_DEVIATION = 5.0
# In windows of less than 70 tokens lengths vary by less.
_RELATIVE_DEVIATION = 1 / 14
_FEWEST_TOKENS = 5
_MOST_EXTRA_TOKENS = 10

# The share of windows that begin without a state. Prompts are read from a zero state, so that a
# model must learn to begin with one; a text of a million tokens begins only once.
_RESTARTS = 0.01

# Validation reads a long text in several rows at once: a row first reads the tokens before its
# stretch, which do not count, and then has the state of a reader from the beginning, nearly.
_VALIDATION_ROWS = 32
_WARM_UP = 256
_SHORTEST_STRETCH = 1024


class Spans(NamedTuple):
    """Stretches of texts, one after another. Each field has one entry for each span.

    The EOS of a text counts as its last token: it has the position after the last id.
    """

    begins: np.ndarray
    """int64. Position of the first target in `EncodedData.ids`."""
    lengths: np.ndarray
    """int64. Targets, EOS included."""
    ends_text: np.ndarray
    """bool. Whether the last target is EOS."""
    text_begins: np.ndarray
    """int64. Position of the first token of the text."""

    @property
    def starts(self) -> np.ndarray:
        """int64. Where each span starts in the sequence of all spans."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, places: np.ndarray) -> "Spans":
        """Returns the spans at the given places, in their order."""
        return Spans(*(field[places] for field in self))

    def cut(self, at: np.ndarray) -> "Spans":
        """Returns the same tokens, with the spans cut at places in the sequence of all spans."""
        own, total = self.starts, int(self.lengths.sum())
        bounds = np.unique(np.concatenate([own, at[(at >= 0) & (at < total)], [total]]))
        places = np.searchsorted(own, bounds[:-1], side="right") - 1
        inside = bounds[:-1] - own[places]
        lengths = np.diff(bounds)
        return Spans(
            begins=self.begins[places] + inside,
            lengths=lengths,
            ends_text=self.ends_text[places] & (inside + lengths == self.lengths[places]),
            text_begins=self.text_begins[places],
        )


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """The windows of an epoch: one for each row and batch.

    The fields but the last have the shape `(batches, rows)`.
    """

    begins: np.ndarray
    """int64. Position of the first target of the window in `EncodedData.ids`."""
    lengths: np.ndarray
    """int64. Targets, EOS included; 0 for a row that has come to its end."""
    unscored: np.ndarray
    """int64. First targets that do not count: another row has them. 0 in training."""
    restarts: np.ndarray
    """bool. Whether the row's state is zero before the window, and BOS its first input."""
    ends_text: np.ndarray
    """bool. Whether the last target is EOS."""
    usual_tokens: int
    """Targets of a batch of full windows, by which its loss is divided: a token then has the same
    weight in a long and in a short window."""

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def num_tokens(self) -> np.ndarray:
        """int64 `(batches,)`. Targets that count."""
        return np.asarray((self.lengths - self.unscored).sum(axis=1))

    @property
    def padding_share(self) -> float:
        """Share of the positions that are padding."""
        positions = self.lengths.shape[1] * self.lengths.max(axis=1).sum()
        return float(1.0 - self.lengths.sum() / positions)

    def largest_batch(self) -> tuple[int, int, int]:
        """Returns rows, source length (0) and target length of the largest batch."""
        return self.lengths.shape[1], 0, int(self.lengths.max())


@dataclass(frozen=True, eq=False)
class StreamSet:
    """Running text and the options by which each epoch reads it in windows.

    Raises:
        ValueError: If `batch_size` or `window` is not positive.
    """

    data: EncodedData
    """The texts: each row is one."""
    window: int
    """Mean number of targets of a window."""
    batch_size: int
    """Rows of a training batch; or their number times `window`."""
    batch_unit: BatchUnit
    """The unit of `batch_size`: "sentences" are rows, "tokens" rows times `window`."""
    seed: int
    """Seed of all random choices."""
    shuffle: bool
    """False for validation: texts in their order, each token once whatever its weight, and the same
    in every epoch."""

    def __post_init__(self) -> None:
        check_sizes(self.batch_size, self.window)

    @property
    def carried_rows(self) -> int:
        """Rows of each batch, whose states are carried from batch to batch."""
        num_tokens = int(self.data.target.lengths.sum()) + len(self.data)
        if not self.shuffle:
            return min(_VALIDATION_ROWS, -(-num_tokens // _SHORTEST_STRETCH))
        rows = self.batch_size
        if self.batch_unit == "tokens":
            rows = max(1, rows // self.window)
        return min(rows, num_tokens)

    def plan(self, epoch: int) -> StreamPlan:
        """Plans an epoch: which stretch each row reads, and in which windows.

        All texts are put in a row, those of a corpus in random order and beginning at a random
        place, and cut into stretches with equal numbers of windows, one for each row. All rows have
        windows of the same length; a window ends early where its text ends. A corpus of weight
        `w` is read `floor(w)` times, and a random part of it, `w - floor(w)`, one more time.

        Args:
            epoch: Number of the epoch, counted from 0; each has its own random choices.

        Returns:
            The plan. It depends only on the fields and the epoch, in any process.
        """
        entropy = np.random.SeedSequence([self.seed, epoch if self.shuffle else 0])
        rng = np.random.Generator(np.random.PCG64(entropy))
        parts = [part for corpus in self.data.corpora for part in self._passes(corpus, rng)]
        spans = Spans(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
        rows = self.carried_rows
        num_windows, cuts = _row_starts(spans, rows, self.window)
        spans = spans.cut(cuts)
        firsts = np.append(np.searchsorted(spans.starts, cuts), len(spans.begins))
        warm_up = np.zeros_like(spans.begins)
        restarts = 0.0
        if self.shuffle:
            # Texts that begin often enough need no other restarts.
            restarts = max(0.0, _RESTARTS - len(spans.begins) / num_windows)
        else:
            warm_up = np.minimum(_WARM_UP, spans.begins - spans.text_begins)
        return plan_windows(
            spans,
            warm_up,
            firsts,
            window=self.window,
            rng=rng if self.shuffle else None,
            restarts=restarts,
            usual_tokens=min(rows * self.window, int(spans.lengths.sum())),
        )

    def _passes(self, corpus: CorpusRows, rng: np.random.Generator) -> list[Spans]:
        """Returns the texts of a corpus, as often as its weight says."""
        texts = slice(corpus.start, corpus.stop)
        begins, ends = self.data.begins[texts], self.data.ends[texts]
        spans = Spans(begins, ends - begins + 1, np.ones(len(begins), bool), begins)
        if not self.shuffle or not len(begins):
            return [spans]
        return [_draw_stretch(spans, share, rng) for share in passes(corpus.weight)]


def _row_starts(spans: Spans, rows: int, window: int) -> tuple[int, np.ndarray]:
    """Returns the number of full windows of all spans, and where in their sequence rows start.

    The rows have equal numbers of windows, not of tokens: each text ends a window early, so that a
    row of short texts would need many more of them, and end an epoch alone.

    Returns:
        The number, and int64 `(rows,)`, strictly increasing.
    """
    num_windows = -(-spans.lengths // window)
    stops = np.cumsum(num_windows)
    wanted = stops[-1] * np.arange(rows) / rows
    span = np.searchsorted(stops, wanted, side="right")
    inside = np.minimum(
        ((wanted - (stops - num_windows)[span]) * window).astype(np.int64), spans.lengths[span] - 1
    )
    starts = spans.starts[span] + inside
    # Short texts of less than a window have room for fewer rows than there are tokens.
    total = int(spans.lengths.sum())
    places = np.arange(rows)
    starts = np.maximum.accumulate(starts - places) + places
    return int(stops[-1]), np.minimum(starts, total - rows + places)


def _draw_stretch(spans: Spans, share: float, rng: np.random.Generator) -> Spans:
    """Returns spans in random order from a random place on, or a share of them."""
    spans = spans.take(rng.permutation(len(spans.begins)))
    total = int(spans.lengths.sum())
    first = int(rng.integers(total))
    spans = spans.cut(np.array([first]))
    place = int(np.searchsorted(spans.starts, first))
    spans = spans.take(np.roll(np.arange(len(spans.begins)), -place))
    end = max(1, round(share * total))
    spans = spans.cut(np.array([end]))
    return spans.take(np.flatnonzero(spans.starts < end))


def plan_windows(
    spans: Spans,
    warm_up: np.ndarray,
    firsts: np.ndarray,
    *,
    window: int,
    rng: np.random.Generator | None,
    restarts: float,
    usual_tokens: int,
) -> StreamPlan:
    """Cuts the spans of all rows into windows.

    Args:
        spans: The spans of the first row, then those of the second, and so on.
        warm_up: int64 `(spans,)`. Tokens before each span that are read, but do not count.
        firsts: int64 `(rows + 1,)`. The first span of each row, and the number of spans.
        window: Mean length of a window.
        rng: Draws the lengths; None gives all windows the same.
        restarts: The probability that a window begins without a state within a span.
        usual_tokens: As in `StreamPlan`.
    """
    span_begins, stops = spans.begins - warm_up, spans.begins + spans.lengths
    span, last = firsts[:-1].copy(), firsts[1:]
    position = span_begins[np.minimum(span, len(stops) - 1)]
    is_first = np.ones(len(span), bool)
    batches: list[tuple[np.ndarray, ...]] = []
    while np.any(is_active := span < last):
        here = np.minimum(span, len(stops) - 1)
        length = window if rng is None else _draw_length(window, rng)
        size = np.where(is_active, np.minimum(length, stops[here] - position), 0)
        restart = is_first
        if restarts and rng is not None:
            restart = is_first | (rng.random(len(span)) < restarts)
        after = position + size
        is_last = is_active & (after == stops[here])
        skipped = np.clip(spans.begins[here] - position, 0, size)
        batches.append((position, size, skipped, restart, is_last & spans.ends_text[here]))
        span = span + is_last
        next_begins = span_begins[np.minimum(span, len(stops) - 1)]
        position, is_first = np.where(is_last, next_begins, after), is_last | ~is_active
    begins, lengths, unscored, restarting, ends = map(np.stack, zip(*batches, strict=True))
    return StreamPlan(begins, lengths, unscored, restarting, ends, usual_tokens)


def _draw_length(window: int, rng: np.random.Generator) -> int:
    """Returns the length of a window around the mean."""
    mean = window / 2 if rng.random() < _HALF_WINDOWS else window
    deviation = min(_LENGTH_DEVIATION, _RELATIVE_DEVIATION * window)
    drawn = round(float(rng.normal(mean, deviation)))
    fewest = max(1, min(_FEWEST_TOKENS, window // 2))
    return min(max(drawn, fewest), window + _MOST_EXTRA_TOKENS)
