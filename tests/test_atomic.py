"""Files and folders that are there whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from seq2seq_kit.atomic import (
    explain_write_errors,
    remove_folder,
    remove_leftovers,
    try_lock,
    write_bytes,
    write_file,
    write_folder,
)
from seq2seq_kit.errors import RunError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )


KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from seq2seq_kit.atomic import write_file, write_folder
path = Path(sys.argv[1])
if path.suffix:
    with write_file(path, "It") as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), 9)
with write_folder(path, "It") as folder:
    (folder / "one").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_a_file_is_replaced_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with write_file(path, "It") as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, FileNotFoundError])
def test_an_error_in_the_body_passes_and_changes_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), write_file(path, "It") as file:
        file.write(b"half")
        raise error
    with pytest.raises(error), write_folder(tmp_path / "folder", "It") as folder:
        (folder / "one").touch()
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file.txt", "folder", "x" * 250, "春" * 80])
def test_names_of_any_allowed_length_are_written(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"content", "It")
    assert (tmp_path / name).read_bytes() == b"content"


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_bytes(tmp_path / "link", b"content", "It")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_path_that_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(RunError, match=f"The config cannot be written to .*{kind}.*Remove it"):
        write_bytes(tmp_path / "link", b"config", "The config")
    assert {path.name for path in tmp_path.iterdir()} == {kind, "link"}
    assert place.is_fifo() if kind == "pipe" else place.is_dir()


def test_a_replaced_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    path, new, usual = tmp_path / "file", tmp_path / "new", tmp_path / "usual"
    path.touch()
    path.chmod(0o640)
    usual.touch()
    for one in (path, new):
        write_bytes(one, b"", "It")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.parent.stat().st_uid == os.getuid()
    assert new.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_private_file_can_be_read_by_its_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"", "It", private=True)
        with write_folder(tmp_path / "folder", "It", private=True):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_a_folder_appears_whole_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for _ in range(2):  # The second time an empty one is there.
        with write_folder(path, "It") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "one").write_text("1")
            assert not path.exists()
        assert (path / "sub" / "one").read_text() == "1"
        remove_folder(path)
        assert names(tmp_path) == []
    path.mkdir()
    (path / "mine").touch()
    with pytest.raises(FileExistsError), write_folder(path, "It"):
        pass
    assert names(path) == ["mine"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["file.txt", "folder"])
def test_the_leftovers_of_a_killed_process_are_removed_by_the_next_one(
    tmp_path: Path, name: str
) -> None:
    for _ in range(2):
        assert run_python(KILLED_WHILE_WRITING, tmp_path / name).returncode == -signal.SIGKILL
        assert len(names(tmp_path)) == 1
        assert not (tmp_path / name).exists()
    write_bytes(tmp_path / "other", b"", "It")
    assert names(tmp_path) == ["other"]


def test_the_file_that_a_living_process_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".mine.s2s-partial-not").touch()
    with write_file(tmp_path / "file", "It") as file:
        script = """
import sys
from pathlib import Path
from seq2seq_kit.atomic import remove_leftovers
remove_leftovers(Path(sys.argv[1]))
"""
        assert run_python(script, tmp_path).returncode == 0
        remove_leftovers(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert names(tmp_path) == [".mine.s2s-partial-not", "file"]


def test_a_lock_is_held_once_and_freed_when_its_process_dies(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert try_lock(tmp_path / "lock") is None
    lock.release()
    script = """
import os, sys
from pathlib import Path
from seq2seq_kit.atomic import try_lock
assert try_lock(Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""
    assert run_python(script, tmp_path / "lock").returncode == -signal.SIGKILL
    assert try_lock(tmp_path / "lock") is not None


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.ENOSPC, "Free space on that disk"),
        (errno.EDQUOT, "Free some of your quota"),
        (errno.EACCES, "Allow writing"),
        (errno.EROFS, "Make that disk writable"),
    ],
)
def test_a_disk_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cure: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError) as caught:
        write_bytes(path, b"new", "The state of training", setting="--run-dir")
    assert str(caught.value) == (
        f"The state of training could not be written to {path}: {os.strerror(code)}. What was "
        f"there before is unchanged. {cure}{' there' if 'quota' in cure else ''}"
        f"{' to that folder' if 'Allow' in cure else ''}, or choose another folder (--run-dir)."
    )
    assert path.read_text() == "old"
    with (
        pytest.raises(RunError, match=r"Nothing is left there\."),
        write_folder(tmp_path / "folder", "The export") as folder,
    ):
        (folder / "one").touch()
    assert names(tmp_path) == ["file"]


def test_tensorflow_s_full_disk_is_not_out_of_memory(tmp_path: Path) -> None:
    full = tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/x; No space left on device")
    with (
        pytest.raises(RunError, match=r"The export could not be written .*No space left"),
        explain_write_errors(tmp_path / "export", "The export"),
    ):
        raise full
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with (
        pytest.raises(tf.errors.ResourceExhaustedError),
        explain_write_errors(tmp_path / "export", "The export"),
    ):
        raise memory


def test_a_fault_of_an_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input.txt"))
    with pytest.raises(PermissionError), write_file(tmp_path / "out.txt", "The output"):
        raise denied
