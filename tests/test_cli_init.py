"""`s2s init`: a starter is written whole or not at all."""

import os
from pathlib import Path

import pytest

from seq2seq_kit.cli import main
from seq2seq_kit.config import load_config


def test_init_writes_configs_that_find_their_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from seq2seq_kit.text.checks import check_files

    assert main(["init", str(tmp_path / "start")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for name in ("translation.yaml", "continuation.yaml", "verse.yaml"):
        check_files(load_config(tmp_path / "start" / name))


def test_init_into_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "file cannot be made (File exists)" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_init_completes_a_starter_that_was_interrupted(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "start")]) == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "start").rglob("*") if path.is_file()}
    (tmp_path / "start" / "translation.yaml").unlink()
    assert main(["init", str(tmp_path / "start")]) == 0
    files = (path for path in (tmp_path / "start").rglob("*") if path.is_file())
    assert {path: path.read_bytes() for path in files} == whole


@pytest.mark.parametrize("files_before", [0, 3])
def test_init_on_a_full_disk_leaves_nothing_half_written(
    files_before: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    synced = []
    sync = os.fsync

    def full_disk(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 2 * files_before:  # Each file, and the names in its folder.
            raise OSError(28, "No space left on device")
        sync(descriptor)

    (tmp_path / "mine").touch()
    monkeypatch.setattr(os, "fsync", full_disk)
    assert main(["init", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("s2s: error: The starter could not be written to ")
    assert "No space left on device" in error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "mine"]


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "translation.yaml"
    mine.write_text("mine", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("s2s: error: ")
    assert "Nothing was written or overwritten" in error
    assert list(tmp_path.iterdir()) == [mine]
    assert mine.read_text(encoding="utf-8") == "mine"
