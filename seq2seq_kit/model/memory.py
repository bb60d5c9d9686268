"""What a model, a batch or a search needs at least, against what this machine has.

Each estimate counts only what certainly is in memory at one time, and something is refused only
where that is more than the whole machine, or its container, has: nothing that works is refused.
Where a GPU computes, or the size of the memory is unknown, only `bounds` holds.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import Config, DecodingConfig, ModelConfig
from seq2seq_kit.data.encoded import CorpusRows, EncodedData
from seq2seq_kit.data.sets import DataSets, batch_set
from seq2seq_kit.decoding.groups import LENGTH_STEP
from seq2seq_kit.decoding.healing import WAYS
from seq2seq_kit.errors import InputError
from seq2seq_kit.machine import total_memory

_BYTES = 4  # Of a float32 or int32 number.

# In training each weight is there four times: itself, its gradient and Adam's two means.
_COPIES_IN_TRAINING = 4


def check_fits(what: str, needed: int, remedy: str) -> None:
    """Raises InputError if something needs more memory than there is.

    Args:
        what: What needs it, as the subject of a sentence.
        needed: Bytes that it needs at least.
        remedy: What to lower.
    """
    total = total_memory()
    if total is None or needed <= total or tf.config.list_physical_devices("GPU"):
        return
    raise InputError(
        f"{what} needs about {_shown(needed)} of memory; this machine has {_shown(total)}. {remedy}"
    )


def _shown(size: int) -> str:
    gigabytes = size / 1e9
    return f"{gigabytes:,.0f} GB" if gigabytes >= 10 else f"{gigabytes:.2g} GB"


def check_model(
    config: ModelConfig, vocab_size: int, source_vocab_size: int | None, *, trains: bool
) -> None:
    """Raises InputError if a network does not fit into memory; arguments as in `count_weights`.

    Args:
        config: The `model` section, resolved.
        vocab_size: Target vocabulary.
        source_vocab_size: As in `build_model`.
        trains: Whether it is to be trained: then each weight is there four times.
    """
    number = count_weights(config, vocab_size, source_vocab_size)
    check_fits(
        f"A model of {number:,} weights{', trained,' if trains else ''}",
        number * _BYTES * (_COPIES_IN_TRAINING if trains else 1),
        "Lower `units`, `embedding_dim` or the layers under `model`, or `tokenizer.vocab_size`.",
    )


def count_weights(config: ModelConfig, vocab_size: int, source_vocab_size: int | None) -> int:
    """Returns how many weights `build_model` makes, without making them; arguments as there."""
    units, dim, layers = config.units, config.embedding_dim, config.decoder_layers
    output_dim = dim if config.tie_embeddings else units
    number = vocab_size * (dim + 1) + (0 if config.tie_embeddings else vocab_size * units)
    if config.architecture == "language_model":
        sizes = (layers - 1) * [config.inner_units or units] + [units]
        return number + _stack(config, dim, sizes) + (units + 1) * output_dim
    if source_vocab_size is not None or not config.tie_embeddings:
        number += (source_vocab_size or vocab_size) * dim
    half = [units // 2]
    number += 2 * _stack(config, dim, half)
    number += 2 * (config.encoder_layers - 1) * _stack(config, units, half)
    if config.attention_layer == "first":
        number += _stack(config, dim, [units]) + _stack(config, 2 * units, (layers - 1) * [units])
    else:
        number += _stack(config, dim, layers * [units])
    if config.attention == "none":
        return number + units * output_dim
    attention = units**2 if config.attention == "multiplicative" else 2 * units**2 + units
    return number + attention + 2 * units * output_dim


def _stack(config: ModelConfig, input_dim: int, sizes: Sequence[int]) -> int:
    """Returns the weights of a stack of LSTM layers with the given numbers of units."""
    number = 0
    for units in sizes:
        # A GRU has a bias for each of its two kernels.
        gates, biases = {"lstm": (4, 1), "gru": (3, 2), "simple_rnn": (1, 1)}[config.cell]
        number += gates * units * (input_dim + units + biases)
        number += 2 * units * config.layer_normalization
        input_dim = units
    return number


def check_batch(config: ModelConfig, rows: int, source_length: int, target_length: int) -> None:
    """Raises InputError if what a training step keeps for its gradients does not fit into memory.

    Args:
        config: The `model` section, resolved.
        rows: Rows of the batch.
        source_length: Padded length of the sources; 0 for a language model.
        target_length: Padded length of the targets.
    """
    layers = source_length * config.encoder_layers + target_length * config.decoder_layers
    numbers = 4 * config.units * layers + config.embedding_dim * (source_length + target_length)
    if config.attention == "additive":
        numbers += target_length * source_length * config.units
    lengths = f"{source_length} and {target_length}" if source_length else str(target_length)
    check_fits(
        f"A training batch of {rows:,} rows of {lengths} tokens",
        rows * numbers * _BYTES,
        "Lower `training.batch_size`, `data.max_source_length`, `data.max_target_length` or "
        "`data.window`.",
    )


def check_logits(rows: int, length: int, vocab_size: int) -> None:
    """Raises InputError if the logits of a validation batch do not fit into memory.

    Args:
        rows: Rows of the batch.
        length: Padded length of the targets.
        vocab_size: Target vocabulary.
    """
    check_fits(
        f"A validation batch of {rows:,} rows of {length} tokens",
        rows * length * vocab_size * _BYTES,
        "Lower `training.batch_size`, `data.max_target_length` or `data.window`.",
    )


def check_training_memory(config: Config, data: DataSets, vocab_size: int) -> None:
    """Raises InputError if an epoch's plan or a largest batch does not fit into memory.

    Args:
        config: A resolved config.
        data: Its training and validation data.
        vocab_size: Target vocabulary.
    """
    train, validation = data
    check_plan(sum(math.ceil(c.weight * _num_examples(config, train, c)) for c in train.corpora))
    rows, *lengths = batch_set(config, train, shuffle=True).plan(0).largest_batch()
    passes = 2 if config.training.r_drop else 1
    check_batch(config.model, passes * rows, *lengths)
    rows, _, length = batch_set(config, validation, shuffle=False).plan(0).largest_batch()
    check_logits(rows, length, vocab_size)


def _num_examples(config: Config, data: EncodedData, corpus: CorpusRows) -> int:
    """Returns the rows or windows that a corpus of weight 1 shows in an epoch."""
    if corpus.kind != "text":
        return corpus.stop - corpus.start
    return int(data.target.lengths[corpus.start : corpus.stop].sum()) // config.data.window


def check_plan(num_examples: int) -> None:
    """Raises InputError if the plan of an epoch does not fit into memory.

    Args:
        num_examples: Rows that it shows, each as often as the weight of its corpus says.
    """
    check_fits(
        f"The plan of an epoch of {num_examples:,} rows",
        num_examples * 4 * 8,  # `EpochPlan.order` and three arrays of `Examples`, int64
        "Lower the `weight` of the corpora under `data.train`.",
    )


def check_search(
    lengths: np.ndarray,
    sizes: Sequence[int],
    decoding: DecodingConfig,
    *,
    num_hypotheses: int,
    units: int,
    layers: int,
    columns: int,
    compares_units: bool,
    heals: bool = False,
) -> float:
    """Returns the share that a search over some lines has of the memory for searches.

    That is a quarter of all memory, since the estimate counts only what is needed at least; 0 where
    the memory is unknown.

    Args:
        lengths: int `(lines,)`. Tokens of each line; those of like length are searched together.
        sizes: Numbers of lines that a group may have, from `group_sizes`.
        decoding: The options of the search.
        num_hypotheses: Hypotheses a line.
        units: Of a layer.
        layers: Of the decoder.
        columns: Tokens to choose from.
        compares_units: Whether each hypothesis is compared with each source token unit by unit, as
            in additive attention.
        heals: Whether the ends of prompts are spelled again before the search, in several ways at
            once.

    Raises:
        InputError: If it does not fit into memory.
    """
    padded, counts = np.unique(-(-lengths // LENGTH_STEP) * LENGTH_STEP, return_counts=True)
    together = int(min(counts.max(initial=1), decoding.batch_size, sizes[-1]))
    rows_per_line = max(decoding.beam_size, WAYS if heals else 1)
    rows = min(size for size in sizes if size >= together) * rows_per_line
    # Ids of living and finished hypotheses, logits and their softmax, state before and after.
    numbers = 2 * (decoding.max_length + columns + 2 * layers * units)
    if compares_units:
        numbers += int(padded[counts.argmax()]) * units
    found = len(lengths) * num_hypotheses * (decoding.max_length + 1)
    needed = (rows * numbers + found) * _BYTES
    check_fits(
        f"A search of {rows:,} hypotheses at once",
        needed,
        "Lower `beam_size`, `batch_size`, `num_hypotheses` or `max_length`.",
    )
    total = total_memory()
    return 0.0 if total is None else 4 * needed / total
