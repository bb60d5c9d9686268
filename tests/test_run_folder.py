"""The names in a run folder, and its JSON."""

from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.run_folder import RunFolder, read_json, save_json


def test_every_file_has_a_name_of_its_own_inside_the_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    names = ("config", "best", "last", "metrics", "results", "data", "logs")
    paths = [getattr(run, name) for name in names]
    paths += [run.tokenizer(side) for side in ("shared", "source", "target")]
    assert len(set(paths)) == 10
    assert {path.parent for path in paths} == {tmp_path}


@pytest.mark.parametrize("value", [{"bleu": 31.25, "ended": None}, {"text": ["Grüße, 春天"]}, {}])
def test_json_that_is_saved_is_read(tmp_path: Path, value: Any) -> None:
    save_json(tmp_path / "results.json", value)
    assert read_json(tmp_path / "results.json") == value
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    save_json(tmp_path / "results.json", {"step": 1})
    with pytest.raises(TypeError):
        save_json(tmp_path / "results.json", {"step": object()})
    assert read_json(tmp_path / "results.json") == {"step": 1}


@pytest.mark.parametrize("content", [b"", b'{"bleu": 3', b"\xff\xfe", b"[1]", b"3"])
def test_damaged_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(RunError, match=r"results\.json is damaged .*Restore"):
        read_json(tmp_path / "results.json")


def test_a_trained_run_opens(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.touch()
    run.best.touch()
    assert run.open_trained() is run


@pytest.mark.parametrize("files", [(), ("config.yaml",), ("best.npz",)])
def test_an_untrained_folder_is_refused_with_advice(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"lacks them\. `s2s fit` makes one"):
        RunFolder(tmp_path).open_trained()


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.npz").touch()
    with pytest.raises(InputError, match=r"There are runs in it: .*/one, .*/two\."):
        RunFolder(tmp_path).open_trained()


def test_an_interrupted_run_is_to_be_resumed_not_trained_anew(tmp_path: Path) -> None:
    for name in ("config.yaml", "last.npz"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"interrupted before its first validation.*--resume"):
        RunFolder(tmp_path).open_trained()


def test_an_export_is_told_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match="is an exported SavedModel"):
        RunFolder(tmp_path).open_trained()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        RunFolder(tmp_path / "nowhere").open_trained()
