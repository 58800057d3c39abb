"""A disk under SQLite that fails on demand and remembers what would survive a loss of power.

SQLite reaches files through a table of functions (a VFS). Here the default one is copied and its write, truncate, sync
and delete are replaced by Python functions that may fail, and that keep beside every file the image of what was synced.
After an fsync that failed, what it should have written counts as lost although the file still shows it: that is how
Linux behaves (see "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
"""

from __future__ import annotations

import ctypes
import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, cast, memmove, sizeof
from pathlib import Path
from random import Random

FULL, IOERR_WRITE, IOERR_FSYNC = 13, 778, 1034
SHORT = -1

_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Methods(Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = (
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p), ("truncate", c_void_p),
        ("sync", c_void_p), ("rest", c_void_p * 13),
    )  # fmt: skip


class _Vfs(Structure):
    """sqlite3_vfs, up to the functions that are replaced."""


# The name is passed on as the pointer it came as: the file keeps it, and SQLite reads on behind it.
_Open = CFUNCTYPE(c_int, POINTER(_Vfs), c_void_p, c_void_p, c_int, POINTER(c_int))
_Delete = CFUNCTYPE(c_int, POINTER(_Vfs), c_char_p, c_int)
_Vfs._fields_ = (
    ("version", c_int), ("file_bytes", c_int), ("max_path", c_int), ("next", c_void_p), ("name", c_char_p),
    ("data", c_void_p), ("open", _Open), ("delete", _Delete), ("rest", c_void_p * 14),
)  # fmt: skip


class Disk:
    """`fault(operation, name)` decides before each write, truncate or sync of a file: 0 to let it pass, an SQLite error
    code to fail, or SHORT to write half and say the disk is full. `operations` lists what was asked for.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._original = library.sqlite3_vfs_find(None)
        self.fault: Callable[[str, str], int] = lambda operation, name: 0
        self.operations: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}
        self._tables: dict[int, tuple[_Methods, _Methods]] = {}
        self._durable: dict[str, bytearray] = {}
        self._pending: dict[str, list[tuple[int, bytes]]] = {}  # (offset, content), or (size, b"") for a truncation
        self._vfs = _Vfs()
        memmove(byref(self._vfs), self._original, sizeof(_Vfs))
        self._vfs.name, self._vfs.next = b"faulty", None
        self._keep = (_Open(self._open), _Delete(self._delete), _Write(self._write), _Truncate(self._truncate),
                      _Sync(self._sync))  # fmt: skip
        self._vfs.open, self._vfs.delete = self._keep[0], self._keep[1]

    @contextmanager
    def installed(self) -> Iterator[None]:
        self._library.sqlite3_vfs_register(byref(self._vfs), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_register(self._original, 1)
            self._library.sqlite3_vfs_unregister(byref(self._vfs))

    def rewritten(self, path: Path, rewrite: Callable[[Path], bool]) -> bool:
        """Stands in for a function that writes a whole file again, by other ways than SQLite's, and syncs it."""
        if not path.exists():
            return False
        if self._asked("sync", str(path)):
            self._pending.pop(str(path), None)
            raise OSError(errno.EIO, "Input/output error")
        done = rewrite(path)
        self._durable[str(path)] = bytearray(path.read_bytes())
        self._pending.pop(str(path), None)
        return done

    def after_power_loss(self, source: Path, folder: Path, rng: Random | None = None) -> Path:
        """`source` as a machine finds it that lost power now: what was synced, and with `rng` any of the rest."""
        folder.mkdir()
        for path, synced in self._durable.items():
            if Path(path).parent != source:
                continue
            image = bytearray(synced)
            for change in self._pending.get(path, ()):
                if rng is not None and rng.random() < 0.5:
                    _apply(image, change)
            (folder / Path(path).name).write_bytes(image)
        return folder

    def _open(self, vfs: object, name: int | None, file: int, flags: int, out: object) -> int:
        code = self._original.contents.open(self._original, name, file, flags, out)
        if code == 0 and name is not None:
            path = ctypes.string_at(name).decode()
            self._names[file] = path
            self._durable.setdefault(path, bytearray(Path(path).read_bytes()))
            slot = cast(file, POINTER(c_void_p))
            slot[0] = ctypes.addressof(self._replaced(slot[0]))
        return code

    def _replaced(self, address: int) -> _Methods:
        if address not in self._tables:
            original, own = _Methods(), _Methods()
            memmove(byref(original), address, sizeof(_Methods))
            memmove(byref(own), address, sizeof(_Methods))
            own.write, own.truncate, own.sync = (cast(function, c_void_p) for function in self._keep[2:])
            self._tables[address] = (original, own)
            self._methods = original
        return self._tables[address][1]

    def _asked(self, operation: str, path: str) -> int:
        name = Path(path).name
        self.operations.append((operation, name))
        return self.fault(operation, name)

    def _write(self, file: int, buffer: int, amount: int, offset: int) -> int:
        path = self._names[file]
        fault = self._asked("write", path)
        if fault not in (0, SHORT):
            return fault
        amount = amount // 2 if fault == SHORT else amount
        self._pending.setdefault(path, []).append((offset, ctypes.string_at(buffer, amount)))
        code = _Write(self._methods.write)(file, buffer, amount, offset)
        return FULL if fault == SHORT else code

    def _truncate(self, file: int, size: int) -> int:
        path = self._names[file]
        if fault := self._asked("truncate", path):
            return fault
        self._pending.setdefault(path, []).append((size, b""))
        return _Truncate(self._methods.truncate)(file, size)

    def _sync(self, file: int, flags: int) -> int:
        path = self._names[file]
        fault = self._asked("sync", path)
        for change in self._pending.pop(path, ()):
            if not fault:
                _apply(self._durable[path], change)
        return fault or _Sync(self._methods.sync)(file, flags)

    def _delete(self, vfs: object, name: bytes, sync: int) -> int:
        self._durable.pop(name.decode(), None)
        self._pending.pop(name.decode(), None)
        return self._original.contents.delete(self._original, name, sync)


def _apply(image: bytearray, change: tuple[int, bytes]) -> None:
    at, content = change
    if not content:
        del image[at:]
        return
    image.extend(bytes(max(0, at - len(image))))
    image[at : at + len(content)] = content


def faulty_disk() -> Disk | None:
    """A disk under the SQLite that Python uses; None where that is not reachable as a shared library."""
    try:
        library = ctypes.CDLL("libsqlite3.so.0")
    except OSError:
        return None
    library.sqlite3_libversion.restype = c_char_p
    if library.sqlite3_libversion().decode() != sqlite3.sqlite_version:
        return None
    disk = Disk(library)
    with disk.installed():
        try:
            sqlite3.connect("file::memory:?vfs=faulty", uri=True).close()
        except sqlite3.OperationalError:
            return None
    return disk
