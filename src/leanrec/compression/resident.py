"""Memory of this process, as if nobody else had its bundle open.

The kernel divides a shared page by those that map it. Whoever measures a bundle often has it mapped too, as a server
may: its pages would count by half or less, and the same bundle would look smaller than a copy of it. So pages of the
bundle's files count in full, here and in the private part; shared pages of anything else by share.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from leanrec.core.files import current_folder
from leanrec.core.smaps import mappings, own_memory
from leanrec.runtime.bundle import history_folder, resolve_bundle

__all__ = ["Resident", "resident"]


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, with shared pages in full, by share, or not at all; those of the bundle in full in each."""

    rss: int
    pss: int
    private: int


def resident(bundle: str | Path) -> Resident:
    """Of this process, which answers from that bundle."""
    whole, folders = own_memory(), _folders(bundle)
    files = [fields for path, fields in mappings() if path.startswith(folders)]
    return Resident(
        rss=whole["Rss"],
        pss=whole["Pss"] + sum(one["Rss"] - one["Pss"] for one in files),
        private=whole["Private_Clean"] + whole["Private_Dirty"]
        + sum(one["Shared_Clean"] + one["Shared_Dirty"] for one in files),
    )  # fmt: skip


def _folders(bundle: str | Path) -> tuple[str, ...]:
    """Where the files of the bundle, and its histories, really lie."""
    places = (resolve_bundle(bundle), history_folder(bundle))
    return tuple(f"{Path(current_folder(place) or place).resolve()}/" for place in places)
