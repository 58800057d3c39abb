"""What this process may still use of the machine (memory as the kernel, a control group and limits leave it), and what
its processor can do.
"""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cpu_flags", "cpu_model", "environment", "free_memory", "human", "resident_memory", "total_memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes that are started meanwhile; afterwards they are what they were."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def free_memory() -> int:
    """Bytes that can be taken before the system or the control group ends a process, or a limit refuses."""
    found = [_meminfo("MemAvailable"), *_free_in_cgroups()]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found.append(limit - _statm(0))
    return max(0, min(found))


def total_memory() -> int:
    """Bytes of the machine, or of the control group where that has fewer."""
    limits = [limit for folder in _cgroup_folders() if (limit := _number(folder, "memory.max")) is not None]
    return min([_meminfo("MemTotal"), *limits])


def resident_memory() -> int:
    """Bytes of this process in memory right now."""
    return _statm(1)


def human(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _meminfo(key: str) -> int:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) << 10 if found else os.sysconf("SC_PHYS_PAGES") * _PAGE


def _statm(column: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[column]) * _PAGE
    except OSError:
        return 0


def _cgroup_folders() -> Iterator[Path]:
    """The control groups (version 2) this process is in, from its own up to the root."""
    try:
        found = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    except OSError:
        found = None
    folder = _CGROUPS / (found[1].lstrip("/") if found else "")
    while folder != _CGROUPS and _CGROUPS in folder.parents:
        yield folder
        folder = folder.parent
    yield _CGROUPS


def _free_in_cgroups() -> Iterator[int]:
    for folder in _cgroup_folders():
        limit, used = _number(folder, "memory.max"), _number(folder, "memory.current")
        if limit is not None and used is not None:
            yield limit - used + _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    """File pages that the kernel drops before it gives up."""
    try:
        found = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _number(folder: Path, name: str) -> int | None:
    """None where there is no such limit."""
    try:
        text = (folder / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def cpu_model() -> str:
    """The processor's own name."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def cpu_flags() -> frozenset[str]:
    """What the processor can do, in the words of the system; empty where it does not say."""
    return frozenset(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line for line in file if line.startswith(key)).partition(":")[2].strip()
    except (OSError, StopIteration):
        return ""
