"""`s2s distill`: the pairs that a student learns from, and what its run folder records."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import test_augmenting
from small_config import PAIRS, write_texts
from test_augmenting import Letters

from seq2seq_kit import augmenting, distillation
from seq2seq_kit.cli import main
from seq2seq_kit.config import AugmentationConfig, load_config
from seq2seq_kit.errors import InputError, TrainingInterrupted
from seq2seq_kit.text.corpus import read_corpus
from seq2seq_kit.training.run_folder import RunFolder

letters = test_augmenting.model
"""The stand-in for the teachers, as a fixture."""


class Fits:
    """Stands for `Seq2Seq.fit`: keeps what the student would learn from."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.resumed: list[bool] = []
        self.stops = False

    def __call__(
        self, config: Any, *, overrides: Sequence[str], run_dir: Path, resume: bool
    ) -> "Fits":
        train = load_config(config, overrides).data.train
        self.pairs = [pair[1:] for corpus in train for pair in read_corpus(corpus)]
        self.resumed.append(resume)
        if self.stops:
            raise TrainingInterrupted(run_dir)
        return self

    results: dict[str, Any] = {"steps": 3}  # noqa: RUF012 (read only)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    fits = Fits()
    monkeypatch.setattr(distillation.Seq2Seq, "fit", fits)
    monkeypatch.setattr(distillation, "identify", lambda runs: [str(run) for run in runs])
    return fits


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_texts(tmp_path)
    path = tmp_path / "student.yaml"
    path.write_text("data: {train: train.tsv, validation: dev.tsv}\n")
    return path


OUTPUTS = [(source, source[::-1]) for source, _ in PAIRS]


@pytest.mark.usefixtures("letters")
def test_the_student_learns_from_the_outputs_of_its_teachers(
    config: Path, fits: Fits, tmp_path: Path
) -> None:
    distillation.distill(config, ["one", "two"], tmp_path / "run")
    assert fits.pairs == OUTPUTS
    record = json.loads((tmp_path / "run" / "distillation.json").read_text())
    assert record["teacher_runs"] == ["one", "two"]
    assert record["counts"]["pairs"] == len(PAIRS)
    assert record["options"]["keep"] == "best"


@pytest.mark.usefixtures("letters")
def test_the_original_pairs_can_be_beside_them(config: Path, fits: Fits, tmp_path: Path) -> None:
    distillation.distill(config, ["one"], tmp_path / "run", with_original=True)
    assert fits.pairs == [*OUTPUTS, *PAIRS]


def test_pairs_are_written_once_and_only_for_the_same_teachers(
    config: Path, letters: Letters, fits: Fits, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    distillation.distill(config, ["one"], run.path)
    calls = len(letters.calls)
    run.last.touch()  # A training that was stopped.
    run.config.write_text("format_version: 1\n")
    with pytest.raises(InputError, match="holds a run already"):
        distillation.distill(config, ["one"], run.path)
    distillation.distill(config, ["one"], run.path, search={"threads": 1}, resume=True)
    assert (len(letters.calls), fits.resumed) == (calls, [False, True])
    with pytest.raises(InputError, match="with other teachers"):
        distillation.distill(config, ["two"], run.path, resume=True)
    with pytest.raises(InputError, match="with other options of the search"):
        distillation.distill(config, ["one"], run.path, search={"beam_size": 2}, resume=True)
    with pytest.raises(InputError, match="with other options"):
        distillation.distill(
            config, ["one"], run.path, options=AugmentationConfig(drop_copies=True), resume=True
        )
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("new\tpair\n")
    with pytest.raises(InputError, match="with other texts"):
        distillation.distill(config, ["one"], run.path, resume=True)


def test_a_stop_while_pairs_are_written_loses_none(
    config: Path, letters: Letters, fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        if len(letters.calls) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(augmenting._Progress, "report", stop)
        with pytest.raises(KeyboardInterrupt):
            distillation.distill(config, ["one"], tmp_path / "run")
    assert fits.resumed == []
    distillation.distill(config, ["one"], tmp_path / "run", resume=True)
    assert (fits.pairs, fits.resumed) == (OUTPUTS, [False])
    assert len(letters.calls) == len(PAIRS) / 2  # Two lines at once, each of them once.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {train: train.tsv}", "`data.validation` is required"),
        ("task: continuation\ndata: {train: {lines: text.txt}}", "Only a model for translation"),
        ("data: {train: none.tsv, validation: dev.tsv}", "none.tsv"),
    ],
)
@pytest.mark.usefixtures("letters")
def test_a_config_without_a_student_is_refused(
    config: Path, fits: Fits, text: str, message: str
) -> None:
    config.write_text(text)
    with pytest.raises(InputError, match=message):
        distillation.distill(config, ["one"], config.parent / "run")
    assert fits.resumed == []


@pytest.mark.usefixtures("letters")
def test_the_command_says_how_to_resume(
    config: Path, fits: Fits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    command = ["distill", str(config), "--teacher", "one", "--teacher", "two", "--run-dir", run]
    options = ["--with-original", "--keep", "closest", "--beam-size", "4", "--no-keep-cut"]
    assert main([*command, *options]) == 0
    assert "steps" in capsys.readouterr().out
    fits.stops = True
    assert main([*command, *options]) == 130
    error = capsys.readouterr().err
    (again,) = (line for line in error.splitlines() if "Resume it with: " in line)
    assert main(again.split("Resume it with: s2s ")[1].split()) == 130
    assert "Resume it with: " in capsys.readouterr().err


def test_options_that_change_sources_are_not_for_distillation(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", str(config), "--teacher", "one", "--tag", "<bt>"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert main(["distill", str(config)]) == 2
    assert "--teacher" in capsys.readouterr().err
