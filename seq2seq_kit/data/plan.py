"""The plan of an epoch: which rows are in which batches, cut where, in which order.

A pure function of seed, epoch and the rows' lengths, in NumPy, so that a resumed run continues in
the middle of one. Padded lengths come from a short ladder, so that few static shapes occur.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from seq2seq_kit.data.encoded import CorpusRows, EncodedData

Architecture = Literal["encoder_decoder", "language_model"]
BatchUnit = Literal["sentences", "tokens"]

# Up to this length every length is a padded length; then the step doubles each time the length
# does. Measured with batches of 64: 2.6 % padding on Multi30k, 0.9 % on Tatoeba German-English;
# with 16 there are fewer shapes (153 rather than 182 on Multi30k), but 3.1 % padding.
_SINGLE_STEPS = 20
# Batches by tokens have a multiple of this many rows: fewer shapes, and full vector registers.
_ROWS_MULTIPLE = 8


class Batch(NamedTuple):
    """The examples of one step."""

    rows: np.ndarray
    """int64 `(rows,)`. Indices into the plan's `examples`."""
    source_length: int
    """Padded length of the source side, EOS included; 0 if there is none."""
    target_length: int
    """Padded length of the target side, BOS or EOS included."""
    num_tokens: int
    """Real target tokens, EOS included: the loss is averaged over them."""


class Examples(NamedTuple):
    """The examples of an epoch as spans of `EncodedData.ids`: a source followed by its target.

    Each field has one entry for each example.
    """

    begins: np.ndarray
    """int64. Position of the first source token; without a source, of the first target token."""
    source_lengths: np.ndarray
    """int64. Source tokens, EOS not counted; 0 for language models."""
    target_lengths: np.ndarray
    """int64. Target tokens, EOS not counted."""
    ends_text: np.ndarray
    """bool. Whether EOS follows the target: False for windows within a text."""

    def take(self, rows: np.ndarray) -> "Examples":
        """Returns the examples with the given indices, in the order of the indices."""
        return Examples(*(field[rows] for field in self))


Sample = Callable[[np.ndarray, Examples], tuple[np.ndarray, Examples]]
"""From ids and examples to new ids and the examples as spans of them."""


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The batches of an epoch in order; `plan[k]` and iteration give a `Batch`.

    Kept as arrays rather than a list, so that planning millions of rows takes a second.
    """

    examples: Examples
    order: np.ndarray
    """int64 `(examples,)`. Indices into `examples`, with those of a batch next to each other."""
    starts: np.ndarray
    """int64 `(batches,)`. Where in `order` each batch starts."""
    stops: np.ndarray
    """int64 `(batches,)`. Where in `order` each batch stops."""
    source_lengths: np.ndarray
    """int64 `(batches,)`. Padded lengths, EOS included; all 0 for a language model."""
    target_lengths: np.ndarray
    """int64 `(batches,)`. Padded lengths."""
    num_tokens: np.ndarray
    """int64 `(batches,)`. Real target tokens, EOS included."""
    sample: Sample | None = None
    """Replaces the tokens of a batch by others when the batch is gathered. Lengths and numbers of
    tokens in the plan are those before."""

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        return Batch(
            rows=self.order[self.starts[index] : self.stops[index]],
            source_length=int(self.source_lengths[index]),
            target_length=int(self.target_lengths[index]),
            num_tokens=int(self.num_tokens[index]),
        )

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))

    @property
    def has_source(self) -> bool:
        """Whether batches have `source_ids`: False for a language model."""
        return bool(np.any(self.source_lengths))

    @property
    def padding_share(self) -> float:
        """Share of the positions, source and target together, that are padding."""
        rows = self.stops - self.starts
        positions = np.sum(rows * (self.source_lengths + self.target_lengths))
        real = np.sum(self.num_tokens) + np.sum(self.examples.source_lengths)
        if self.has_source:
            real += len(self.order)  # The EOS of each source.
        return float(1.0 - real / positions)

    def largest_batch(self) -> tuple[int, int, int]:
        """Returns rows, source length and target length of the batch with the most positions."""
        rows = self.stops - self.starts
        # Attention compares each target position with each source position.
        largest = np.argmax(rows * self.target_lengths * np.maximum(self.source_lengths, 1))
        source_length, target_length = self.source_lengths[largest], self.target_lengths[largest]
        return int(rows[largest]), int(source_length), int(target_length)


@dataclass(frozen=True, eq=False)
class BatchSet:
    """Encoded data and the options by which each epoch cuts them into batches.

    Raises:
        ValueError: If `batch_size` or `window` is not positive.
    """

    data: EncodedData
    """The rows."""
    architecture: Architecture
    """A language model reads source and target of a row as one sequence; `StreamSet` has its
    running text."""
    window: int
    """Positions of a window of running text, for an encoder-decoder."""
    batch_size: int
    """Rows of a batch; or positions of the longer side, padding included, where a row with more
    positions is a batch alone."""
    batch_unit: BatchUnit
    """The unit of `batch_size`: "sentences" or "tokens"."""
    seed: int
    """Seed of all random choices."""
    shuffle: bool
    """False for validation: each row once whatever its weight, shortest first, windows from offset
    0, and the same in every epoch."""
    sampler: Callable[[int], Sample] | None = None
    """Returns what replaces the tokens of an epoch's batches, such as `SubwordSampler.of_epoch`."""

    def __post_init__(self) -> None:
        check_sizes(self.batch_size, self.window)

    @property
    def carried_rows(self) -> int:
        """Rows whose states are carried from batch to batch: none, as in `StreamSet`."""
        return 0

    def plan(self, epoch: int) -> EpochPlan:
        """Plans an epoch: which rows it shows, how they are cut and batched, and in which order.

        Rows with the same padded lengths are batched together; each epoch draws again which of them
        share a batch, and the order of the batches. A corpus of weight `w` is shown `floor(w)`
        times, and a random share of it, `w - floor(w)`, one more time. Running text is cut into
        windows from a random offset on, with each token in exactly one window; the EOS of a text is
        the last token of its last window. For an encoder-decoder, the source is a random first part
        of each window, or of each line of a `lines` corpus.

        Args:
            epoch: Number of the epoch, counted from 0; each has its own random choices.

        Returns:
            The plan. It depends only on the fields and the epoch, in any process.
        """
        entropy = np.random.SeedSequence([self.seed, epoch if self.shuffle else 0])
        rng = np.random.Generator(np.random.PCG64(entropy))
        examples = self._draw_examples(rng)
        real_targets = examples.target_lengths + examples.ends_text
        targets = _pad_up_to_longest(real_targets)
        sources = np.zeros_like(targets)
        if self.architecture == "encoder_decoder":
            sources = _pad_up_to_longest(examples.source_lengths + 1)
        order = rng.permutation(len(targets)) if self.shuffle else np.arange(len(targets))
        order = order[_order_by_length(sources[order], targets[order])]
        if self.batch_unit == "sentences":
            starts = np.arange(0, len(order), self.batch_size)
        else:
            starts = _cut_by_tokens(np.maximum(sources, targets)[order], self.batch_size)
        batches = rng.permutation(len(starts)) if self.shuffle else np.arange(len(starts))
        return EpochPlan(
            examples=examples,
            order=order,
            starts=starts[batches],
            stops=np.append(starts[1:], len(order))[batches],
            source_lengths=np.maximum.reduceat(sources[order], starts)[batches],
            target_lengths=np.maximum.reduceat(targets[order], starts)[batches],
            num_tokens=np.add.reduceat(real_targets[order], starts)[batches],
            sample=None if self.sampler is None else self.sampler(epoch),
        )

    def _draw_examples(self, rng: np.random.Generator) -> Examples:
        parts = []
        for corpus in self.data.corpora:
            if corpus.start == corpus.stop:
                continue
            for share in passes(corpus.weight if self.shuffle else 1.0):
                if corpus.kind == "text":
                    part = _windows(self.data, corpus, self.window, rng if self.shuffle else None)
                else:
                    part = _whole_rows(self.data, corpus)
                if share < 1.0:
                    part = _draw_share(part, share, rng)
                if self.architecture == "language_model":
                    part = _join_sides(part)
                elif not corpus.has_source:
                    part = _split_at_random(part, rng)
                parts.append(part)
        return Examples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def check_sizes(batch_size: int, window: int) -> None:
    """Raises ValueError if a size of batches or windows is not positive."""
    if batch_size < 1 or window < 1:
        raise ValueError(
            "`batch_size` and `window` must be 1 or more. "
            f"Received: batch_size={batch_size}, window={window}."
        )


def padded_length(lengths: np.ndarray) -> np.ndarray:
    """Rounds lengths up to one of a few padded lengths, so that few static shapes occur.

    These are every length to 20, every 2nd to 40, every 4th to 80, every 8th to 160, and so on.

    Args:
        lengths: integers `(...)`, 0 or more.

    Returns:
        int64 `(...)`.

    Example:
        >>> padded_length(np.array([1, 20, 21, 41, 81]))
        array([ 1, 20, 22, 44, 88])
    """
    # frexp's exponent of an integer is its number of bits: 0, 1, 2, 2, 3, ... for 0, 1, 2, 3, 4
    doublings = np.frexp(np.maximum(lengths - 1, 0) // _SINGLE_STEPS)[1].astype(np.int64)
    steps = np.left_shift(1, doublings)
    return -(-lengths // steps) * steps


def _pad_up_to_longest(lengths: np.ndarray) -> np.ndarray:
    """Returns padded lengths up to the longest: padding windows of 100 tokens to 104 is waste."""
    return np.minimum(padded_length(lengths), lengths.max(initial=0))


def passes(weight: float) -> list[float]:
    """Returns the shares of a corpus to show one after another: 2.25 -> [1, 1, 0.25]."""
    whole, rest = divmod(weight, 1.0)
    return [1.0] * int(whole) + ([rest] if rest else [])


def _whole_rows(data: EncodedData, corpus: CorpusRows) -> Examples:
    rows = slice(corpus.start, corpus.stop)
    begins, splits, ends = data.begins[rows], data.splits[rows], data.ends[rows]
    return Examples(begins, splits - begins, ends - splits, np.ones(len(begins), bool))


def _windows(
    data: EncodedData, corpus: CorpusRows, window: int, rng: np.random.Generator | None
) -> Examples:
    """Cuts each text into windows; the first is shorter by chance where there is an `rng`."""
    parts = []
    for row in range(corpus.start, corpus.stop):
        begin, end = int(data.begins[row]), int(data.ends[row])
        offset = 0 if rng is None else int(rng.integers(window))
        # + 1: EOS counts as the text's last token, so that no window is longer than the others.
        inner = np.arange(begin + offset, end + 1, window)
        cuts = np.unique(np.concatenate([[begin], inner, [end + 1]]))
        ends_text = cuts[1:] > end
        lengths = np.diff(cuts) - ends_text
        parts.append(Examples(cuts[:-1], np.zeros_like(lengths), lengths, ends_text))
    return Examples(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _draw_share(examples: Examples, share: float, rng: np.random.Generator) -> Examples:
    count = max(1, round(share * len(examples.begins)))
    return examples.take(np.sort(rng.permutation(len(examples.begins))[:count]))


def _join_sides(examples: Examples) -> Examples:
    """Makes the source the beginning of the target, for a language model."""
    return examples._replace(
        source_lengths=np.zeros_like(examples.source_lengths),
        target_lengths=examples.source_lengths + examples.target_lengths,
    )


def _split_at_random(examples: Examples, rng: np.random.Generator) -> Examples:
    """Makes a first part of each target its source; with two tokens or more, both have one."""
    lengths = examples.target_lengths
    splits = np.where(lengths > 1, rng.integers(1, np.maximum(lengths, 2)), 0)
    return examples._replace(source_lengths=splits, target_lengths=lengths - splits)


def _order_by_length(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Sorts by padded target length, then padded source length; equal rows keep their order.

    Source lengths alternately rise and fall: without a jump between two target lengths, batches
    across it need less padding (Multi30k: 2.6 % rather than 3.5 %).
    """
    target_ranks, source_ranks = _ranks(targets), _ranks(sources)
    num_sources = int(source_ranks.max(initial=0)) + 1
    falling = num_sources - 1 - source_ranks
    keys = target_ranks * num_sources + np.where(target_ranks % 2, falling, source_ranks)
    # A stable sort of 16-bit keys is a radix sort: linear in the rows.
    return np.argsort(keys.astype(np.min_scalar_type(keys.max(initial=0))), kind="stable")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value among the distinct values: [5, 9, 5] -> [0, 1, 0]."""
    return (np.cumsum(np.bincount(values) > 0) - 1)[values]


def _cut_by_tokens(widths: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns where batches start that have as many rows as `batch_size` allows, at least one.

    Args:
        widths: int64 `(rows,)`. Padded length of each row, in the order of the batches.
        batch_size: The limit for rows times the widest of them.

    Returns:
        int64 `(batches,)`.
    """
    starts = []
    start = 0
    while start < len(widths):
        starts.append(start)
        candidates = widths[start : start + max(1, batch_size // int(widths[start]))]
        sizes = np.maximum.accumulate(candidates) * np.arange(1, len(candidates) + 1)
        rows = max(1, int(np.count_nonzero(sizes <= batch_size)))
        start += rows - rows % _ROWS_MULTIPLE if rows >= _ROWS_MULTIPLE else rows
    return np.array(starts, np.int64)
