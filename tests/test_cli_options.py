"""Options that several commands share."""

from pathlib import Path

import pytest
from backwards import Backwards

from seq2seq_kit.cli import main
from seq2seq_kit.config import AdaptationConfig, DecodingConfig, save_config


def test_a_tilde_that_the_shell_left_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["init", "~/start"]) == 0
    assert (tmp_path / "start" / "translation.yaml").is_file()
    assert main(["generate", "~nosuchuser/run"]) == 2
    assert "`~nosuchuser` is not the home folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_each_field_of_the_decoding_section_is_an_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in DecodingConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in shown


def test_each_field_of_the_adaptation_section_is_an_option_of_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["score", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in AdaptationConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in shown


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--no-repeat-ngram", "-1", "`no_repeat_ngram` must be 0 or more. Received: -1"),
        ("--length-penalty", "inf", "`length_penalty` must be a finite number. Received: inf"),
        ("--precision", "int8", "'int8' is not one of 'float32', 'bfloat16'"),
        ("--max-length", "x", "'x' is not a valid integer"),
    ],
)
def test_a_search_option_out_of_range_is_named_as_typed(
    command: str, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "run", option, value]) == 2
    error = capsys.readouterr().err
    assert f"Invalid value for '{option}'" in error
    assert message in error


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
@pytest.mark.parametrize("other", ["--sample", "--beam-size=3"])
def test_greedy_contradicts_sampling_and_a_beam(
    command: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "run", *(["out"] if command == "export" else []), "--greedy", other]) == 2
    assert f"--greedy contradicts {other.split('=')[0]}." in capsys.readouterr().err


def test_greedy_is_a_search_without_beam_or_samples(backwards: Backwards) -> None:
    assert main(["generate", "run", "--prompt", "x", "--greedy", "--no-sample"]) == 0
    assert backwards.calls == [{"texts": ["x"], "sample": False, "beam_size": 1}]


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_options_that_contradict_the_config_are_found_before_the_model_is_loaded(
    command: str, tmp_path: Path, backwards: Backwards, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    save_config(Backwards.config, tmp_path / "run" / "config.yaml")
    (tmp_path / "in").write_text("a\n")
    arguments = {
        "generate": [str(tmp_path / "in")],
        "evaluate": ["--tsv", str(tmp_path / "in")],
        "export": [str(tmp_path / "out")],
    }
    options = ["--temperature", "0.5"]
    assert main([command, str(tmp_path / "run"), *arguments[command], *options]) == 2
    assert "`temperature` has an effect only with `sample: true`" in capsys.readouterr().err
    assert backwards.calls == []
