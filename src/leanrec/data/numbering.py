"""External ids to dense rows, ids rising: whole numbers as they are while they stream in, text as codes of a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.ids import Vocabulary
from leanrec.data.scratch import Column, Scratch
from leanrec.kernels.numbering import count_ids, count_ids_reference, number_ids, number_ids_reference

__all__ = ["COMPILED_FROM", "Encoders", "Ids", "Numbered"]

COMPILED_FROM = 1 << 20
"""Events from which loading (at first: compiling) the kernels is quicker than NumPy."""

_AHEAD = 2
"""Batches whose ids may wait to be encoded."""

_INT32, _INT64 = np.iinfo(np.int32), np.iinfo(np.int64)
_WIDEST = 1 << 26
"""Numbers further apart than this are hashed: a table of them all would be larger than what it stands for."""


@dataclass(slots=True)
class Numbered:
    """A column of ids with its numbers. vocabulary: ids rising. counts: (rows,) events of each."""

    vocabulary: Vocabulary
    counts: npt.NDArray[np.int64]
    parts: list[npt.NDArray[np.integer[Any]]]
    """Codes, part by part as they were read; less `low` they are places in `row_of`."""
    low: int
    row_of: npt.NDArray[np.int32]

    def rows(self, codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """The rows of some codes."""
        return np.take(self.row_of, np.subtract(codes, self.low, dtype=np.int64) if self.low else codes)


class Ids:
    """A column of ids while it streams in."""

    def __init__(self, kind: str, scratch: Scratch) -> None:
        self.kind = kind
        self.column = Column(scratch)
        self.pool = pl.Categories.random()
        # Polars forgets the texts of a pool when no series of it is left.
        self._alive = pl.Series([], dtype=pl.Categorical(self.pool))
        self._low, self._high = _INT64.max, _INT64.min

    def encode(self, ids: pl.Series) -> npt.NDArray[np.integer[Any]]:
        """The numbers, or the codes of the texts; what is to be appended to the column."""
        if self.kind == "text":
            return ids.cast(pl.Categorical(self.pool)).to_physical().to_numpy()
        low, high = ids.min(), ids.max()
        assert isinstance(low, int) and isinstance(high, int)
        self._low, self._high = min(self._low, low), max(self._high, high)
        narrow = low >= _INT32.min and high <= _INT32.max
        return ids.to_numpy().astype(np.int32 if narrow else np.int64)

    def finish(self) -> Numbered:
        """The rows of all ids. Memory: a few numbers for each distinct id."""
        parts = self.column.finish()
        events = sum(map(len, parts))
        large = events >= COMPILED_FROM
        if self.kind == "text":
            texts = self.pool.to_series()
            return _sorted(parts, large, texts.arg_sort().to_numpy(), texts)
        low, span = self._low, self._high - self._low + 1
        if span > min(max(events, 1 << 16), _WIDEST):
            known = (number_ids if large else number_ids_reference)(parts)
            return _sorted(parts, large, np.argsort(known), known)
        counts = _counts(parts, low, span, large)
        present = counts > 0
        row_of = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return Numbered(Vocabulary(np.flatnonzero(present) + low), counts[present], parts, low, row_of)


class Encoders:
    """Encodes the ids of batch after batch, a thread for each column, beside whoever cleans the next batch."""

    def __init__(self, ids: Mapping[str, Ids]) -> None:
        self._ids = ids
        self._threads = {role: ThreadPoolExecutor(1, f"leanrec-{role}-ids") for role in ids}
        self._waiting: deque[tuple[Ids, Future[npt.NDArray[np.integer[Any]]]]] = deque()

    def append(self, batch: pl.DataFrame) -> None:
        """The ids of a batch go to the end of their columns, in the order of calls."""
        for role, ids in self._ids.items():
            self._waiting.append((ids, self._threads[role].submit(ids.encode, batch[role])))
        while len(self._waiting) > _AHEAD * len(self._ids):
            self._settle()

    def _settle(self) -> None:
        ids, codes = self._waiting.popleft()
        ids.column.append(codes.result())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while self._waiting and kind is None:
                self._settle()
        finally:
            for thread in self._threads.values():
                thread.shutdown(cancel_futures=True)


def _sorted(
    parts: list[npt.NDArray[Any]], large: bool, order: npt.NDArray[Any], known: pl.Series | npt.NDArray[np.int64]
) -> Numbered:
    """Rows for codes that are places in `known`, which `order` sorts."""
    row_of = np.empty(len(order), np.int32)
    row_of[order] = np.arange(len(order), dtype=np.int32)
    counts = _counts(parts, 0, len(order), large)[order]
    vocabulary = _of_texts(known.gather(order)) if isinstance(known, pl.Series) else Vocabulary(known[order])
    return Numbered(vocabulary, counts, parts, 0, row_of)


def _of_texts(texts: pl.Series) -> Vocabulary:
    """Without a Python object for each."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(texts.str.len_bytes().to_numpy(), out=offsets[1:])
    joined = np.frombuffer(texts.str.join("").item().encode(), np.uint8)
    return Vocabulary.from_tensors({"bytes": joined, "offsets": offsets, "erased": np.zeros(len(texts), np.uint8)})


def _counts(parts: list[npt.NDArray[Any]], low: int, size: int, large: bool) -> npt.NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    for part in parts:
        (count_ids if large else count_ids_reference)(part, low, counts)
    return counts
