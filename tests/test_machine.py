from pathlib import Path

import pytest

from seq2seq_kit import machine


def test_this_machine_has_memory_and_cores() -> None:
    total = machine.total_memory()
    assert total is None or 10**8 < total < 10**15
    assert 1 <= machine.available_cores() <= 10_000


@pytest.mark.parametrize(("line", "version"), [("0::/pod/box", 2), ("4:cpu,memory:/pod/box", 1)])
def test_the_lowest_memory_limit_on_the_way_to_a_container_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, version: int
) -> None:
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    controller = "" if version == 2 else "memory"
    monkeypatch.setattr(machine, "_MEMORY_FILES", ((controller, tmp_path, name),))
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    assert machine._memory_limits() == []
    (tmp_path / "pod" / "box").mkdir(parents=True)
    (tmp_path / name).write_text("9000\n")
    (tmp_path / "pod" / name).write_text("7000\n")
    (tmp_path / "pod" / "box" / name).write_text("max\n")
    (tmp_path / "own").write_text(f"9:name=systemd:/\n{line}\n")
    assert min(machine._memory_limits()) == 7000


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/pod", {"pod/cpu.max": "300000 100000"}, 3),
        ("0::/pod", {"pod/cpu.max": "250000 100000"}, 3),
        ("0::/pod", {"pod/cpu.max": "10000 100000", "cpu.max": "max 100000"}, 1),
        ("0::/pod", {"pod/cpu.max": "max 100000", "cpu.max": "500000 100000"}, 5),
        ("0::/pod", {"pod/cpu.max": "max 100000"}, 8),
        ("0::/pod", {"pod/cpu.max": "1600000 100000"}, 8),
        ("3:cpu:/", {"cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "200000"}, 2),
        ("3:cpu:/", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 8),
        ("3:cpu:/", {}, 8),
    ],
)
def test_a_quota_of_processor_time_counts_as_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    files: dict[str, str],
    cores: int,
) -> None:
    roots = (("", tmp_path, "cpu.max"), ("cpu", tmp_path, "cpu.cfs_quota_us"))
    monkeypatch.setattr(machine, "_QUOTA_FILES", roots)
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(8)), raising=False)
    (tmp_path / "own").write_text(f"{line}\n")
    (tmp_path / "pod").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert machine.available_cores() == cores
