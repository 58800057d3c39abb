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

MEMORY = 384 << 20
"""Bytes that are kept in memory before the disk is used."""

_PIECE = 1 << 20


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
            free = shutil.disk_usage(self.folder).free
            if free < needed:
                raise StorageError(
                    f"{self.folder} has {free / 1e9:.1f} GB to spare and preparing these events needs "
                    f"{needed / 1e9:.1f} GB: free some, or write to another disk"
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
            return mapped(file, np.dtype(dtype))

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
    """An array of unknown length and width, appended to part by part."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._parts: list[npt.NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._dtype: np.dtype[Any] | None = None

    def append(self, part: npt.NDArray[Any]) -> None:
        dtype = part.dtype if self._dtype is None else np.result_type(self._dtype, part.dtype)
        if self._file is None and self._scratch.take(part.nbytes):
            self._parts.append(part)
        else:
            self._to_disk(dtype)
            self._write(part)
        self._dtype = dtype

    def finish(self) -> npt.NDArray[Any]:
        """All that was appended (something was), end to end; writable. The column itself is empty after."""
        assert self._dtype is not None
        if self._file is None:
            return _joined(self._parts, self._dtype)
        return mapped(self._file, self._dtype)

    def _to_disk(self, dtype: np.dtype[Any]) -> None:
        """Move what there is to a file of this type, unless it is there."""
        if self._file is not None and self._dtype == dtype:
            return
        parts, self._parts = self._parts, []
        if self._file is not None and self._dtype is not None:
            narrow = mapped(self._file, self._dtype)
            parts = [narrow[start : start + _PIECE] for start in range(0, len(narrow), _PIECE)]
        else:
            self._scratch.give_back(sum(part.nbytes for part in parts))
        self._dtype, self._file = dtype, self._scratch.file()
        for part in parts:
            self._write(part)

    def _write(self, part: npt.NDArray[Any]) -> None:
        assert self._file is not None and self._scratch.folder is not None
        left: Any = np.ascontiguousarray(part, self._dtype).view(np.uint8).data
        with disk_errors(self._scratch.folder):
            while len(left):
                left = left[self._file.write(left) :]


def mapped(file: IO[bytes], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The file as a writable array; a plain one, which compiled loops take without a detour."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0), dtype)


def _joined(parts: list[npt.NDArray[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The parts end to end, each freed as soon as it is copied."""
    whole = np.empty(sum(map(len, parts)), dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole
