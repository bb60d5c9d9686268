"""`s2s runs`: the table, states, settings that differ, and folders that are no run."""

import json
import re
from pathlib import Path

import pytest
from small_config import config_of, write_texts

from seq2seq_kit.atomic import try_lock
from seq2seq_kit.cli import main
from seq2seq_kit.config import save_config
from seq2seq_kit.digests import seal
from seq2seq_kit.training.run_folder import RunFolder, save_json
from seq2seq_kit.training.summary import RunSummary, find_runs

HISTORY = [
    {"step": 10, "seconds": 60.0, "val_loss": 3.0, "val_bleu": 7.5},
    {"step": 20, "seconds": 120.0, "val_loss": 2.0, "val_bleu": 8.5},
    {"step": 30, "seconds": 180.0, "val_loss": 2.5, "val_bleu": 8.0},
]
RESULTS = {"ended": "30 steps are done", "steps": 30, "minutes": 3.0, "test_bleu": 9.25}


def make_run(path: Path, units: int = 8, results: object = None, records: int = 3) -> RunFolder:
    """The files of a run that `s2s runs` reads."""
    write_texts(path.parent)
    path.mkdir()
    run = RunFolder(path)
    model = {"units": units, "embedding_dim": 4}
    save_config(config_of(path.parent, model=model), run.config, run="a", files={})
    lines = "".join(json.dumps(seal(record)) + "\n" for record in HISTORY[:records])
    run.metrics.write_text(lines, encoding="utf-8")
    if results:
        save_json(run.results, dict(RESULTS))
    return run


def test_settings_are_shown_as_a_config_spells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    corpora = {"root": str(tmp_path), "train": "train.tsv", "validation": "dev.tsv"}
    other = {**corpora, "train": ["train.tsv", {"source": "text.txt", "target": "text.txt"}]}
    for run, data, layers in ((one, corpora, 1), (two, other, 2)):
        model = {"units": 8, "embedding_dim": 4, "decoder_layers": layers}
        training = {"tensorboard": layers == 1, "validate_every": layers - 1 or None}
        config = config_of(tmp_path, data=data, model=model, training=training)
        save_config(config, run.config, run="a", files={})
    assert main(["runs", str(tmp_path)]) == 0
    lines = [re.split(" {2,}", line)[-4:] for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["train.tsv", "1", "none", "true"],
        ["train.tsv, text.txt+text.txt", "2", "1", "false"],
    ]


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "one", units=8, results=RESULTS)
    make_run(tmp_path / "two", units=16)
    return tmp_path


def test_runs_are_a_table_with_results_and_the_settings_that_differ(
    two_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_runs)
    assert main(["runs", "one", "two"]) == 0
    assert capsys.readouterr().out == (
        "run  state        steps  minutes  validation loss  test BLEU  validation BLEU  units\n"
        "one  finished        30     3.00           2.0000       9.25                -      8\n"
        "two  interrupted     30     3.00           2.0000          -             8.50     16\n"
    )


def test_json_has_every_setting(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(two_runs), "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert (one["state"], one["results"]["steps"]) == ("finished", 30)
    differ = {key for key, value in one["settings"].items() if two["settings"][key] != value}
    assert differ == {"model.units"}


def test_a_run_that_is_training_or_went_on_after_its_end_has_not_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", results=RESULTS)
    lock = try_lock(run.lock)
    assert lock is not None
    (running,) = find_runs(run.path)
    lock.release()
    with run.metrics.open("a", encoding="utf-8") as metrics:
        metrics.write(json.dumps({**HISTORY[0], "step": 40}) + "\n")
    (resumed,) = find_runs(run.path)
    assert isinstance(running, RunSummary)
    assert isinstance(resumed, RunSummary)
    assert (running.state, resumed.state) == ("running", "interrupted")
    assert resumed.results["steps"] == 40
    assert "test_bleu" not in resumed.results


def test_folders_that_cannot_be_listed_are_named_with_the_reason(
    two_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = two_runs / "two" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("units: 16", "units: 17"), "utf-8")
    (two_runs / "lost").mkdir()
    (two_runs / "lost" / "best.npz").touch()
    (two_runs / "exported").mkdir()
    (two_runs / "exported" / "saved_model.pb").touch()
    (two_runs / "deep" / "empty").mkdir(parents=True)
    (two_runs / ".hidden").mkdir()
    assert main(["runs", str(two_runs)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2  # The heading and the whole run.
    reasons = captured.err.splitlines()
    assert len(reasons) == 4
    for name, reason in {
        "empty": "no run",
        "exported": "an exported SavedModel",
        "lost": "config.yaml is missing",
        "two": "was edited, or is damaged",
    }.items():
        (line,) = [line for line in reasons if f"{name}: " in line]
        assert reason in line


@pytest.mark.parametrize(
    ("folder", "code", "message"),
    [("none", 2, "which does not exist"), ("empty", 1, "There is no run in")],
)
def test_where_there_is_no_run_the_command_says_so(
    tmp_path: Path, folder: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / folder)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
