"""Memory of this process by the kernel's own account, as a whole and mapping by mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["mappings", "own_memory"]

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_HEADER = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+[ \t]*(.*)\n", re.MULTILINE)


def own_memory() -> dict[str, int]:
    """Bytes by the names of /proc/PID/smaps_rollup: Rss, Pss, Private_Clean, ...; OSError where there is none."""
    return _fields(Path("/proc/self/smaps_rollup").read_text())


def mappings() -> Iterator[tuple[str, dict[str, int]]]:
    """What is mapped, a path, a name in brackets or nothing, and bytes by the names of /proc/PID/smaps."""
    _, *parts = _HEADER.split(Path("/proc/self/smaps").read_text(errors="surrogateescape"))
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        yield name, _fields(text)


def _fields(text: str) -> dict[str, int]:
    return {name: int(kib) << 10 for name, kib in _FIELD.findall(text)}
