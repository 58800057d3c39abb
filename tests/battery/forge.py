"""Bundles as bytes in memory: changed, sealed again or not, and put on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanrec.core.tensors import serialize
from leanrec.runtime.manifest import MANIFEST, FileEntry, encode_manifest, hash_chunks

__all__ = ["Files", "Workplace", "arrays_of", "raw_safetensors", "read_files", "sealed"]

Files = dict[str, bytes]
"""Name -> content of everything in a bundle's folder."""


def read_files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def sealed(files: Mapping[str, bytes], *, entries: Mapping[str, FileEntry] | None = None, **changes: Any) -> Files:
    """With a manifest whose hashes are right for the files at hand: only the content is hostile.

    changes: other values for `recommender`, `lineage`, `card`, `certificate`.
    """
    old = json.loads(files[MANIFEST])
    content = {name: raw for name, raw in files.items() if name != MANIFEST}
    told = {name: FileEntry(len(raw), hash_chunks(raw)) for name, raw in content.items()} | dict(entries or {})
    fields = {key: changes.get(key, old[key]) for key in ("lineage", "card", "certificate")}
    _, manifest = encode_manifest(changes.get("recommender", old["recommender"]), told, **fields)
    return content | {MANIFEST: manifest}


def arrays_of(raw: bytes) -> dict[str, Any]:
    """The arrays of a safetensors file."""
    from safetensors.numpy import load

    return dict(load(raw))


def raw_safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def packed(arrays: Mapping[str, Any]) -> bytes:
    return serialize(arrays)


class Workplace:
    """A folder that is made to hold one set of files after the other, writing only what differs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: Files = {}
        folder.mkdir()

    def put(self, files: Mapping[str, bytes]) -> None:
        for name in set(self._held) - set(files):
            (self.folder / name).unlink()
        for name, raw in files.items():
            if self._held.get(name) != raw:
                (self.folder / name).unlink(missing_ok=True)  # a mapped file keeps its bytes
                (self.folder / name).write_bytes(raw)
        self._held = dict(files)

    def clear(self) -> None:
        shutil.rmtree(self.folder)
        self._held = {}
        self.folder.mkdir()
