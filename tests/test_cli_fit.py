"""`s2s fit`: what it says when it is interrupted."""

import json
import signal
from pathlib import Path

import pytest
from backwards import PAIRS, Backwards

import seq2seq_kit
from seq2seq_kit.cli import main
from seq2seq_kit.errors import TrainingInterrupted
from seq2seq_kit.pretrained import catalog


@pytest.mark.parametrize(
    ("name", "code", "can_resume"),
    [("SIGINT", 130, True), ("SIGTERM", 143, True), ("SIGHUP", 129, True), ("SIGTERM", 143, False)],
)
def test_interrupted_training_says_how_to_resume(
    backwards: Backwards,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    can_resume: bool,
) -> None:
    if not hasattr(signal, name):
        pytest.skip("not on this system")

    def fit(_config: Path, *, overrides: tuple[str, ...], run_dir: Path, resume: bool) -> None:
        assert overrides == ("training.epochs=2",)
        assert not resume
        raise TrainingInterrupted(run_dir, getattr(signal, name), can_resume=can_resume)

    monkeypatch.setattr(seq2seq_kit.Seq2Seq, "fit", fit, raising=False)
    (tmp_path / "pairs.tsv").write_text("a\tb\n", encoding="utf-8")
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(PAIRS), encoding="utf-8")
    assert main(["fit", str(config), "--set", "training.epochs=2"]) == code
    error = capsys.readouterr().err
    command = f"s2s fit {config} --run-dir {Path('runs', 'tiny')} --set training.epochs=2"
    if can_resume:
        assert error.endswith(f"Resume it with: {command} --resume\n")
    else:
        assert error.endswith(f"before its first step. Start it again with: {command}\n")


def test_a_packaged_model_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zh-prose").mkdir()
    (tmp_path / "zh-prose" / "card.md").touch()
    monkeypatch.setattr(catalog, "FOLDER", tmp_path)
    assert main(["fit", "zh-prose", "--resume"]) == 2
    assert "has no state of training to resume. To train on" in capsys.readouterr().err
