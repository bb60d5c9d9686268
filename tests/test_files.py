import os
import socket
from pathlib import Path

import pytest

from seq2seq_kit.files import path_fault, why_not_regular


def test_a_file_and_a_link_to_it_are_regular(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert why_not_regular(tmp_path / "file") is None
    assert why_not_regular(tmp_path / "link") is None


def test_what_cannot_be_read_again_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        reasons = {
            name: why_not_regular(tmp_path / name)
            for name in ("pipe", "loop", "socket", "none", "a\0b", "\ud800", "x" * 5000)
        }
    assert "named pipe" in str(reasons.pop("pipe"))
    assert "symbolic links" in str(reasons.pop("loop"))
    assert reasons.pop("socket") == "it is a socket"
    assert reasons.pop("none") == "No such file or directory"
    assert reasons.pop("x" * 5000) == "File name too long"
    assert set(reasons.values()) == {"no file can have such a name"}
    assert why_not_regular(Path("/dev/zero")) == "it is a device"
    with (tmp_path / "gap").open("wb") as gap:
        gap.truncate(3 * 10**9)  # It takes no room on the disk.
    assert why_not_regular(tmp_path / "gap") is None
    reason = why_not_regular(tmp_path / "gap", 10**6)
    assert reason == "it has 3,000,000,000 bytes, far more than it can need"
    assert why_not_regular(tmp_path) == "it is a folder"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("a\0b", "NUL"),
        ("\ud800.tsv", "half of a surrogate pair"),
        ("~nosuchuser/a.tsv", "`~nosuchuser` is not the home folder"),
    ],
)
def test_paths_that_name_no_file(path: str, fault: str) -> None:
    assert fault in str(path_fault(Path(path)))


@pytest.mark.parametrize("path", ["a.tsv", "/a b/春", "a~b", "~/x", "caf\udce9"])
def test_paths_that_may_name_a_file(path: str) -> None:
    assert path_fault(Path(path)) is None
