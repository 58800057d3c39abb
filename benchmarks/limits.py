"""A limit on the memory of a program, page cache included, by a control group of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Group", "can_limit_memory", "limited_memory"]

_ROOT = Path("/sys/fs/cgroup")
_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),  # version 1
    "": ("memory.max", "memory.peak"),  # version 2
}


class Group:
    """A control group that programs can be started in."""

    def __init__(self, folder: Path, peak: str) -> None:
        self._folder, self._peak = folder, peak

    def enter(self) -> None:
        """For `preexec_fn` of subprocess: the process that calls this is limited, and all that it starts."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int:
        """The most bytes that were ever in use at once."""
        return int((self._folder / self._peak).read_text())


@contextmanager
def limited_memory(limit: int) -> Iterator[Group]:
    """A group with so many bytes for all its programs; OSError where this process may not make one."""
    version = "memory" if (_ROOT / "memory").is_dir() else ""
    limit_name, peak_name = _FILES[version]
    folder = _ROOT / version / f"leanrec-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        (folder / limit_name).write_text(str(limit))
        yield Group(folder, peak_name)
    finally:
        for _ in range(50):  # until the last process in it is gone
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def can_limit_memory() -> bool:
    """Whether this process may make control groups with a limit."""
    try:
        with limited_memory(1 << 30):
            return True
    except OSError:
        return False
