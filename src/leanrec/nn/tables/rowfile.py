"""Rows on disk that are never overwritten while a saved state needs them."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError, StorageError
from leanrec.kernels.slots import read_records
from leanrec.nn.tables.base import Rows, State

__all__ = ["RowFile"]

F32 = npt.NDArray[np.float32]
_PAGE = 4096
_EXTENT = 4096
"""Pages that the file grows by at least."""


class RowFile:
    """One record of W floats for each of N rows that was ever written; a map in memory says where it stands.

    A page holds whole records, so a row is one page to read. A row that is written again goes to a free page, with
    others written at the same time: writing is sequential, and a state is the map alone (4 bytes a row), valid as long
    as no page it points to is reused. Pages are reused when neither the present nor a kept state points to them.

    folder: where the file is made, at the first write; None for a temporary one that ends with this object.
    """

    def __init__(self, folder: Path | None, num_rows: int, width: int) -> None:
        self.places_N = np.full(num_rows, -1, np.int32)
        self._width = width
        self._per_page = max(1, _PAGE // (4 * width))
        self._page_floats = -(-self._per_page * width // (_PAGE // 4)) * (_PAGE // 4)
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="leanrec-table-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._folder, self._token, self._handle = folder, 0, -1
        self._pages: F32 = np.empty((0, self._page_floats), np.float32)
        self._free = np.empty(0, np.int64)
        self._protected = np.empty(0, np.bool_)
        self._asked = np.empty(0, np.bool_)
        """Pages that the disk was told to read and that were not read since."""

    @property
    def path(self) -> Path:
        """Of the file; it is there once something was written."""
        return self._path(self._token)

    def _path(self, token: int) -> Path:
        return self._folder / f"rows-{token:015x}.bin"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "free some and resume" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "the table cannot go on"
            raise StorageError(
                f"{self.path}: {error.strerror}; {remedy}, the last checkpoint and all it needs are intact"
            ) from error

    def reserve(self, count: int) -> None:
        """Have space on disk for `count` more records, or raise StorageError with nothing changed."""
        wanted = -(-count // self._per_page)
        if len(self._free) >= wanted:
            return
        used = self._protected.copy()
        used[self.places_N[self.places_N >= 0] // self._per_page] = True
        self._free = np.flatnonzero(~used)
        if len(self._free) < max(wanted, len(used) // 16):
            with self._errors():
                self._extend(max(wanted, len(used) // 8, _EXTENT))

    def _extend(self, pages: int) -> None:
        if self._handle < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._token = secrets.randbits(60)
            self._open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
        old = len(self._pages)
        try:
            os.posix_fallocate(self._handle, old * self._page_floats * 4, pages * self._page_floats * 4)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                os.ftruncate(self._handle, old * self._page_floats * 4)
                raise
            os.ftruncate(self._handle, (old + pages) * self._page_floats * 4)
        self._map()
        self._free = np.concatenate([self._free, np.arange(old, old + pages)])

    def _open(self, handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._handle = handle
        self._closing = weakref.finalize(self, os.close, handle)

    def _map(self) -> None:
        size = os.fstat(self._handle).st_size // (self._page_floats * 4)
        mapped = mmap.mmap(self._handle, size * self._page_floats * 4, access=mmap.ACCESS_READ)
        mapped.madvise(mmap.MADV_RANDOM)
        self._pages = np.frombuffer(mapped, np.float32).reshape(size, self._page_floats)
        more = np.zeros(size - len(self._protected), np.bool_)
        self._protected, self._asked = np.concatenate([self._protected, more]), np.concatenate([self._asked, more])

    def write(self, rows_C: Rows, records_CW: F32) -> None:
        """Keep these records for these distinct rows."""
        if not len(rows_C):
            return
        self.reserve(len(rows_C))
        count, per_page = -(-len(rows_C) // self._per_page), self._per_page
        pages_P, self._free = self._free[:count], self._free[count:]
        padded = np.zeros((count * per_page, self._width), np.float32)
        padded[: len(rows_C)] = records_CW
        image_PF = np.zeros((count, self._page_floats), np.float32)
        image_PF[:, : per_page * self._width] = padded.reshape(count, -1)
        with self._errors():
            self._write_pages(pages_P, image_PF)
        places_C = (pages_P[:, None] * per_page + np.arange(per_page)).ravel()[: len(rows_C)]
        self.places_N[rows_C] = places_C

    def _write_pages(self, pages_P: npt.NDArray[np.int64], image_PF: F32) -> None:
        size = self._page_floats * 4
        edges = np.flatnonzero(np.diff(pages_P, prepend=-2, append=-2) != 1)
        for low, high in pairwise(edges.tolist()):
            data, offset = image_PF[low:high].reshape(-1).view(np.uint8).data, int(pages_P[low]) * size
            done = 0
            while done < len(data):
                done += os.pwrite(self._handle, data[done:], offset + done)
            # written pages are not read again soon: start writing them out, so that memory is never full of dirty ones
            os.posix_fadvise(self._handle, offset, len(data), os.POSIX_FADV_DONTNEED)

    def read(self, rows_C: Rows) -> F32:
        """(C, W) the records of rows that were written."""
        records_CW = np.empty((len(rows_C), self._width), np.float32)
        self.advise(rows_C)
        self._asked[self.places_N[rows_C] // self._per_page] = False
        read_records(self._pages, self._per_page, self.places_N[rows_C], records_CW)
        return records_CW

    def advise(self, rows_C: Rows) -> None:
        """Have the disk read the pages of these rows, all at once, while others work."""
        places, asked, size = self.places_N[rows_C], self._asked, self._page_floats * 4
        for page in np.unique(places[places >= 0] // self._per_page).tolist():
            if not asked[page]:  # looked at one by one: two threads may be at it
                asked[page] = True
                os.posix_fadvise(self._handle, page * size, size, os.POSIX_FADV_WILLNEED)

    def erase(self, rows: Rows) -> None:
        """Forget rows, and overwrite their records where no saved state holds them."""
        rows = rows[self.places_N[rows] >= 0]
        zeros = bytes(4 * self._width)
        for place in self.places_N[rows].tolist():
            page, at = divmod(place, self._per_page)
            if not self._protected[page]:
                with self._errors():
                    os.pwrite(self._handle, zeros, (page * self._page_floats + at * self._width) * 4)
        self.places_N[rows] = -1

    def grow(self, num_rows: int) -> None:
        """More rows, none of them written yet."""
        self.places_N = np.concatenate([self.places_N, np.full(num_rows - len(self.places_N), -1, np.int32)])

    def mark(self) -> State:
        """A state to come back to; everything it points to is on disk and protected."""
        if self._handle >= 0:
            with self._errors():
                os.fdatasync(self._handle)
        self._protected[self.places_N[self.places_N >= 0] // self._per_page] = True
        return {"file": np.asarray([self._token], np.int64), "places": self.places_N.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go back to a state, of this object or of one that has ended."""
        token = int(state["file"][0])
        if token and token != self._token:
            self._take_over(token)
        self.places_N[:] = state["places"]

    def _take_over(self, token: int) -> None:
        self.close()
        self._token = token
        try:
            self._open(os.open(self.path, os.O_RDWR))
        except FileNotFoundError as error:
            raise InputError(f"{self.path}, which the checkpoint needs, is missing: train again without it") from error
        except BlockingIOError as error:
            raise InputError(f"{self.path} is in use by another run: end that first") from error
        self._map()
        # other states may point anywhere into what is there; `keep` tells
        self._protected[:] = True

    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """Free the pages, and the files of tables that have ended, that none of these states points to."""
        self._protected[:] = False
        for state in states:
            if int(state["file"][0]) == self._token:
                places = state["places"]
                self._protected[places[places >= 0] // self._per_page] = True
        needed = {self._path(int(state["file"][0])) for state in states} | {self.path}
        for path in self._folder.glob("rows-*.bin"):
            if path not in needed:
                _remove_unused(path)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # the mapping has a descriptor of its own, which may live on
            self._closing()
        self._token, self._handle = 0, -1
        self._pages, self._free = np.empty((0, self._page_floats), np.float32), self._free[:0]
        self._protected, self._asked = self._protected[:0], self._asked[:0]


def _remove_unused(path: Path) -> None:
    """Unless a live table holds it."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)
