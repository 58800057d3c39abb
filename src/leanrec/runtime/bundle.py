"""A Recommender on disk: written all or nothing, and believed only after every byte was checked.

A bundle is opened relative to its folder's descriptor, without following links; only regular files with one link, with
the names, sizes and SHA-256 of the manifest, are mapped. Nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, InputError
from leanrec.core.files import atomic_folder, current_folder, disk_errors
from leanrec.core.tensors import map_file, read_header, serialize, view_tensors
from leanrec.runtime.manifest import CHUNK, MANIFEST, FileEntry, Manifest, encode_manifest, hash_chunks, parse_manifest

__all__ = [
    "Bundle", "Content", "bundle_id", "history_folder", "open_bundle", "refuse_replacing", "resolve_bundle",
    "write_bundle",
]  # fmt: skip

Content = bytes | Mapping[str, npt.NDArray[Any]]
"""What goes into a file: its bytes, or named arrays for a safetensors file."""

_MAX_MANIFEST = 8 << 20  # of a bundle of 400 GB; what JSON needs in memory is many times its text
_FLOATS = ("F16", "F32", "F64")
_MAPPED: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()
"""Size and hashes -> the mapping, as long as any array views it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. tensors: file stem -> array name -> read-only mapped array. items: items.parquet, mapped."""

    path: Path
    manifest: Manifest
    tensors: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    items: mmap.mmap | None

    @property
    def id(self) -> str:
        return self.manifest.id


def write_bundle(
    folder: str | Path,
    files: Mapping[str, Content],
    recommender: Mapping[str, Any],
    *,
    lineage: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """Write and verify a bundle, then put it in place of an older one in one step; its id.

    files: name -> content. recommender: plain values from which, with the files, the Recommender is built again.
    InputError when `folder` holds something else than a bundle.
    """
    folder = Path(folder)
    refuse_replacing(folder)
    with disk_errors(folder), atomic_folder(folder) as fresh:
        entries: dict[str, FileEntry] = {}
        for name, content in files.items():
            raw = _raw(content)
            _write(fresh / name, raw)
            entries[name] = FileEntry(len(raw), hash_chunks(raw))
        identity, manifest = encode_manifest(
            recommender, entries, lineage=lineage or {}, card=card or {}, certificate=certificate
        )
        _write(fresh / MANIFEST, manifest)
        open_bundle(fresh)
    return identity


def refuse_replacing(folder: Path) -> None:
    """InputError where `write_bundle` would not write: in place of something else than a bundle, or below a file."""
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a bundle: choose another place, or remove it")
    above = next((one for one in folder.absolute().parents if one.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{folder} cannot be made, for {above} is not a folder: choose another place")


def bundle_id(files: Mapping[str, Content], recommender: Mapping[str, Any]) -> str:
    """The id that `write_bundle` would give."""
    entries = {name: FileEntry(len(raw), hash_chunks(raw)) for name, raw in ((n, _raw(c)) for n, c in files.items())}
    return encode_manifest(recommender, entries, lineage={}, card={}, certificate=None)[0]


def _raw(content: Content) -> bytes:
    return content if isinstance(content, bytes) else serialize(content)


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def resolve_bundle(path: str | Path) -> Path:
    """The bundle's folder, given it or a run folder that holds it; InputError when there is none."""
    given = Path(path)
    for candidate in (given, given / "bundle"):
        folder = current_folder(candidate)
        if folder is not None and (folder / MANIFEST).exists():
            return candidate
    if not given.exists():
        raise InputError(f"{given} does not exist: name a bundle or a run folder")
    raise InputError(f"{given} is not a bundle: it has no {MANIFEST}, nor a folder bundle/ with one")


def history_folder(path: str | Path) -> Path:
    """Where the histories of known users live: RUN/history beside RUN/bundle, B.history beside a bare bundle B."""
    bundle = Path(path)
    if bundle.name != "bundle" and (bundle / "bundle" / MANIFEST).exists() and not (bundle / MANIFEST).exists():
        bundle = bundle / "bundle"
    return bundle.parent / ("history" if bundle.name == "bundle" else f"{bundle.name}.history")


def open_bundle(path: str | Path) -> Bundle:
    """Check every byte and map the arrays; a BundleError of one sentence says what is wrong, if anything."""
    given = Path(path)
    while True:
        folder = current_folder(given)
        try:
            handle = os.open(folder or given, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BundleError(f"{given} cannot be opened as a bundle: {error.strerror}") from error
        try:
            return _open_folder(handle, given)
        except BundleError:
            if not _was_replaced(handle, given):
                raise
        finally:
            os.close(handle)


def _was_replaced(handle: int, path: Path) -> bool:
    """Whether a newer bundle took the place of the one being read, whose files may be gone."""
    try:
        return not os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _open_folder(folder: int, path: Path) -> Bundle:
    where = str(path)
    manifest = parse_manifest(_read_manifest(folder, where), where)
    found = set(os.listdir(folder)) - {MANIFEST}
    for name in sorted(found ^ set(manifest.files)):
        problem = f"holds {name[:100]!r}, which its manifest does not name" if name in found else f"lacks {name}"
        raise BundleError(f"{where} {problem}: copy the bundle again")
    tensors: dict[str, Mapping[str, npt.NDArray[Any]]] = {}
    items = None
    for name, entry in manifest.files.items():
        handle = _open_file(folder, name, where)
        try:
            _verify(handle, name, entry, where)
            if name.endswith(".safetensors"):
                mapped = _mapped(handle, entry)
                tensors[name.removesuffix(".safetensors")] = view_tensors(mapped, f"{where}: {name}")
            else:
                items = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
    return Bundle(path, manifest, tensors, items)


def _mapped(handle: int, entry: FileEntry) -> mmap.mmap:
    """The file that was just verified; or, when this process has one of the same content mapped, that one.

    So models that share a table (a lean one and the one that it was made of, the old and the new in a hot swap) share
    its pages, wherever their bundles lie. Its bytes are checked once more: a file edited in place is not shared.
    """
    content = f"{entry.size} {' '.join(entry.chunks)}"
    mapped = _MAPPED.get(content)
    if mapped is None or not _holds(mapped, entry):
        mapped = _MAPPED[content] = map_file(handle)
    return mapped


def _holds(mapped: mmap.mmap, entry: FileEntry) -> bool:
    """Whether every chunk has its hash."""
    with memoryview(mapped) as view:
        for number, expected in enumerate(entry.chunks):
            with view[number * CHUNK : (number + 1) * CHUNK] as chunk:
                if hashlib.sha256(chunk).hexdigest() != expected:
                    return False
    return True


def _open_file(folder: int, name: str, where: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else f"cannot be opened ({error.strerror})"
        raise BundleError(f"{where}: {name} {reason}: copy the bundle again") from error
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(handle)
        raise BundleError(f"{where}: {name} is not a regular file with one link: copy the bundle again")
    return handle


def _read_manifest(folder: int, where: str) -> bytes:
    handle = _open_file(folder, MANIFEST, where)
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_size > _MAX_MANIFEST:
            raise BundleError(f"{where}: {MANIFEST} is larger than {_MAX_MANIFEST >> 20} MiB: copy the bundle again")
        return file.read(_MAX_MANIFEST)


def _verify(handle: int, name: str, entry: FileEntry, where: str) -> None:
    """Size, hashes, header and finite numbers, through a mapping of its own so that no page stays with the process."""
    size = os.fstat(handle).st_size
    if size != entry.size or size == 0:
        raise BundleError(f"{where}: {name} has {size} bytes instead of {entry.size}: copy the bundle again")
    with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as mapped:
        if not _holds(mapped, entry):
            raise BundleError(f"{where}: {name} was changed after it was written: copy the bundle again")
        if name.endswith(".safetensors"):
            _refuse_not_finite(mapped, f"{where}: {name}")


def _refuse_not_finite(mapped: mmap.mmap, where: str) -> None:
    header, start = read_header(mapped, where)
    for tensor, entry in header.items():
        if entry["dtype"] in _FLOATS:
            width = int(entry["dtype"][1:]) // 8
            first, last = (start + at for at in entry["data_offsets"])
            for at in range(first, last, CHUNK):
                count = min(CHUNK, last - at) // width
                if not np.isfinite(np.frombuffer(mapped, f"<f{width}", count, at)).all():
                    raise BundleError(f"{where} holds NaN or infinity in {tensor[:100]!r}: the model has diverged")
