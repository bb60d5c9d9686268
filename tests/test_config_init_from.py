"""What a config takes over from the run that `init_from` names."""

from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.config import Config, load_config, load_saved_config, save_config
from seq2seq_kit.config.init_from import check_sides, take_over
from seq2seq_kit.config.resumption import changed_settings
from seq2seq_kit.config.rules import keep_chosen
from seq2seq_kit.errors import ConfigError

SMALL = {"units": 48, "embedding_dim": 24, "decoder_layers": 2, "dropout": 0.4}
CHARACTERS = {"type": "char", "vocab_size": 40, "byte_fallback": False}
TWO = {"source": CHARACTERS, "target": CHARACTERS | {"vocab_size": 30}}


def config_with(**sections: Any) -> Config:
    return load_config({"data": {"train": "pairs.tsv"}} | sections)


ORIGIN = config_with(model=SMALL, tokenizer=CHARACTERS)


def taken_over(origin: Config = ORIGIN, **sections: Any) -> tuple[Config, list[str]]:
    config = config_with(**({"init_from": "zh-prose"} | sections))
    assert config.init_from is not None
    config, choices = take_over(
        config,
        config.init_from,
        origin,
        origin_name="zh-prose",
        sha256="abc",
        config_name="my.yaml",
    )
    return config, list(map(str, choices))


def test_sizes_and_vocabulary_are_taken_over_where_the_config_names_none() -> None:
    config, choices = taken_over()
    assert config.model.units == 48
    assert config.model.embedding_dim == 24
    assert config.model.decoder_layers == 2
    assert config.model.dropout == 0.3  # Not in the weights: the default stays.
    assert config.tokenizer == ORIGIN.tokenizer
    assert config.init_from is not None
    assert (config.init_from.tokenizer, config.init_from.sha256) == (True, "abc")
    assert "model.units 48" in choices[0]
    assert choices[0].endswith(": as in zh-prose, from whose weights training starts")
    assert choices[1] == "init_from.tokenizer true: the config has no `tokenizer` section"


def test_a_vocabulary_for_each_side_is_taken_over() -> None:
    config, _ = taken_over(config_with(tokenizer=TWO))
    assert config.tokenizer.target is not None
    assert config.tokenizer.target.vocab_size == 30


def test_a_vocabulary_in_the_config_is_kept() -> None:
    config, choices = taken_over(tokenizer={"type": "bpe", "vocab_size": 99})
    assert (config.tokenizer.type, config.tokenizer.vocab_size) == ("bpe", 99)
    assert choices[1] == "init_from.tokenizer false: the config has a `tokenizer` section"


def test_the_file_of_a_vocabulary_is_that_of_the_run() -> None:
    config, _ = taken_over(config_with(tokenizer={"model": "/elsewhere/spm.model"}))
    assert config.tokenizer.model is None


def test_every_contradiction_is_reported_under_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        taken_over(
            model={"units": 64, "decoder_layers": 2, "tie_embeddings": False, "dropout": 0.1},
            tokenizer=CHARACTERS | {"vocab_size": 41},
            init_from={"run": "zh-prose", "tokenizer": True},
        )
    assert str(caught.value).splitlines() == [
        "my.yaml: 3 faults:",
        "  model.units: must be 48 here, as in zh-prose, whose weights `init_from` starts from. "
        "Received: 64. Change it, or remove `init_from`.",
        "  model.tie_embeddings: must be True here, as in zh-prose, whose weights `init_from` "
        "starts from. Received: False. Change it, or remove `init_from`.",
        "  tokenizer.vocab_size: must be left out where `init_from.tokenizer` is true: the "
        "vocabulary is that of zh-prose. Received: 41.",
    ]


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture: must be encoder_decoder here"):
        taken_over(task="continuation")


def test_one_vocabulary_and_two_do_not_go_together() -> None:
    two, one = config_with(tokenizer=TWO), ORIGIN
    names = {"origin_name": "zh-prose", "config_name": "my.yaml"}
    check_sides(one, one, **names)
    check_sides(two, two, **names)
    for config, origin in ((one, two), (two, one)):
        with pytest.raises(ConfigError, match=r"my.yaml: tokenizer: must have one vocabulary for"):
            check_sides(config, origin, **names)


def test_a_saved_config_means_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    config, _ = taken_over()
    again, choices = taken_over(
        **{
            name: value
            for name, value in config.model_dump(exclude={"data"}).items()
            if name != "decoding"
        }
    )
    assert again.model == config.model
    assert again.tokenizer == config.tokenizer
    assert choices == []
    save_config(config, tmp_path / "config.yaml", run="it")
    assert load_saved_config(tmp_path / "config.yaml").config == config


def test_names_stay_and_folders_become_paths(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "my.yaml").write_text("data: {train: pairs.tsv}\ninit_from: book\n")
    found = load_config(tmp_path / "my.yaml").init_from
    assert found is not None
    assert found.run == tmp_path / "book"
    for text, expected in (("zh-prose", "zh-prose"), ("../other", str(tmp_path.parent / "other"))):
        found = load_config(tmp_path / "my.yaml", [f"init_from={text}"]).init_from
        assert found is not None
        assert str(found.run) == expected
    found = load_config(tmp_path / "my.yaml", ["init_from.tokenizer=false"]).init_from
    assert found is not None
    assert (found.run, found.tokenizer) == (tmp_path / "book", False)


def test_a_resumed_run_keeps_what_it_took_over() -> None:
    saved, _ = taken_over()
    config = keep_chosen(config_with(init_from="zh-prose"), saved)
    assert not changed_settings(saved, config)
    assert config.model == saved.model
    other = keep_chosen(config_with(init_from="en-tales"), saved)
    assert changed_settings(saved, other) == ["init_from.run: 'zh-prose' then, 'en-tales' now"]
