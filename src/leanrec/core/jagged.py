"""Rows of different lengths as one flat array and offsets, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Jagged"]


class Jagged:
    """`values[offsets[i]:offsets[i + 1]]` is row i.

    values: (T, ...) any dtype, may be memory-mapped. offsets: (B + 1,) int64, starts at 0, never falls, ends at T.
    Neither array is copied, nor should they be written to.
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None:
        assert offsets.ndim == 1 and offsets.dtype == np.int64 and len(offsets) >= 1, "offsets: (B + 1,) int64"
        assert offsets[0] == 0 and offsets[-1] == len(values), "offsets start at 0 and end at len(values)"
        self.values = values
        self.offsets = offsets

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any] | npt.NDArray[Any]], dtype: npt.DTypeLike = np.int32) -> Jagged:
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
        return cls.from_lengths(values, np.fromiter((len(a) for a in arrays), np.int64, len(arrays)))

    @classmethod
    def from_lengths(cls, values: npt.NDArray[Any], lengths: npt.NDArray[np.integer]) -> Jagged:
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    @classmethod
    def empty(cls, rows: int, dtype: npt.DTypeLike = np.int32) -> Jagged:
        return cls(np.empty(0, dtype=dtype), np.zeros(rows + 1, dtype=np.int64))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        lengths: npt.NDArray[np.int64] = self.offsets[1:] - self.offsets[:-1]  # np.diff takes ten times as long
        return lengths

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        for row in range(len(self)):
            yield self[row]

    def positions(self, rows: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Flat positions in `values` of the given rows, one after the other, and the lengths of those rows."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        shift = np.repeat(self.offsets[rows] - (ends - lengths), lengths)
        return np.arange(total, dtype=np.int64) + shift, lengths

    def take(self, rows: npt.NDArray[np.integer]) -> Jagged:
        """The given rows, in the given order, as a new Jagged (values are gathered)."""
        at, lengths = self.positions(rows)
        return Jagged.from_lengths(self.values[at], lengths)

    def appended(self, more: Jagged, rows: npt.NDArray[np.integer]) -> Jagged:
        """Row i of `more` at the end of row rows[i] of this one; rows beyond the last are new."""
        count = max(len(self), int(rows.max(initial=-1)) + 1)
        owner = np.concatenate([self.row_of(), np.asarray(rows, np.int64)[more.row_of()]])
        values = np.concatenate([self.values, more.values])
        return Jagged.from_lengths(values[np.argsort(owner, kind="stable")], np.bincount(owner, minlength=count))

    def slice(self, start: int, stop: int) -> Jagged:
        """Rows start..stop without copying values."""
        stop = min(stop, len(self))
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Jagged(self.values[low:high], self.offsets[start : stop + 1] - low)

    def last(self, count: int) -> Jagged:
        """At most the last `count` values of each row; the same object where no row has more."""
        if self.lengths.max(initial=0) <= count:
            return self
        keep = np.minimum(self.lengths, count)
        starts = self.offsets[1:] - keep
        ends = np.cumsum(keep)
        total = int(ends[-1]) if len(ends) else 0
        at = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - keep), keep)
        return Jagged.from_lengths(self.values[at], keep)

    def where(self, mask: npt.NDArray[np.bool_]) -> Jagged:
        """Only the values under a mask of len(values); rows keep their number and order."""
        running = np.zeros(len(mask) + 1, dtype=np.int64)
        np.cumsum(mask, out=running[1:])
        return Jagged(self.values[mask], running[self.offsets])

    def row_of(self) -> npt.NDArray[np.int64]:
        """(T,) the row each value belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def __repr__(self) -> str:
        return f"Jagged({len(self)} rows, {len(self.values)} values, {self.values.dtype})"
