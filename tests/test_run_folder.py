"""The names in a run folder, and its JSON."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.training import run_folder
from seq2seq_kit.training.run_folder import RunFolder, read_json, save_json


def test_every_file_has_a_separate_name_inside_the_folder(tmp_path: Path) -> None:
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


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.npz").touch()
    with pytest.raises(InputError, match=r"There are runs in it: .*/one, .*/two\."):
        RunFolder(tmp_path).open_trained()


# What is in a folder, and what is said of it by `fit`, by `fit --resume`, and by `generate`,
# `info`, `evaluate` and `export`; None where it works.
MINE = "does not belong to a run and would be overwritten"
RESUME = "holds a run already. Resume it (--resume"
NOTHING = "Nothing to resume"
USE = "They can be used as they are: `s2s generate"
RESTORE = "its config.yaml is missing, without which that cannot be used. Restore it from a copy"
STATES: list[tuple[str, str | None, str | None, str | None]] = [
    ("", None, NOTHING, "`s2s fit` makes one"),
    ("notes.txt pairs.tsv", None, NOTHING, "`s2s fit` makes one"),
    (".lock", None, NOTHING, "`s2s fit` makes one"),
    (".lock shared.model data.json", None, NOTHING, "`s2s fit` makes one"),
    ("config.yaml shared.model", None, NOTHING, "has saved nothing yet"),
    ("config.yaml metrics.jsonl", None, NOTHING, "Train it: `s2s fit CONFIG.yaml --run-dir"),
    ("config.yaml last.npz", RESUME, None, "--resume`"),
    ("config.yaml best.npz", USE, USE, None),
    ("config.yaml best.npz last.npz", RESUME, None, None),
    ("config.yaml best.npz last.npz results.json", RESUME, None, None),
    ("best.npz", USE, USE, RESTORE),
    ("last.npz", RESTORE, RESTORE, "`s2s fit CONFIG.yaml"),
    ("best.npz last.npz", RESTORE, RESTORE, RESTORE),
    ("shared.model", MINE, NOTHING, "`s2s fit` makes one"),
    ("source.model notes.txt", MINE, NOTHING, "`s2s fit` makes one"),
    ("results.json", MINE, NOTHING, "`s2s fit` makes one"),
    ("metrics.jsonl", MINE, NOTHING, "`s2s fit` makes one"),
    ("saved_model.pb", "is an exported SavedModel", NOTHING, "is an exported SavedModel"),
]


@pytest.mark.parametrize(("files", "fit", "resume", "use"), STATES)
def test_every_state_of_a_folder_has_a_way_forward(
    tmp_path: Path, files: str, fit: str | None, resume: str | None, use: str | None
) -> None:
    for name in files.split():
        (tmp_path / name).write_text("format_version: 1\n" if name == "config.yaml" else "")
    run = RunFolder(tmp_path)
    checks = (run.check_new, fit), (run.check_resumable, resume), (run.open_trained, use)
    for check, expected in checks:
        if expected is None:
            check()
            continue
        with pytest.raises(InputError) as caught:
            check()
        assert expected in str(caught.value)


def test_a_config_that_is_not_of_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# mine\n")
    with pytest.raises(
        InputError, match=r"config\.yaml does not belong to a run and would be overwritten"
    ):
        RunFolder(tmp_path).check_new()


def test_one_process_fills_a_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.locked():
        with (
            pytest.raises(InputError, match=rf"Another process \(PID {os.getpid()}\) is using"),
            run.locked(),
        ):
            pass
        with pytest.raises(InputError, match="Another process"):
            run.check_unlocked()
        run.check_new()
    run.check_unlocked()
    with run.locked():  # Also after an error in it.
        pass


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_start_that_fails_leaves_only_what_was_there_or_is_not_its_own(tmp_path: Path) -> None:
    def fail(folder: Path, *made: str) -> None:
        run = RunFolder(folder)
        with pytest.raises(InputError, match="bad data"), run.locked():
            run.config.touch()
            run.logs.mkdir(exist_ok=True)
            run.events.touch()
            for name in made:
                (folder / name).touch()
            raise InputError("bad data")

    fail(tmp_path / "runs" / "new")
    assert names(tmp_path) == []
    (tmp_path / "old" / "logs").mkdir(parents=True)
    for name in ("config.yaml", "notes.txt"):
        (tmp_path / "old" / name).touch()
    before = names(tmp_path)
    fail(tmp_path / "old")
    assert names(tmp_path) == before
    fail(tmp_path / "callback", "logs/events.of.a.callback")
    assert names(tmp_path / "callback") == ["logs", "logs/events.of.a.callback"]
    fail(tmp_path / "trained", "last.npz")
    assert {"config.yaml", "last.npz"} <= set(names(tmp_path / "trained"))


def test_a_start_that_is_refused_leaves_the_other_process_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.config.touch()
        before = names(tmp_path)
        with pytest.raises(InputError, match="Another process"), run.locked():
            pass
        assert names(tmp_path) == before


def test_what_earlier_versions_left_half_written_is_removed_after_a_day(tmp_path: Path) -> None:
    left = ["last.npz.812.partial", ".best.npz.7.tmp", ".data.json.partial", "metrics.partial"]
    kept = ["notes.partial.txt", "my.tmp.npz", "last.npz"]
    for name in (*left, *kept, "shared.model.9.partial"):
        (tmp_path / name).touch()
        if name != "shared.model.9.partial":  # whose writer may live
            os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / "building-x_1").mkdir()
    (tmp_path / "building-x_1" / "ids").touch()
    os.utime(tmp_path / "building-x_1", (1e9, 1e9))
    with RunFolder(tmp_path).locked():
        assert names(tmp_path) == sorted([*kept, "shared.model.9.partial", ".lock"])


def test_a_folder_that_cannot_be_made_or_locked_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"), RunFolder(tmp_path / "file").locked():
        pass
    monkeypatch.setattr(run_folder, "try_lock", cannot)
    code = errno.EROFS
    with (
        pytest.raises(RunError, match=r"Read-only file system\..*--run-dir"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    code = errno.ENOLCK
    with RunFolder(tmp_path).locked():
        assert "has no locks" in caplog.text


def test_a_flipped_bit_in_json_is_found(tmp_path: Path) -> None:
    save_json(tmp_path / "results.json", {"test_bleu": 31.25, "ended": "2 epochs are done"})
    content = (tmp_path / "results.json").read_bytes()
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "results.json").write_bytes(changed)
        try:
            values = read_json(tmp_path / "results.json")
        except RunError:
            continue
        # A flip in the name of the digest itself makes it another value, or another space.
        assert values.items() >= {"test_bleu": 31.25, "ended": "2 epochs are done"}.items()


def test_json_of_older_versions_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"bleu": 3.5}')
    assert read_json(tmp_path / "results.json") == {"bleu": 3.5}


def test_an_export_is_distinguished_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match="is an exported SavedModel"):
        RunFolder(tmp_path).open_trained()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        RunFolder(tmp_path / "nowhere").open_trained()
