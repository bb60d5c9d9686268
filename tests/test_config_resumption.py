"""What a resumed run may change: the table of all keys, and the messages."""

from collections.abc import Iterator
from typing import Any

import pytest

from seq2seq_kit.config import Config
from seq2seq_kit.config.resumption import changed_settings, fixed_settings
from seq2seq_kit.config.section import Section

# Each key of a config, by whether a resumed run may change it. A new key must be added here.
MAY_CHANGE = {
    "data.test",
    "data.bleu_tokenize",
    "training.epochs",
    "training.max_steps",
    "training.max_minutes",
    "training.plateau_factor",
    "training.plateau_patience",
    "training.validate_every",
    "training.validation_samples",
    "training.early_stopping.patience",
    "training.strategy",
    "training.tensorboard",
    "training.report",
}
FIXED = {
    "task",
    "seed",
    "init_from",
    "data.root",
    "data.train",
    "data.validation",
    "data.holdout",
    "data.max_source_length",
    "data.max_target_length",
    "data.long_lines",
    "data.window",
    "tokenizer.type",
    "tokenizer.vocab_size",
    "tokenizer.character_coverage",
    "tokenizer.byte_fallback",
    "tokenizer.user_defined_symbols",
    "tokenizer.lossless",
    "tokenizer.normalization",
    "tokenizer.model",
    "tokenizer.source",
    "tokenizer.target",
    "model.architecture",
    "model.embedding_dim",
    "model.units",
    "model.encoder_layers",
    "model.decoder_layers",
    "model.attention",
    "model.cell",
    "model.attention_layer",
    "model.dropout",
    "model.input_dropout",
    "model.output_dropout",
    "model.locked_dropout",
    "model.embedding_dropout",
    "model.word_dropout",
    "model.token_noise",
    "model.weight_drop",
    "model.layer_normalization",
    "model.inner_units",
    "model.tie_embeddings",
    "model.init_scale",
    "training.batch_size",
    "training.batch_unit",
    "training.learning_rate",
    "training.schedule",
    "training.weight_decay",
    "training.averaging",
    "training.averaging_decay",
    "training.averaging_patience",
    "training.subword_sampling",
    "training.subword_sampling_alpha",
    "training.dropout_warmup_steps",
    "training.r_drop",
    "training.activation_regularization",
    "training.temporal_activation_regularization",
    "training.warmup_steps",
    "training.clip_norm",
    "training.label_smoothing",
    "training.precision",
    "training.early_stopping.metric",
}


def config_of(**values: Any) -> Config:
    return Config.model_validate({"data": {"train": "pairs.tsv"}} | values)


def keys_below(section: Section, prefix: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from keys_below(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def replaced(section: Section, key: str, value: Any) -> Any:
    """A copy with another value, which need not be a valid one."""
    name, _, inner = key.partition(".")
    if inner:
        value = replaced(getattr(section, name), inner, value)
    return section.model_copy(update={name: value})


@pytest.mark.parametrize("key", sorted(keys_below(config_of())))
def test_a_resumed_run_may_change_a_key_or_may_not(key: str) -> None:
    of_use = key.startswith(("decoding.", "adaptation."))
    assert (key in MAY_CHANGE) + (key in FIXED) + of_use == 1
    config = config_of()
    changed = changed_settings(config, replaced(config, key, "something else"))
    if key in FIXED:
        assert [line.partition(":")[0] for line in changed] == [key]
        assert changed[0].endswith(" then, 'something else' now")
    else:
        assert changed == []


def test_the_table_has_no_keys_that_do_not_exist() -> None:
    assert set(keys_below(config_of())) >= MAY_CHANGE | FIXED


def test_a_file_may_be_elsewhere_but_not_absent_or_read_otherwise() -> None:
    config = config_of()
    moved = config_of(data={"train": "elsewhere/texts.tsv"})
    assert changed_settings(config, moved) == []
    for data in (
        {"train": {"tsv": "pairs.tsv", "weight": 2.0}},
        {"train": ["pairs.tsv", "more.tsv"]},
        {"train": {"source": "pairs.de", "target": "pairs.en"}},
    ):
        (line,) = changed_settings(config, config_of(data=data))
        assert line.startswith("data.train: ")


def test_two_vocabularies_in_place_of_one_are_named_by_their_keys() -> None:
    two = config_of(tokenizer={"source": {"type": "char"}, "target": {}})
    changed = changed_settings(config_of(), two)
    assert "tokenizer.source.type: None then, 'char' now" in changed
    assert fixed_settings(two)["tokenizer.target.vocab_size"] == 8000
