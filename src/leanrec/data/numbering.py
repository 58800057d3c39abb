"""External ids to dense rows, ids rising: whole numbers as they are while they stream in, text as codes of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.ids import Vocabulary
from leanrec.data.scratch import Column, Scratch
from leanrec.kernels.numbering import count_ids, count_ids_reference, number_ids, number_ids_reference

__all__ = ["COMPILED_FROM", "Ids", "Numbered"]

COMPILED_FROM = 1 << 20
"""Events from which loading (at first: compiling) the kernels is quicker than NumPy."""

_INT32 = np.iinfo(np.int32)
_WIDEST = 1 << 26
"""Numbers further apart than this are hashed: a table of them all would be larger than what it stands for."""


@dataclass(slots=True)
class Numbered:
    """A column of ids with its numbers. vocabulary: ids rising. counts: (rows,) events of each."""

    vocabulary: Vocabulary
    counts: npt.NDArray[np.int64]
    codes: npt.NDArray[np.integer[Any]]
    """(T,) as they were read; less `low` they are places in `row_of`."""
    low: int
    row_of: npt.NDArray[np.int32]

    def rows(self, start: int, stop: int) -> npt.NDArray[np.int32]:
        """The rows of the events start..stop."""
        codes = self.codes[start:stop]
        rows: npt.NDArray[np.int32] = self.row_of[codes - self.low if self.low else codes]
        return rows


class Ids:
    """A column of ids while it streams in."""

    def __init__(self, kind: str, scratch: Scratch) -> None:
        self.kind = kind
        self.column = Column(scratch)
        self.pool = pl.Categories.random()
        # Polars forgets the texts of a pool when no series of it is left.
        self._alive = pl.Series([], dtype=pl.Categorical(self.pool))

    def append(self, ids: pl.Series) -> None:
        if self.kind == "text":
            ids = ids.cast(pl.Categorical(self.pool)).to_physical()
        elif len(ids) and ids.is_between(_INT32.min, _INT32.max).all():
            ids = ids.cast(pl.Int32)
        if len(ids):
            self.column.append(ids.to_numpy())

    def finish(self) -> Numbered:
        """The rows of all ids. Memory: a few numbers for each distinct id."""
        codes = self.column.finish()
        large = len(codes) >= COMPILED_FROM
        if self.kind == "text":
            texts = self.pool.to_series()
            return _sorted(codes, large, texts.arg_sort().to_numpy(), texts)
        low, high = int(codes.min()), int(codes.max())
        if high - low >= min(max(len(codes), 1 << 16), _WIDEST):
            codes = codes.astype(np.int64, copy=False)
            known = (number_ids if large else number_ids_reference)(codes)
            return _sorted(codes, large, np.argsort(known), known)
        counts = _counts(codes, low, high - low + 1, large)
        present = counts > 0
        row_of = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return Numbered(Vocabulary(np.flatnonzero(present) + low), counts[present], codes, low, row_of)


def _sorted(
    codes: npt.NDArray[np.integer[Any]], large: bool, order: npt.NDArray[Any], known: pl.Series | npt.NDArray[np.int64]
) -> Numbered:
    """Rows for codes that are places in `known`, which `order` sorts."""
    row_of = np.empty(len(order), np.int32)
    row_of[order] = np.arange(len(order), dtype=np.int32)
    counts = _counts(codes, 0, len(order), large)[order]
    ids = known.gather(order).to_list() if isinstance(known, pl.Series) else known[order]
    return Numbered(Vocabulary(ids), counts, codes, 0, row_of)


def _counts(codes: npt.NDArray[np.integer[Any]], low: int, size: int, large: bool) -> npt.NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    (count_ids if large else count_ids_reference)(codes, low, counts)
    return counts
