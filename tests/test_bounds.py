"""Every number that a user can give has a largest value, and none beyond it comes through."""

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seq2seq_kit.config import Config, load_config
from seq2seq_kit.errors import ConfigError


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a config with its dotted key; entries of lists have no number."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for inner in parts_of(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields_of(inner, f"{prefix}{name}.")


def parts_of(annotation: Any) -> Iterator[Any]:
    """A type, and the types in it: of `tuple[int, ...] | None` also int."""
    yield annotation
    for part in typing.get_args(annotation):
        yield from parts_of(part)


def has_upper_bound(field: FieldInfo) -> bool:
    """Whether `le` or `lt` is set on the field or on a part of its type."""
    metadata = [*field.metadata]
    for part in parts_of(field.annotation):
        metadata += getattr(part, "__metadata__", ())
    flat = [
        item for one in metadata for item in (one.metadata if isinstance(one, FieldInfo) else [one])
    ]
    return any(hasattr(item, "le") or hasattr(item, "lt") for item in flat)


def test_every_number_of_a_config_has_an_upper_bound() -> None:
    numbers = {
        key: field
        for key, field in fields_of(Config)
        if {int, float} & set(parts_of(field.annotation)) and not key.endswith("_columns")
    }
    assert {"seed", "model.units", "data.train.weight", "training.max_minutes"} <= set(numbers)
    assert [key for key, field in numbers.items() if not has_upper_bound(field)] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer.vocab_size", 2**31),
        ("model.units", 2**40),
        ("model.embedding_dim", 2**31),
        ("model.encoder_layers", 10_000),
        ("model.decoder_layers", 2**63),
        ("model.init_scale", 1e300),
        ("data.window", 10**9),
        ("data.holdout", 10**18),
        ("data.max_source_length", 2**31),
        ("data.max_target_length", 2**32 + 5),
        ("data.train.weight", 1e300),
        ("data.train.source_columns", 10**18),
        ("data.train.target_columns", [2, 10**5]),
        ("training.batch_size", 10**12),
        ("training.epochs", 10**30),
        ("training.max_steps", 2**31),
        ("training.max_minutes", 1e308),
        ("training.learning_rate", 1e30),
        ("training.warmup_steps", 2**64),
        ("training.clip_norm", 1e308),
        ("training.early_stopping.patience", 2**31),
        ("decoding.max_length", 4294967296),
        ("decoding.beam_size", 1_000_000),
        ("decoding.batch_size", 2**31 - 1),
        ("decoding.length_penalty", 40.0),
        ("seed", 2**32),
    ],
)
def test_a_number_beyond_its_bound_is_refused_under_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{key}(\.\d)?: must be .*(or less|less than)"):
        load_config({"data": {"train": {"tsv": "a.tsv"}}}, [f"{key}={value}"])


def test_numbers_of_many_digits_are_named_by_their_size() -> None:
    with pytest.raises(ConfigError, match=r"model.units: .* of about 5000 digits"):
        load_config({"data": {"train": "a.tsv"}, "model": {"units": 10**5000}})


def test_a_length_penalty_at_its_bound_still_ranks_the_longest_outputs() -> None:
    from seq2seq_kit import bounds
    from seq2seq_kit.decoding.scores import normalize_log_probs

    lengths = [bounds.MAX_TOKENS - 1, bounds.MAX_TOKENS]
    scores = normalize_log_probs([-1e5, -1e5], lengths, bounds.MAX_LENGTH_PENALTY).numpy()
    assert scores[0] < scores[1] < 0
