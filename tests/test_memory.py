from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TrainedRun

from seq2seq_kit.config import DecodingConfig, ModelConfig, load_config
from seq2seq_kit.data.sets import encode_data
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import InputError
from seq2seq_kit.model import memory
from seq2seq_kit.model.build import build_model
from seq2seq_kit.seq2seq import Seq2Seq


@pytest.mark.parametrize(
    ("architecture", "attention", "attention_layer", "tied", "layers", "source"),
    [
        ("encoder_decoder", "additive", "last", True, 1, None),
        ("encoder_decoder", "additive", "first", False, 3, None),
        ("encoder_decoder", "multiplicative", "first", True, 1, 23),
        ("encoder_decoder", "multiplicative", "last", False, 3, 23),
        ("encoder_decoder", "additive", "first", True, 2, 23),
        ("language_model", "additive", "last", True, 3, None),
        ("language_model", "additive", "last", False, 1, None),
    ],
)
def test_weights_are_counted_as_keras_counts_them(
    architecture: str,
    attention: str,
    attention_layer: str,
    tied: bool,
    layers: int,
    source: int | None,
) -> None:
    config = ModelConfig(
        architecture=architecture,
        attention=attention,
        attention_layer=attention_layer,
        tie_embeddings=tied,
        units=6,
        embedding_dim=5,
        encoder_layers=layers,
        decoder_layers=layers,
    )
    if architecture == "language_model" and layers > 1:
        config = config.model_copy(update={"inner_units": 8})
    config = config.model_copy(update={"layer_normalization": layers == 3})
    model = build_model(config, 17, source)
    assert memory.count_weights(config, 17, source) == model.count_params()


def test_a_model_larger_than_memory_is_refused_with_both_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 24 * 10**9)
    memory.check_fits("A model", 24 * 10**9, "Lower it.")
    with pytest.raises(
        InputError, match="A model needs about 410 GB of memory; this machine has 24"
    ):
        memory.check_fits("A model", 410 * 10**9, "Lower it.")


def test_nothing_is_refused_where_the_memory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: None)
    memory.check_fits("A model", 10**30, "Lower it.")


@pytest.mark.parametrize(
    ("section", "values", "memory_size", "fault"),
    [
        ("model", {"units": 16384, "decoder_layers": 100}, 10**12, "A model of 21"),
        ("tokenizer", {"vocab_size": 16}, 70_000, "A model of"),
        ("training", {"batch_size": 10_000_000}, 1_600_000, "A training batch of 720 rows"),
        ("data", {"weight": 9999.0}, 200_000_000, "The plan of an epoch of 7,199,280 rows"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_tried(
    translation_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    values: dict[str, Any],
    memory_size: int,
    fault: str,
) -> None:
    changed = translation_config["data"]["train"] if section == "data" else None
    (translation_config[section] if changed is None else changed).update(values)
    monkeypatch.setattr(memory, "total_memory", lambda: memory_size)
    with pytest.raises(InputError, match=f"{fault}.* this machine has"):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "last.npz").exists()


def test_a_batch_of_all_lines_is_refused_only_where_it_is_too_much(
    translation_config: dict[str, Any],
) -> None:
    translation_config["training"]["batch_size"] = 10_000_000
    config = load_config(translation_config)
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    memory.check_training_memory(config, encode_data(config, tokenizers, digests), 16)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"beam_size": 10_000}, ["abc"]),
        ({"max_length": 1_000_000, "beam_size": 5}, ["abc"]),
        ({"max_length": 100_000, "beam_size": 1}, ["abc"] * 64),
        ({"beam_size": 50, "num_hypotheses": 50, "max_length": 50_000}, ["a", "ab"]),
    ],
)
def test_a_search_that_cannot_fit_is_refused(
    translation_run: TrainedRun,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    texts: list[str],
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 40_000_000)
    assert next(translation_run.fitted.hypotheses(texts))
    with pytest.raises(InputError, match=r"A search of .* needs .* this machine has 0\.04 GB"):
        next(translation_run.fitted.hypotheses(texts, **options))


@pytest.mark.parametrize(
    ("beam_size", "heals", "rows"), [(1, False, 8), (1, True, 32), (3, True, 32), (6, True, 48)]
)
def test_ways_to_spell_the_end_of_a_prompt_count(
    monkeypatch: pytest.MonkeyPatch, beam_size: int, heals: bool, rows: int
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 1000)
    with pytest.raises(InputError, match=rf"A search of {rows} hypotheses"):
        memory.check_search(
            np.array([5] * 7),
            (4, 8, 16),
            DecodingConfig(beam_size=beam_size),
            num_hypotheses=1,
            units=32,
            layers=1,
            columns=40,
            compares_units=False,
            heals=heals,
        )
