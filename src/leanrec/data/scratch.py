"""Arrays that grow with the log: in memory while they are small, then mapped files without a name beside the output.

What is mapped is page cache: the system writes it out and takes it back when memory is short, so the process itself
needs no more for a longer log. A file without a name is gone with its process, however that ends.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import StorageError
from leanrec.core.files import disk_errors

__all__ = ["Column", "Scratch"]

MEMORY = 128 << 20
"""Bytes that are kept in memory before the disk is used."""

_ALIGNED = 8


class Scratch:
    """Room for arrays: `MEMORY` bytes in memory, then files beside `folder`; only memory when that is None.

    A context: when it ends, no file is open any more (what is mapped stays readable).
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._room = MEMORY
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check(self, needed: int) -> None:
        """StorageError when the disk has not so many bytes to spare."""
        if self.folder is not None and needed > MEMORY:
            with disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(self.folder).free
            if free < needed:
                raise StorageError(
                    f"{self.folder} has {free / 1e9:.1f} GB to spare and these events need {needed / 1e9:.1f} GB: "
                    "free some, or write to another disk"
                )

    def array(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array to be filled; its room is reserved, so that a full disk is an error here and no fault later."""
        size = count * np.dtype(dtype).itemsize
        if self.folder is None or self.take(size):
            return np.empty(count, dtype)
        self.check(size)
        with disk_errors(self.folder):
            file = self.file()
            os.posix_fallocate(file.fileno(), 0, size)
            return np.frombuffer(mapped(file), dtype)

    def take(self, size: int) -> bool:
        """Whether so many bytes may be kept in memory; they count from then on."""
        fits = self.folder is None or size <= self._room
        self._room -= size if fits else 0
        return fits

    def give_back(self, size: int) -> None:
        self._room += size

    def file(self) -> IO[bytes]:
        """A file without a name; it is closed with the scratch."""
        assert self.folder is not None
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._open.enter_context(tempfile.TemporaryFile(dir=self.folder, prefix=".leanrec-", buffering=0))


class Column:
    """An array of unknown length, appended to part by part and read back in the same parts."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._parts: list[npt.NDArray[Any]] = []
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._written: list[tuple[int, int, np.dtype[Any]]] = []

    def append(self, part: npt.NDArray[Any]) -> None:
        if self._file is None and self._scratch.take(part.nbytes):
            self._parts.append(part)
            self._in_memory += part.nbytes
            return
        if self._file is None:
            self._file = self._scratch.file()
            for earlier in self._parts:
                self._write(earlier)
            self._parts.clear()
            self._scratch.give_back(self._in_memory)
        self._write(part)

    def finish(self) -> list[npt.NDArray[Any]]:
        """What was appended, part by part; writable. The column itself is empty after."""
        if self._file is None:
            parts, self._parts = self._parts, []
            return parts
        content = mapped(self._file)
        return [np.frombuffer(content, dtype, count, at) for at, count, dtype in self._written]

    def _write(self, part: npt.NDArray[Any]) -> None:
        assert self._file is not None and self._scratch.folder is not None
        end = self._file.seek(0, os.SEEK_END)
        end = self._file.seek(-(-end // _ALIGNED) * _ALIGNED)
        self._written.append((end, len(part), part.dtype))
        left: Any = np.ascontiguousarray(part).view(np.uint8).data
        with disk_errors(self._scratch.folder):
            while len(left):
                left = left[self._file.write(left) :]


def mapped(file: IO[bytes]) -> mmap.mmap:
    """The file as writable memory. Arrays over it are plain ones, which compiled loops take without a detour."""
    size = os.fstat(file.fileno()).st_size
    return mmap.mmap(file.fileno(), size) if size else mmap.mmap(-1, 1)
