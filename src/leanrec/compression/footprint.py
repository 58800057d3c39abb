"""Memory of this process, as if nobody else had its bundle open.

The kernel divides a shared page by those that map it. Whoever measures a bundle often has it mapped too, as a server
may: its pages would count by half or less, and the same bundle would look smaller than a copy of it. So pages of the
bundle's files count in full, here and in the private part; shared pages of anything else by share.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from leanrec.core.files import current_folder
from leanrec.runtime.bundle import history_folder, resolve_bundle

__all__ = ["Footprint", "footprint"]

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(/.*)$")


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, with shared pages in full, by share, or not at all; those of the bundle in full in each."""

    rss: int
    pss: int
    private: int


def footprint(bundle: str | Path) -> Footprint:
    """Of this process, which answers from that bundle, by the kernel's own account."""
    whole = _fields(Path("/proc/self/smaps_rollup").read_text())
    files = _of_files(_folders(bundle))
    return Footprint(
        rss=whole["Rss"],
        pss=whole["Pss"] + files["Rss"] - files["Pss"],
        private=whole["Private_Clean"] + whole["Private_Dirty"] + files["Shared_Clean"] + files["Shared_Dirty"],
    )


def _folders(bundle: str | Path) -> tuple[str, ...]:
    """Where the files of the bundle, and its histories, really lie."""
    places = (resolve_bundle(bundle), history_folder(bundle))
    return tuple(f"{Path(current_folder(place) or place).resolve()}/" for place in places)


def _of_files(folders: tuple[str, ...]) -> dict[str, int]:
    """The fields of all mappings of files below these folders, summed up."""
    found = dict.fromkeys(("Rss", "Pss", "Shared_Clean", "Shared_Dirty"), 0)
    counts = False
    for line in Path("/proc/self/smaps").read_text(errors="surrogateescape").splitlines():
        if header := _MAPPING.match(line):
            counts = header[1].startswith(folders)
        elif not line[:1].isupper():
            counts = False  # a mapping of no file
        elif counts and (field := _FIELD.match(line)) and field[1] in found:
            found[field[1]] += int(field[2]) << 10
    return found


def _fields(text: str) -> dict[str, int]:
    return {name: int(kib) << 10 for name, kib in _FIELD.findall(text)}
