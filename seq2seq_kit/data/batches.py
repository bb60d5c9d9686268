"""The tf.data set of an epoch's batches: gathered, padded and shared out to replicas."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.plan import BatchSet, EpochPlan, Examples, padded_length
from seq2seq_kit.data.streams import StreamPlan, StreamSet
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID

_PREFETCHED = 8

Batches = BatchSet | StreamSet
"""Encoded data and how each epoch cuts them into batches."""

Plan = EpochPlan | StreamPlan
"""The batches of an epoch."""


def make_dataset(
    data: EncodedData,
    plan: Plan,
    *,
    start: int = 0,
    worker: int = 0,
    num_workers: int = 1,
    replicas_per_worker: int = 1,
) -> tf.data.Dataset:
    """Gathers and pads the batches of a plan.

    Each element is one replica's part of a batch, a dict of

    - `source_ids`: int32 `(rows, source time)`, source and EOS; absent for a language model,
    - `decoder_input_ids`: int32 `(rows, target time)`, BOS and target,
    - `target_ids`: int32 `(rows, target time)`, target and EOS,
    - `weights`: float32 `(rows, target time)`, 1 for real tokens, 0 for padding and dummy rows,
    - `num_tokens`: float32 `()`, target tokens that count of the batch over all replicas.

    A batch of streams has also

    - `restarts`: bool `(rows,)`, whether the state of a row is zero before the window; its first
      input is then BOS, otherwise the target before,
    - `usual_tokens`: float32 `()`, target tokens of a batch of full windows.

    With several replicas, row `r` of a batch goes to replica `r % num_replicas`; consecutive
    elements are for the replicas of this worker. If the rows do not divide evenly, some replicas
    get a dummy, a repeated row of weight 0 and not a row of padding, on which cuDNN fails. (Streams
    are read without a mask, so that their dummies may be padding.)

    Args:
        data: The rows that were planned.
        plan: The plan of the epoch.
        start: The first batch to yield; the batches before it, which a resumed run has seen, are
            not computed.
        worker: Index of this worker (machine).
        num_workers: Number of workers.
        replicas_per_worker: Replicas (devices) on each worker.

    Returns:
        `(len(plan) - start) * replicas_per_worker` elements, prefetched.

    Raises:
        ValueError: If `start` is outside the plan or `worker` is not one of `num_workers`.
    """
    if not 0 <= start <= len(plan):
        raise ValueError(f"`start` must be from 0 to {len(plan)} batches. Received: start={start}.")
    if not 0 <= worker < num_workers:
        raise ValueError(
            f"`worker` must be from 0 to {num_workers - 1} (num_workers={num_workers}). "
            f"Received: worker={worker}."
        )
    first = worker * replicas_per_worker
    elements = _Elements(
        ids=data.ids,
        plan=plan,
        batches=range(start, len(plan)),
        replicas=range(first, first + replicas_per_worker),
        num_replicas=num_workers * replicas_per_worker,
    )
    # TensorFlow keeps a generator until the process ends (`_internal_py_func` in
    # python/ops/script_ops.py), and would keep the plan of every epoch with it. So it gets a weak
    # reference, and the dataset, which its iterators hold, owns the plan.
    proxy = weakref.proxy(elements)
    dataset = tf.data.Dataset.from_generator(lambda: iter(proxy), output_signature=_signature(plan))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(elements)))
    dataset = dataset.prefetch(_PREFETCHED)
    dataset.elements = elements
    return dataset


@dataclass(frozen=True, eq=False)
class _Elements:
    """The elements of a dataset, in order."""

    ids: np.ndarray
    plan: Plan
    batches: range
    replicas: range
    num_replicas: int

    def __len__(self) -> int:
        return len(self.batches) * len(self.replicas)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for index in self.batches:
            if isinstance(self.plan, StreamPlan):
                for replica in self.replicas:
                    yield gather_windows(self.ids, self.plan, index, replica, self.num_replicas)
            else:
                rows = _rows_of_batch(self.ids, self.plan, index)
                for replica in self.replicas:
                    yield _gather_rows(rows, replica, self.num_replicas)


def _signature(plan: Plan) -> dict[str, tf.TensorSpec]:
    keys = ["decoder_input_ids", "target_ids"]
    others = {}
    if isinstance(plan, StreamPlan):
        others["restarts"] = tf.TensorSpec((None,), tf.bool)
        others["usual_tokens"] = tf.TensorSpec((), tf.float32)
    elif plan.has_source:
        keys.insert(0, "source_ids")
    return {key: tf.TensorSpec((None, None), tf.int32) for key in keys} | {
        "weights": tf.TensorSpec((None, None), tf.float32),
        "num_tokens": tf.TensorSpec((), tf.float32),
        **others,
    }


def gather_windows(
    ids: np.ndarray, plan: StreamPlan, index: int, replica: int, num_replicas: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of one replica's part of a batch of streams: see `make_dataset`.

    Args:
        ids: The ids that were planned.
        plan: The plan.
        index: Which batch.
        replica: Which replica.
        num_replicas: Number of replicas.
    """
    fields = (plan.begins, plan.lengths, plan.unscored, plan.restarts, plan.ends_text)
    # Dummies have no tokens.
    missing = -plan.begins.shape[1] % num_replicas
    begins, lengths, unscored, restarts, ends_text = (
        np.pad(field[index], (0, missing))[replica::num_replicas] for field in fields
    )
    width = int(plan.lengths[index].max())
    target_ids = _gather(ids, begins, lengths - ends_text, width)
    ended = np.flatnonzero(ends_text)
    target_ids[ended, lengths[ended] - 1] = EOS_ID
    places = np.arange(width)
    real = places < lengths[:, None]
    before = np.where(restarts, BOS_ID, ids[np.maximum(begins - 1, 0)])
    return {
        "decoder_input_ids": _shift_right(target_ids, real, before),
        "target_ids": target_ids,
        "weights": (real & (places >= unscored[:, None])).astype(np.float32),
        "num_tokens": np.array(plan.num_tokens[index], np.float32),
        "restarts": restarts,
        "usual_tokens": np.array(plan.usual_tokens, np.float32),
    }


class _Rows(NamedTuple):
    """The rows of a batch, for all replicas."""

    ids: np.ndarray
    """integers `(tokens,)`."""
    examples: Examples
    """The rows as spans of `ids`."""
    has_source: bool
    """Whether there is a source side."""
    source_length: int
    """Padded length of the source side, EOS included."""
    target_length: int
    """Padded length of the target side, EOS included."""
    num_tokens: int
    """Real target tokens, EOS included."""


def _rows_of_batch(ids: np.ndarray, plan: EpochPlan, index: int) -> _Rows:
    """Returns the rows of a batch, with sampled segmentations where the plan has a sampler."""
    batch = plan[index]
    examples = plan.examples.take(batch.rows)
    if plan.sample is None:
        sizes = (batch.source_length, batch.target_length, batch.num_tokens)
        return _Rows(ids, examples, plan.has_source, *sizes)
    ids, examples = plan.sample(ids, examples)
    real_targets = examples.target_lengths + examples.ends_text
    return _Rows(
        ids,
        examples,
        plan.has_source,
        int(padded_length(examples.source_lengths.max() + 1)),
        int(padded_length(real_targets.max())),
        int(real_targets.sum()),
    )


def _gather_rows(batch: _Rows, replica: int, num_replicas: int) -> dict[str, np.ndarray]:
    """Returns the arrays of one replica's part of a batch of rows."""
    ids, num_rows = batch.ids, len(batch.examples.begins)
    rows = np.arange(replica, num_rows, num_replicas)
    num_dummies = -(-num_rows // num_replicas) - len(rows)
    examples = batch.examples.take(np.concatenate([rows, np.zeros(num_dummies, np.int64)]))
    target_begins = examples.begins + examples.source_lengths
    target_ids = _gather(ids, target_begins, examples.target_lengths, batch.target_length)
    ended = np.flatnonzero(examples.ends_text)
    target_ids[ended, examples.target_lengths[ended]] = EOS_ID
    real = np.arange(batch.target_length) < (examples.target_lengths + examples.ends_text)[:, None]
    arrays = {
        "decoder_input_ids": _shift_right(target_ids, real, BOS_ID),
        "target_ids": target_ids,
        "weights": real.astype(np.float32),
        "num_tokens": np.float32(batch.num_tokens),
    }
    arrays["weights"][len(rows) :] = 0.0
    if batch.has_source:
        source_lengths = examples.source_lengths
        arrays["source_ids"] = _gather(ids, examples.begins, source_lengths, batch.source_length)
        arrays["source_ids"][np.arange(len(source_lengths)), source_lengths] = EOS_ID
    return arrays


def _gather(ids: np.ndarray, begins: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Returns int32 `(rows, width)`: `lengths` ids from `begins` on, then padding."""
    places = np.arange(width)
    real = places < lengths[:, None]
    positions = np.where(real, begins[:, None] + places, 0)
    return np.where(real, ids[positions], PAD_ID).astype(np.int32)


def _shift_right(target_ids: np.ndarray, real: np.ndarray, first: int | np.ndarray) -> np.ndarray:
    """Returns the decoder's input: what comes first, then all real targets but the last."""
    shifted = np.empty_like(target_ids)
    shifted[:, 0] = first
    shifted[:, 1:] = target_ids[:, :-1]
    return np.where(real, shifted, PAD_ID).astype(np.int32)
