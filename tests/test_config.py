"""Configs are plain values in, a checked frozen model out; nothing here needs TensorFlow."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import assume, example, given, settings, strategies
from pydantic import ValidationError

from seq2seq_kit.config import Config, DecodingConfig, load_config, load_saved_config, save_config
from seq2seq_kit.config.section import Section
from seq2seq_kit.errors import ConfigError, InputError, shorten
from seq2seq_kit.text.checks import check_files


def minimal(**sections: Any) -> dict[str, Any]:
    """The shortest config that is valid, with `sections` in it."""
    return {"data": {"train": {"tsv": "pairs.tsv"}}, **sections}


def write_yaml(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(config: Any, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides)
    return str(caught.value)


def test_a_config_of_one_key_is_enough() -> None:
    config = load_config(minimal())
    assert config.task == "translation"
    assert config.model.architecture == "encoder_decoder"
    assert config.tokenizer.lossless is False


def test_a_path_alone_is_a_tsv() -> None:
    config = load_config({"data": {"train": "pairs.tsv", "test": ["a.tsv", {"tsv": "b.tsv"}]}})
    assert config.data.train == load_config(minimal()).data.train
    assert [corpus.kind for _, corpus in config.data.corpora()] == ["tsv"] * 3


def test_batches_of_tokens_are_large_enough_where_their_size_is_left_out() -> None:
    assert load_config(minimal(training={"batch_unit": "tokens"})).training.batch_size == 4096
    longer = {"data": {"train": "pairs.tsv", "max_source_length": 5000}}
    config = load_config(longer | {"training": {"batch_unit": "tokens"}})
    assert config.training.batch_size == 5001


def test_continuation_fills_in_its_own_defaults() -> None:
    config = load_config({"task": "continuation", "data": {"train": {"text": "novel.txt"}}})
    assert config.model.architecture == "language_model"
    assert config.tokenizer.lossless is True


def test_each_side_gets_its_lossless_filled_in() -> None:
    config = load_config(minimal(tokenizer={"source": {"lossless": True}, "target": {}}))
    assert [vocabulary.lossless for _, vocabulary in config.tokenizer.vocabularies()] == [
        True,
        False,
    ]


def test_a_section_left_empty_takes_its_defaults(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "run.yaml", "data: {train: {tsv: a.tsv}}\nmodel:\ntraining:\n")
    assert load_config(path) == load_config(
        {"data": {"train": {"tsv": str(tmp_path / "a.tsv")}, "root": str(tmp_path)}}
    )


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_config(minimal()).seed = 2


def test_all_faults_are_shown_together_under_their_keys() -> None:
    message = faults_of(
        {
            "task": "translate",
            "data": {"train": [{"tsv": "a.tsv"}, {"tsvv": "b.tsv"}]},
            "model": {"unit": 512, "embedding_dim": 0},
            "training": {"epochs": "3", "learning_rate": True},
            "batch_size": 32,
        }
    )
    heading, *faults = message.split("\n  ")
    assert heading == "config: 7 faults:"
    assert faults == [
        "task: must be one of 'translation' or 'continuation'. Received: 'translate'.",
        "data.train.1.tsvv: is an unknown key. Did you mean `tsv`?",
        "model.embedding_dim: must be 1 or more. Received: 0.",
        "model.unit: is an unknown key. Did you mean `units`?",
        "training.epochs: must be a whole number. Received: '3'.",
        "training.learning_rate: must be a number. Received: True.",
        "batch_size: is an unknown key. Did you mean `training.batch_size`?",
    ]


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"data": {"train": {}}}, "data.train: must name exactly one kind of corpus"),
        ({"data": {"train": []}}, "data.train: must not be empty"),
        ({"data": {"train": None}}, "data.train: must be a list, but has no value."),
        ({"data": {"train": {"text": None}}}, "data.train.text: is empty. Name a file."),
        ({"data": {"train": {"tsv": ""}}}, "data.train.tsv: is empty. Name a file."),
        ({"data": {"trian": "x"}}, "data.trian: is an unknown key. Did you mean `train`?"),
        ({"dta": {"train": "x"}}, "dta: is an unknown key. Did you mean `data`?"),
        ({}, "data: is required"),
        ({"data": {"train": {"tsv": "a", "lines": "b"}}}, "Received: tsv and lines"),
        ({"data": {"train": {"source": "a"}}}, "data.train.target: is required"),
        ({"data": {"train": {"target": "a"}}}, "data.train.source: is required"),
        ({"data": {"train": {"text": "a"}}}, "data.train.text: is for continuation only"),
        (
            {"data": {"train": {"source": "a", "target": "b", "header": True}}},
            "data.train.header: is used only with `tsv`",
        ),
        (
            {"data": {"train": {"tsv": "a", "source_columns": ["en"]}}},
            "data.train.source_columns: names a column, 'en': this needs `header: true`",
        ),
        (
            {"data": {"train": {"tsv": "a", "target_columns": 0}}},
            "data.train.target_columns: must be a column counted from 1, or a column's name",
        ),
        (
            {"task": "continuation", "data": {"train": [{"text": "a"}, {"lines": "b"}]}},
            "data.train.1: cannot be `lines` where `train` begins with `text`",
        ),
        (
            {"data": {"train": {"tsv": "a"}, "test": {"tsv": "b", "weight": 2}}},
            "data.test.weight: is used only in `train`",
        ),
        (minimal(tokenizer={"source": {}}), "tokenizer.target: is required beside `source`"),
        (
            minimal(tokenizer={"source": {}, "target": {}, "type": "bpe"}),
            "tokenizer.type: has no effect beside `source` and `target`",
        ),
        (
            minimal(model={"architecture": "language_model"}),
            "model.architecture: must be encoder_decoder for `task: translation`",
        ),
        (
            minimal(task="continuation", tokenizer={"source": {}, "target": {}}),
            "tokenizer.source: cannot be used with a language model",
        ),
        (minimal(model={"units": 7}), "model.units: must be even"),
        (
            minimal(training={"batch_unit": "tokens", "batch_size": 64}),
            "training.batch_size: must be at least 101 with `batch_unit: tokens`",
        ),
        (
            {
                "task": "continuation",
                "data": {"train": {"text": "a"}},
                "training": {"early_stopping": {"metric": "bleu"}},
            },
            "training.early_stopping.metric: must be loss here",
        ),
        (
            minimal(model={"inner_units": 512, "decoder_layers": 2}),
            "model.inner_units: is for language models only",
        ),
        (
            minimal(task="continuation", model={"inner_units": 600}),
            "model.inner_units: is used only with two `decoder_layers` or more",
        ),
        (
            minimal(task="continuation", model={"inner_units": 500, "decoder_layers": 2}),
            "model.inner_units: must be at least `units`, here 512. Received: 500",
        ),
        (
            minimal(training={"activation_regularization": 2.0}),
            "training.activation_regularization: is for language models only",
        ),
        (
            minimal(training={"schedule": "cosine", "plateau_factor": 0.9}),
            "training.plateau_factor: is used only with `schedule: plateau`",
        ),
        (
            minimal(training={"schedule": "inverse_sqrt"}),
            "training.warmup_steps: must be at least 1 with `schedule: inverse_sqrt`",
        ),
        (
            minimal(training={"schedule": "one_cycle", "warmup_steps": 5}),
            "training.warmup_steps: must be 0 with `schedule: one_cycle`",
        ),
        (
            minimal(training={"averaging": "ema", "averaging_patience": 3}),
            "training.averaging_patience: is used only with `averaging: triggered`",
        ),
        (
            minimal(training={"averaging_decay": 0.9}),
            "training.averaging_decay: is used only with `averaging: ema`",
        ),
        (
            minimal(training={"averaging": "triggered", "averaging_patience": 3}),
            "training.early_stopping.patience: must be at least 5, 2 more than",
        ),
        (minimal(model={"dropout": float("nan")}), "model.dropout: must be a finite number"),
        (minimal(seed=2**32), "seed: must be less than 4294967296"),
        (minimal(model=3), "model: must be a section with keys. Received: 3"),
    ],
)
def test_fault_names_key_and_remedy(config: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(config)


def test_overrides_are_yaml_and_reach_into_lists() -> None:
    config = load_config(
        {"data": {"train": [{"tsv": "a.tsv"}, {"tsv": "b.tsv"}]}},
        [
            "training.learning_rate=1e-3",
            "data.train.1.weight=0.5",
            "training.epochs=null",
            "training.max_steps=9",
        ],
    )
    assert config.training.learning_rate == 0.001
    assert [corpus.weight for corpus in config.data.train] == [1.0, 0.5]
    assert (config.training.epochs, config.training.max_steps) == (None, 9)


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("training.epoch=3", "training.epoch: is an unknown key. Did you mean `epochs`?"),
        ("training.epochs", "must be written key.path=value"),
        ("=3", "must be written key.path=value"),
        ("model.units=[", "model.units: has no valid YAML value"),
        ("data.train.3.weight=1", "`3` must be a number from 0 to 0 here"),
        ("data.train.0.tsv.x=1", "there is no `x` in 'pairs.tsv'"),
    ],
)
def test_faulty_override(override: str, fault: str) -> None:
    assert fault in faults_of({"data": {"train": [{"tsv": "pairs.tsv"}]}}, override)


@pytest.mark.parametrize("train", ["a.tsv", {"tsv": "a.tsv"}, ["a.tsv"], [{"tsv": "a.tsv"}]])
def test_a_single_corpus_is_number_0_with_and_without_a_list(train: Any) -> None:
    overrides = ["data.train.0.tsv=b.tsv", "data.train.0.source_columns.0=3", "data.test.0=c.tsv"]
    data = load_config({"data": {"train": train}}, overrides).data
    assert (
        data
        == load_config(
            {"data": {"train": {"tsv": "b.tsv", "source_columns": 3}, "test": "c.tsv"}}
        ).data
    )


@pytest.mark.parametrize("overrides", ["training.epochs=3", {"training.epochs": 3}])
def test_overrides_must_be_a_list(overrides: Any) -> None:
    with pytest.raises(ConfigError, match=r"`overrides` must be a list of texts"):
        load_config(minimal(), overrides)


def test_a_fault_of_an_override_is_not_said_to_be_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("data: {train: a.tsv}")
    with pytest.raises(ConfigError, match=r"my\.yaml with its overrides: training\.epoch: "):
        load_config(tmp_path / "my.yaml", ["training.epoch=3"])


def test_a_corpus_written_as_a_path_takes_further_keys() -> None:
    data = load_config({"data": {"train": "a.tsv"}}, ["data.train.weight=2"]).data
    assert (data.train[0].weight, data.train[0].tsv) == (2, Path("a.tsv").absolute())


def test_an_entry_that_a_single_one_has_not_is_refused() -> None:
    fault = "data.train.1.tsv: cannot be set: `1` must be a number from 0 to 0 here"
    assert fault in faults_of({"data": {"train": "a.tsv"}}, "data.train.1.tsv=b")


def test_overriding_one_corpus_leaves_its_aliases_alone(tmp_path: Path) -> None:
    text = "data: {train: &both {tsv: a.tsv}, validation: *both}\n"
    data = load_config(write_yaml(tmp_path / "run.yaml", text), ["data.train.tsv=b.tsv"]).data
    assert data.train[0].tsv == tmp_path / "b.tsv"
    assert data.validation is not None
    assert data.validation[0].tsv == tmp_path / "a.tsv"


def test_a_mapping_given_is_left_as_it_was() -> None:
    values = minimal()
    load_config(values, ["data.train.weight=2", "model.units=64"])
    assert values == minimal()


def test_relative_paths_start_from_the_config_file(tmp_path: Path) -> None:
    data = "data: {root: texts, train: {tsv: sub/a.tsv}, test: {tsv: /abs/b.tsv}}\n"
    config = load_config(write_yaml(tmp_path / "run.yaml", data + "tokenizer: {model: t.model}\n"))
    assert config.data.train[0].tsv == tmp_path / "texts" / "sub" / "a.tsv"
    assert config.data.test is not None
    assert config.data.test[0].tsv == Path("/abs/b.tsv").resolve()
    assert config.tokenizer.model == tmp_path / "t.model"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "model: {units: 1}\nmodel: {units: 2}\n",
            "line 2, column 1: the key 'model' is given twice",
        ),
        ("model: [\n", "is not valid YAML: line 2"),
        ("", "must hold sections such as `data:` and `model:`. Received: an empty file"),
        ("- a\n", "must hold sections"),
        ("yes: 3\n", "a key must be a text. Received: True"),
        ("data: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("data: " + 1000 * "[" + 1000 * "]", "values are nested more than 30 deep"),
        ("data: " + 1000 * "{a: " + 1000 * "}", "values are nested more than 30 deep"),
        ("data: &all [*all]\n", "values are nested more than 30 deep"),
        ("data: [" + 60_000 * "a," + "]\n", "there are more than 50,000 values"),
        ("? [a, b]\n: 1\n", "a key must be a text. Received: ['a', 'b']"),
        (f"seed: {'9' * 5000}\n", "a number has 5,000 characters"),
        (f"seed: {'1:' * 5000}1\n", "a number has 10,001 characters"),
        ("data: {train: 2024-13-45}\n", "'2024-13-45' has no value (month must be in 1..12)"),
        ("seed: !!bool perhaps\n", "'perhaps' has no value"),
        ('data: {train: "\\ud800"}\n', "half of a surrogate pair is no text"),
        ("data: \0\n", "special characters are not allowed"),
    ],
)
def test_faulty_file(tmp_path: Path, text: str, fault: str) -> None:
    path = write_yaml(tmp_path / "run.yaml", text)
    message = faults_of(path)
    assert message.startswith(f"{path}: ")
    assert fault in message


def test_aliases_of_aliases_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 9)]
    text = "\n".join(lines)
    assert len(text) < 499
    assert "there are more than 50,000 values" in faults_of(write_yaml(tmp_path / "a.yaml", text))


def test_a_received_value_is_built_only_as_far_as_it_is_shown() -> None:
    built = []

    class Item:
        def __repr__(self) -> str:
            built.append(self)
            return "item"

    value: Any = Item()
    for _ in range(12):
        value = [value] * 3  # 531,441 items in all
    assert shorten(value).startswith("[[[[[[[[[[[[item, item, item], [item")
    assert len(shorten(value)) == 60
    assert len(built) < 100


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "large"])
def test_a_config_must_be_a_file_that_can_be_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_text(f"#{'x' * 1_000_000}", encoding="utf-8")
    expected = {
        "pipe": "it is a named pipe",
        "folder": "it is a folder",
        "loop": "Too many levels of symbolic links",
        "large": "a config has at most 1,000,000 bytes",
    }
    assert expected[kind] in faults_of(path)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("a\0b", "a path cannot have a NUL character in it"),
        ("~nosuchuser/a", "`~nosuchuser` is not the home folder"),
        ("\ud800", "half of a surrogate pair is no character"),
    ],
)
def test_a_path_that_can_name_no_file_is_refused_under_its_key(path: str, fault: str) -> None:
    for config, key in (
        ({"data": {"train": {"tsv": path}}}, "data.train.tsv"),
        ({"data": {"root": path, "train": {"tsv": "a"}}}, "data.root"),
        (minimal(tokenizer={"model": path}), "tokenizer.model"),
    ):
        message = faults_of(config)
        assert f"{key}: " in message
        assert fault in message


def test_a_path_that_a_saved_config_could_not_hold_is_refused() -> None:
    message = faults_of({"data": {"train": "/caf\udce9.tsv"}})
    assert "The path '/caf\\udce9.tsv' must be UTF-8" in message


def test_a_link_that_leads_to_itself_is_a_fault_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        check_files(load_config({"data": {"train": str(tmp_path / "loop" / "a.tsv")}}))


def test_many_faults_are_counted_and_the_first_are_shown() -> None:
    message = faults_of(minimal(**{f"key{number}": 1 for number in range(1000)}))
    assert message.startswith("config: 1,000 faults:\n")
    assert message.endswith("\n  ... and 980 more")
    assert message.count("\n") == 21


def test_a_key_that_would_break_the_line_is_shown_as_python_writes_it() -> None:
    assert "config: 'a\\nb': is an unknown key" in faults_of(minimal(**{"a\nb": 1}))


def test_missing_file_and_foreign_bytes(tmp_path: Path) -> None:
    assert "No such file" in faults_of(tmp_path / "none.yaml")
    path = tmp_path / "latin1.yaml"
    path.write_bytes("task: é".encode("latin-1"))
    assert "must be UTF-8, but byte 6 is not" in faults_of(path)


def test_small_data_are_read_more_often_without_a_limit() -> None:
    training = load_config(minimal()).training
    assert training.has_no_limit
    assert training.default_epochs(steps_per_epoch=5) == 600
    assert training.default_epochs(steps_per_epoch=7) == 429  # 3,003 steps
    assert training.default_epochs(steps_per_epoch=5000) == 30
    for limit in ("epochs", "max_steps", "max_minutes"):
        assert not load_config(minimal(training={limit: 3})).training.has_no_limit


def test_continuation_searches_greedily_and_without_loops_by_default() -> None:
    text = {"task": "continuation", "data": {"train": {"text": "book.txt"}}}
    told = text | {"decoding": {"beam_size": 5, "max_loop_characters": 0}}
    found = [
        (config.decoding.beam_size, config.decoding.max_loop_characters)
        for config in map(load_config, (minimal(), text, told))
    ]
    assert found == [(5, 0), (1, 24), (5, 0)]


@pytest.mark.parametrize("task", ["translation", "continuation"])
def test_the_limit_of_outputs_follows_that_of_the_data(task: str, tmp_path: Path) -> None:
    def limit(values: Any, *overrides: str) -> int:
        return load_config(values, overrides).decoding.max_length

    assert limit(minimal(task=task)) == 100
    config = minimal(task=task) | {"data": {"train": "pairs.tsv", "max_target_length": 20}}
    assert limit(config) == 20
    assert limit(config, "data.max_target_length=300") == 300
    assert limit(load_config(config), "data.max_target_length=300") == 300
    # What is given stays, as in the config of an older run, where every key is.
    assert limit(config, "decoding.max_length=100") == 100
    save_config(load_config(config, ["decoding.max_length=100"]), tmp_path / "saved.yaml")
    assert limit(tmp_path / "saved.yaml") == 100


def test_only_what_was_set_in_options_takes_the_place_of_others() -> None:
    run = load_config(minimal(task="continuation"), ["data.max_target_length=20"]).decoding
    merged = run.merge(DecodingConfig(beam_size=3))
    assert merged == run.override(beam_size=3)
    assert merged.max_length == 20
    assert run.merge(None) == run.merge(run) == run
    assert run.merge(DecodingConfig(max_length=100)).max_length == 100


def test_options_given_replace_those_of_the_section() -> None:
    section = DecodingConfig(beam_size=3, max_length=7)
    assert section.override() == section.override(beam_size=None, shortlist=None) == section
    changed = section.override(
        beam_size=np.int64(2), length_penalty=np.float32(0.5), shortlist=True
    )
    expected = DecodingConfig(beam_size=2, max_length=7, length_penalty=0.5, shortlist=True)
    assert changed == expected
    # What a cache of graphs needs.
    assert hash(changed) == hash(expected)
    assert type(changed.beam_size) is int


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beam_size", 0),
        ("beam_size", "3"),
        ("beam_size", 2.5),
        ("beam_size", True),
        ("max_length", -1),
        ("no_repeat_ngram", -1),
        ("length_penalty", -0.5),
        ("length_penalty", float("inf")),
        ("length_penalty", "1"),
        ("shortlist", "yes"),
        ("precision", "int8"),
        ("batch_size", [1, 2]),
    ],
)
def test_an_option_has_the_fault_of_its_key(key: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        DecodingConfig().override(**{key: value})
    in_config = faults_of(minimal(decoding={key: value}))
    assert in_config == f"config: decoding.{key}:{str(caught.value).removeprefix(f'`{key}`')}"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("beam_sise", "Did you mean `beam_size`?"),
        ("no_repeat_ngrams", "Did you mean `no_repeat_ngram`?"),
        ("first_lines", "Did you mean `first_line`?"),
        ("zebra", "Known: beam_size, "),
    ],
)
def test_an_unknown_option_is_named_with_what_may_be_meant(name: str, advice: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"`{name}` is an unknown option. {advice}")):
        DecodingConfig().override(["first_line"], **{name: 1})


def test_a_saved_config_loads_as_it_was(tmp_path: Path) -> None:
    config = load_config(
        minimal(
            training={"epochs": None, "max_minutes": 2.5}, tokenizer={"source": {}, "target": {}}
        )
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    # What a shared vocabulary has would have no effect.
    assert list(written["tokenizer"]) == ["source", "target"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_saved_config_older_than_a_key_means_what_held_before_it(tmp_path: Path) -> None:
    continuation = {"task": "continuation", "data": {"train": {"text": "book.txt"}}}
    for decoding, expected in (({}, 24), ({"max_loop_characters": 7}, 7)):
        path = tmp_path / "config.yaml"
        save_config(load_config(continuation | {"decoding": decoding}), path)
        assert load_saved_config(path).config.decoding.max_loop_characters == expected
        lines = path.read_text().splitlines(keepends=True)
        older = [line for line in lines if "max_loop" not in line and not line.startswith("#")]
        path.write_text("".join(older))
        assert load_saved_config(path).config.decoding.max_loop_characters == 0
        assert load_config(path).decoding.max_loop_characters == 24


def test_a_saved_config_names_its_versions(tmp_path: Path) -> None:
    save_config(load_config(minimal()), tmp_path / "config.yaml")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert saved["format_version"] == 1
    assert set(saved["versions"]) == {
        "seq2seq_kit",
        "tensorflow",
        "keras",
        "sentencepiece",
        "numpy",
        "python",
    }


def test_a_newer_format_is_refused() -> None:
    message = faults_of(minimal(format_version=2))
    assert "format_version: must be 1" in message
    assert "Use the version of seq2seq_kit that wrote the file" in message


def test_every_key_is_documented() -> None:
    def undocumented(section: type[Section]) -> list[str]:
        own = [name for name, field in section.model_fields.items() if not field.description]
        return own + [key for inner in section.__subclasses__() for key in undocumented(inner)]

    assert undocumented(Section) == []


def test_files_that_cannot_be_used_are_shown_together(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "a.de").write_text("eins\n", encoding="utf-8")
    config = load_config(
        {
            "data": {
                "root": str(tmp_path),
                "train": {"source": "a.en", "target": "a.de"},
                "test": {"tsv": "none.tsv"},
            },
            "tokenizer": {"model": str(tmp_path / "none.model")},
        }
    )
    with pytest.raises(ConfigError) as caught:
        check_files(config)
    heading, train, test, tokenizer = str(caught.value).split("\n  ")
    assert heading == "config: 3 faults:"
    assert train.startswith("data.train: ")
    assert "2" in train
    assert "1" in train
    assert test.startswith("data.test: ")
    assert "none.tsv" in test
    assert tokenizer.startswith("tokenizer.model: must be a file")


CHARACTERS = strategies.characters(exclude_categories=["Cs"], exclude_characters="\0")
FILE_NAMES = strategies.text(CHARACTERS, min_size=1, max_size=12).filter(
    lambda name: "/" not in name and name not in (".", "..") and not name.startswith("~")
)


def values_of(schema: dict[str, Any]) -> strategies.SearchStrategy[Any]:
    """Values that a key allows, as its JSON schema says."""
    if "anyOf" in schema:
        return strategies.one_of(*map(values_of, schema["anyOf"]))
    if "enum" in schema:
        return strategies.sampled_from(schema["enum"])
    match schema.get("type"):
        case "null":
            return strategies.none()
        case "boolean":
            return strategies.booleans()
        case "string":
            return strategies.text(CHARACTERS, max_size=5)
        case "integer":
            top = schema.get("maximum", schema.get("exclusiveMaximum", 0) - 1)
            return strategies.integers(schema["minimum"], top)
        case "number":
            bottom = schema.get("minimum", schema.get("exclusiveMinimum"))
            top = schema.get("maximum", schema.get("exclusiveMaximum"))
            is_open = {
                f"exclude_{end}": f"exclusive{end.title()}imum" in schema for end in ("min", "max")
            }
            return strategies.floats(bottom, top, **is_open)
    raise AssertionError(schema)


# Most of their values have a meaning only beside one value of another key.
DEPENDENT = {
    "activation_regularization",
    "temporal_activation_regularization",
    "averaging_decay",
    "averaging_patience",
    "inner_units",
    "plateau_factor",
    "plateau_patience",
    "attention",
    "attention_layer",
    "cell",
    "warmup_steps",
    "weight_drop",
}


def sections() -> strategies.SearchStrategy[dict[str, Any]]:
    """Sections with some of their keys, without paths, lists, sections and dependent keys."""
    schema = Config.model_json_schema()
    drawn = {}
    for key, name in (("model", "ModelConfig"), ("training", "TrainingConfig")):
        drawn[key] = schema["$defs"][name]["properties"]
    drawn["decoding"] = schema["$defs"]["DecodingConfig"]["properties"]
    drawn["tokenizer"] = schema["$defs"]["VocabularyConfig"]["properties"]
    plain = {
        key: {
            name: values_of(values)
            for name, values in properties.items()
            if name not in DEPENDENT
            and not any(word in str(values) for word in ("$ref", "array", "path"))
        }
        for key, properties in drawn.items()
    }
    return strategies.fixed_dictionaries(
        {key: strategies.fixed_dictionaries({}, optional=values) for key, values in plain.items()}
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@example(
    # Line ends of Unicode, which YAML reads as newlines or spaces unless they are escaped.
    sections={},
    task="translation",
    names=["a\x85b\u2028c\u2029d"],
    join="\x85",
    weight=1.0,
)
@example(
    sections={"decoding": {"sample": True}}, task="translation", names=["a"], join="", weight=1.0
)
@given(
    sections=sections(),
    task=strategies.sampled_from(["translation", "continuation"]),
    names=strategies.lists(FILE_NAMES, min_size=1, max_size=3),
    join=strategies.text(CHARACTERS, max_size=3),
    weight=strategies.floats(0.001, 10.0),
)
def test_a_saved_config_is_loaded_as_the_same(
    sections: dict[str, Any],
    task: str,
    names: list[str],
    join: str,
    weight: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("configs")
    train = [{"tsv": str(folder / name), "join": join, "weight": weight} for name in names]
    try:
        config = load_config({"task": task, "data": {"train": train}, **sections})
    except ConfigError:
        assume(False)  # Keys that contradict each other.
    (folder / "run").mkdir()
    save_config(config, folder / "run" / "config.yaml")
    loaded = load_config(folder / "run" / "config.yaml")
    assert loaded.model_dump() == config.model_dump()
    save_config(loaded, folder / "run" / "again.yaml")
    first, again = (folder / "run" / f"{name}.yaml" for name in ("config", "again"))
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    "text", ["856260814912e972", "1e5", "12", "1_0e3", "true", "null", "~", "1:30"]
)
def test_a_text_that_looks_like_a_number_comes_back_as_a_text(tmp_path: Path, text: str) -> None:
    values = {"data": {"train": "a.tsv"}, "tokenizer": {"user_defined_symbols": [text]}}
    save_config(load_config(values), tmp_path / "config.yaml", run=text)
    saved = load_saved_config(tmp_path / "config.yaml")
    assert saved.run == text
    assert saved.config.tokenizer.user_defined_symbols == (text,)


def test_the_name_of_a_run_that_was_saved_without_quotes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_config(load_config({"data": {"train": "a.tsv"}}), path, run="856260814912e972")
    # As earlier versions wrote it: without quotes, sealed or not.
    body = path.read_text(encoding="utf-8").partition("\n...\n")[0]
    path.write_text(body.replace("'856260814912e972'", "856260814912e972") + "\n...\n", "utf-8")
    assert load_saved_config(path).run == "856260814912e972"


def test_an_override_that_turns_sampling_off_drops_the_options_of_the_file() -> None:
    config = minimal(decoding={"sample": True, "temperature": 0.7, "top_k": 5, "max_length": 9})
    decoding = load_config(config, ["decoding.sample=false"]).decoding
    assert not decoding.sample and decoding.max_length == 9
    assert decoding.temperature == 1.0 and decoding.top_k == 0
    # One that is given beside it is the caller's own contradiction.
    said = faults_of(config, "decoding.sample=false", "decoding.top_k=3")
    assert "decoding.top_k: has an effect only with" in said
