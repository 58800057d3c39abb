"""Whether a Parquet file tells the truth about its sizes, checked before a reader allocates by them.

A page that claims more values than its column has, or a negative number, makes native readers ask for exabytes and end
the process. The footer and the page headers are a few bytes each, in Thrift's compact protocol (Apache Parquet format,
`parquet.thrift`); only they are read here.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from pathlib import Path
from typing import Any

from leanrec.core.errors import InputError

__all__ = ["check_parquet", "check_small_parquet"]

_MAGIC = b"PAR1"
_MAX_FOOTER = 16 << 20  # larger ones (very many columns and row groups) would take long to read here
_SMALL_FOOTER = 1 << 20
_ROOM, _PER_ROW, _PER_BYTE = 64 << 20, 16 << 10, 200
"""What a small file may unpack to: so much, and more for each of its rows or its bytes, whichever is less."""
_MAX_DEPTH = 32

# Field numbers of parquet.thrift.
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS = 1
_META = 3
_PATH, _NUM_VALUES, _DATA_PAGE, _DICTIONARY_PAGE = 3, 5, 9, 11
_PAGE_UNPACKED, _PAGE_BYTES, _PAGE_KINDS, _DICTIONARY_KIND = 2, 3, (5, 8), 7


def check_parquet(file: str | Path, columns: Collection[str] | None = None) -> None:
    """InputError when the file's headers cannot be true. columns: top-level ones whose pages are checked, None all."""
    with open(file, "rb") as handle:
        size = handle.seek(0, 2)
        if size < 12:
            raise InputError(f"{file} cannot be read (too short for a Parquet file): is it complete?")
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _footer_bytes(content, file) <= _MAX_FOOTER:
                _check_headers(content, file, columns)


def check_small_parquet(content: mmap.mmap, rows: int, file: str) -> None:
    """`check_parquet` for a file from a stranger: InputError, too, when reading it would take memory out of proportion
    to its bytes or to the `rows` that it must have.
    """
    if len(content) < 12 or _footer_bytes(content, file) > _SMALL_FOOTER:
        raise InputError(f"{file} cannot be read (too short, or its footer too long): is it complete?")
    found, values, unpacked = _check_headers(content, file, None)
    if found != rows:
        raise InputError(f"{file} has {found} rows for {rows} items: it was edited")
    if max(values, unpacked) > _ROOM + min(_PER_ROW * rows, _PER_BYTE * len(content)):
        raise InputError(f"{file} would unpack to {max(values, unpacked):,} bytes: it is not a table of {rows} items")


def _footer_bytes(content: mmap.mmap, file: str | Path) -> int:
    size = len(content)
    length = int.from_bytes(content[size - 8 : size - 4], "little")
    if content[size - 4 :] != _MAGIC or length > size - 12:
        raise InputError(f"{file} cannot be read (no Parquet footer at its end): is it complete?")
    return length


def _check_headers(content: mmap.mmap, file: str | Path, columns: Collection[str] | None) -> tuple[int, int, int]:
    """Rows, values of all columns that were looked at, and the bytes that their pages unpack to."""
    values = unpacked = 0
    try:
        footer = _Thrift(content, len(content) - 8 - _footer_bytes(content, file)).struct()
        _check_rows(footer)
        for group in footer[_ROW_GROUPS]:
            for column in group[_COLUMNS]:
                meta = column[_META]
                if columns is None or meta[_PATH][0].decode() in columns:
                    unpacked += _check_pages(content, meta)
                    values += meta[_NUM_VALUES]
        return footer[_NUM_ROWS], values, unpacked
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read (its headers contradict its content): is it complete?") from error


def _check_rows(footer: dict[int, Any]) -> None:
    rows = [group[_NUM_ROWS] for group in footer[_ROW_GROUPS]]
    if min(rows, default=0) < 0 or sum(rows) != footer[_NUM_ROWS]:
        raise ValueError("row groups do not add up")


def _check_pages(content: mmap.mmap, meta: dict[int, Any]) -> int:
    """Walk the pages of a column: each inside the file, their values adding up to those of the column. The bytes that
    they unpack to.
    """
    expected, start = meta[_NUM_VALUES], meta[_DATA_PAGE]
    if 0 < meta.get(_DICTIONARY_PAGE, 0) < start:
        start = meta[_DICTIONARY_PAGE]
    found = unpacked = 0
    while found < expected:
        if not 0 < start < len(content):
            raise ValueError("a page lies outside the file")
        reader = _Thrift(content, start)
        page = reader.struct()
        start = reader.at + page[_PAGE_BYTES]
        data = next((page[kind] for kind in _PAGE_KINDS if kind in page), None)
        values = 0 if data is None else data[1]
        if page[_PAGE_BYTES] < 0 or page[_PAGE_UNPACKED] < 0 or start > len(content) or values < 0:
            raise ValueError("a page has an impossible size")
        if data is None and page.get(_DICTIONARY_KIND, {1: 0})[1] < 0:
            raise ValueError("a dictionary has an impossible size")
        found += values
        unpacked += page[_PAGE_UNPACKED]
    if found != expected or expected < 0:
        raise ValueError("pages do not add up")
    return unpacked


class _Thrift:
    """A reader of Thrift's compact protocol: structs become field number -> value."""

    def __init__(self, content: mmap.mmap, at: int) -> None:
        self.content, self.at = content, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # true, false (inside lists: one byte), byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > len(self.content):
                raise ValueError("a list longer than the file")
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"unknown type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise ValueError("text longer than the file")
        self.at += count
        return self.content[self.at - count : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
