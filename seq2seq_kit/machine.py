"""What this process may use of its machine: memory and cores, which containers may limit."""

import contextlib
import functools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# Where Linux lists the control groups of this process, one a line: number, controllers, path.
_OWN_GROUPS = Path("/proc/self/cgroup")

# The folders of the controllers, by the version of cgroups; each group on the way from there to the
# process's own may set a limit.
_MEMORY_FILES = (
    ("", Path("/sys/fs/cgroup"), "memory.max"),
    ("memory", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
)
_QUOTA_FILES = (
    ("", Path("/sys/fs/cgroup"), "cpu.max"),
    ("cpu", Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"),
)


@functools.cache
def total_memory() -> int | None:
    """Returns the bytes of memory, swap included, that this process may use; None if unknown."""
    limits = _memory_limits()
    # Windows has no such function, another system may lack the names.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + _swap())
    return min(limits, default=None)


def available_cores() -> int:
    """Returns the cores that this process may use: a whole number, 1 or more.

    A container's quota of processor time counts as that many cores, rounded up.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS have no such function.
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _core_quotas())]))


def _swap() -> int:
    """Returns the bytes of swap; 0 where Linux does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("SwapTotal:"))


def _memory_limits() -> list[int]:
    """Returns the memory limits of the control groups that this process is in."""
    numbers = (_numbers(file) for file in _group_files(_MEMORY_FILES))
    return [int(limit) for (limit, *_) in filter(None, numbers)]


def _core_quotas() -> list[float]:
    """Returns the quotas of processor time of the control groups that this process is in."""
    quotas = []
    for file in _group_files(_QUOTA_FILES):
        numbers = _numbers(file)
        if file.name == "cpu.cfs_quota_us":  # The first version has two files.
            numbers += _numbers(file.with_name("cpu.cfs_period_us"))
        if len(numbers) == 2 and min(numbers) > 0:  # -1 is no limit.
            quotas.append(numbers[0] / numbers[1])
    return quotas


def _group_files(files: Sequence[tuple[str, Path, str]]) -> Iterator[Path]:
    """Yields where the control groups of this process may have a limit.

    Args:
        files: The controller, its folder and the name of the limit, for each version of cgroups.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, root, name in files:
            if controller in controllers.split(","):
                folder = root / path.lstrip("/")
                parents = [parent for parent in folder.parents if parent.is_relative_to(root)]
                yield from (place / name for place in (folder, *parents))


def _numbers(path: Path) -> list[int]:
    """Returns the numbers in a file; none if it is missing or says "max"."""
    try:
        return [int(number) for number in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
