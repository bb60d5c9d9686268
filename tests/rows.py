"""Encoded rows for the tests of plans and batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seq2seq_kit.config.sections import CorpusKind
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.plan import BatchSet, EpochPlan
from seq2seq_kit.data.report import EncodingReport

REPORT = EncodingReport(0, 0, 0, 0, 0, 0, 0, 0, (), (), ())


def encode_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    corpora: Sequence[tuple[CorpusKind, float, int]] | None = None,
) -> EncodedData:
    """Lays out (source, target) rows as the cache does; corpora are (kind, weight, rows)."""
    sides = [side for row in rows for side in row]
    bounds = np.concatenate([[0], np.cumsum([len(side) for side in sides])])
    ids = np.array([token for side in sides for token in side], np.int32)
    ranges, start = [], 0
    for kind, weight, count in corpora or [("tsv", 1.0, len(rows))]:
        ranges.append(CorpusRows(kind, weight, start, start + count))
        start += count
    lines = np.arange(1, len(rows) + 1)
    return EncodedData(ids, bounds[:-1:2], bounds[1::2], bounds[2::2], lines, tuple(ranges), REPORT)


def random_pairs(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Rows that differ in their first tokens, with lengths like those of sentences."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(2.6, 0.35, (count, 1)) * rng.lognormal(0.0, 0.14, (count, 2))
    return [
        ([10 + number] * source, [10 + number] * target)
        for number, (source, target) in enumerate(np.ceil(lengths).astype(int).tolist())
    ]


def plan_of(data: EncodedData, epoch: int = 0, **options: Any) -> EpochPlan:
    defaults = {
        "architecture": "encoder_decoder",
        "window": 8,
        "batch_size": 16,
        "batch_unit": "sentences",
        "seed": 1,
        "shuffle": True,
    }
    return BatchSet(data, **(defaults | options)).plan(epoch)


def shown_rows(data: EncodedData, plan: EpochPlan) -> list[tuple[tuple[int, ...], ...]]:
    """The (source, target) ids of all examples, in the order of the batches."""
    shown = []
    for batch in plan:
        for begin, source, target, _ in zip(*plan.examples.take(batch.rows), strict=True):
            split, end = begin + source, begin + source + target
            shown.append((tuple(data.ids[begin:split]), tuple(data.ids[split:end])))
    return shown


def encode_stream(num_tokens: int, weight: float = 1.0) -> EncodedData:
    return encode_rows([([], range(10, 10 + num_tokens))], [("text", weight, 1)])
