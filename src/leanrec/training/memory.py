"""What training needs of the machine, line by line, and the refusal when there is less."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from leanrec.core.errors import MachineError
from leanrec.core.machine import free_memory, human

__all__ = ["Line", "MemoryNeed", "ensure_memory"]

_KEPT = 0.3
"""Of what passed before, this share is not given back by the allocator when the next thing comes."""


class Line(msgspec.Struct, frozen=True):
    """One thing that takes memory."""

    what: str
    bytes: int


class MemoryNeed(msgspec.Struct, frozen=True, kw_only=True):
    """What stays while training runs, and what comes and goes, one after the other."""

    stays: list[Line]
    passing: list[Line]
    disk: list[Line]
    remedies: list[str]
    """Settings that need less, most helpful first."""

    @property
    def memory_bytes(self) -> int:
        """At the peak, beside what the process has taken already."""
        largest, *others = sorted((line.bytes for line in self.passing), reverse=True)
        return sum(line.bytes for line in self.stays) + largest + int(_KEPT * sum(others[:1]))

    @property
    def disk_bytes(self) -> int:
        return sum(line.bytes for line in self.disk)


def ensure_memory(need: MemoryNeed, what: str, run: Path | None, *, workers: int = 1) -> None:
    """MachineError when this machine has less free than `what` needs. run: where checkpoints go, None for nowhere.

    workers: processes on this machine that need as much each.
    """
    wanted, free = need.memory_bytes * workers, free_memory()
    if wanted > free:
        each = f" for {workers} workers" if workers > 1 else ""
        largest = max([*need.stays, *need.passing], key=lambda line: line.bytes)
        raise MachineError(
            f"{what} needs {human(wanted)} of memory{each}, {human(largest.bytes)} of it for {largest.what}, and "
            f"{human(free)} are free: make it smaller with --set {', '.join(need.remedies)}, or see  leanrec doctor"
        )
    if run is not None:
        folder = next(path for path in (run.absolute(), *run.absolute().parents) if path.exists())
        room = shutil.disk_usage(folder).free
        if need.disk_bytes > room:
            raise MachineError(
                f"{what} writes {human(need.disk_bytes)} of checkpoints and bundles, and {folder} has {human(room)} "
                "free: free some space, or choose another --out"
            )
