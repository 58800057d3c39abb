"""An exact scan of item vectors as they are kept (`index.scans`), without a float32 table.

Scores of the scan are right up to one radius a query; the rows that may still win are decoded and scored in full, so
ids and scores are those of brute force over the decoded rows. Blocks with long rows are scanned first, until none that
is left can win (`index.norm_order`). Where rows share vectors, the vectors are searched, and the best ones name their
rows (`index.sharing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.base import Index, answerable, marked, padded, removed_rows, stored_removed
from leanrec.index.bounded import MAX_NORM, Exclusions, checked_norms, frozen
from leanrec.index.norm_order import NormOrder, blocks_from
from leanrec.index.scans import TINY, UNIT, DecodedScan, norms_of, scan_of
from leanrec.index.sharing import SharedRows
from leanrec.index.vectors import Float32Vectors, ItemVectors, scores_of
from leanrec.index.vectors.shared import SharedVectors
from leanrec.kernels.candidates import BLOCK, drop, keep_all

__all__ = ["CodedIndex", "Kept"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_QUERIES = 64
_BUFFER = 1 << 18  # scores of a block of rows, for all queries of a call
_FIRST = 1 << 10  # rows that each query meets before it is asked for the first time whether one is done
_ROOM = 4096  # kept rows of a query before they are scored in full


class CodedIndex(Index):
    """Item vectors of any kind, scanned as they are; nothing is stored beside them. In memory there are the norms of
    blocks (.75 bytes a row), and for shared vectors their rows."""

    name = "coded"
    exact = True

    def __init__(self, vectors: ItemVectors, order: NormOrder | None = None) -> None:
        """order: that of what is searched, where it is known."""
        self._vectors = vectors
        self._shared = SharedRows(vectors) if isinstance(vectors, SharedVectors) else None
        self._searched = self._shared.distinct if self._shared else vectors
        self._order = order or NormOrder.of(self._searched)
        self._scan = scan_of(self._searched, self._order.longest)
        self._decoded = DecodedScan(self._searched, self._order.longest)
        if not (self._scan.longest <= MAX_NORM and self._order.longest <= MAX_NORM):
            raise InputError("the item vectors hold NaN, infinity or numbers too large: train the model again")

    @property
    def vectors(self) -> ItemVectors:
        return self._vectors

    @property
    def items_ND(self) -> F32:  # type: ignore[override]  # decoded when somebody wants a table to train on
        return self._vectors.table()

    @classmethod
    def build(cls, items_ND: F32) -> Self:
        table = frozen(items_ND, np.float32)
        checked_norms(table, "item table")
        return cls(Float32Vectors(table))

    @classmethod
    def over(cls, vectors: ItemVectors) -> Self:
        return cls(vectors)

    @classmethod
    def restore(cls, vectors: ItemVectors, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        index = cls(vectors)
        index.removed_N = stored_removed(tensors, len(vectors))
        return index

    def add(self, items_MD: F32) -> Self:
        more = self._vectors.added(frozen(items_MD, np.float32))
        searched = more.distinct if isinstance(more, SharedVectors) else more
        grown = type(self)(more, NormOrder.of(searched, self._order, len(self._searched)))
        if len(self.removed_N):
            grown.removed_N = padded(self.removed_N, len(grown.vectors))
        return grown

    def remove(self, rows: npt.NDArray[np.integer]) -> Self:
        left = copy(self)
        left.removed_N = marked(self, rows)
        return left

    @classmethod
    def from_tensors(cls, items_ND: F32, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls.restore(Float32Vectors(frozen(items_ND, np.float32)), tensors)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return removed_rows(self)

    @property
    def bytes_scanned(self) -> int:
        return self._vectors.nbytes

    def bounds(self, query_D: F32) -> tuple[F64, F64]:
        """(N,) lower and (N,) upper bounds of every row's score, as the scan sees them."""
        scan = self._scan if self._shared is None else scan_of(self._vectors)
        prepared, radius_B = scan.prepare(frozen(query_D[None], np.float32))
        blocks_M = np.arange(-(-len(self._vectors) // BLOCK), dtype=np.int32)
        scores_1n = np.empty((1, BLOCK * len(blocks_M)), np.float32)
        scan.score(prepared, blocks_M, scores_1n)
        scores_N, radius = scores_1n[0, : len(self._vectors)], radius_B[0] + self._slack(query_D[None])[0]
        return scores_N - radius, scores_N + radius

    def _slack(self, queries_BD: F32) -> F64:
        """(B,) rounding that is the same for all kinds: of the answered score, of the scan's, and of comparing them."""
        return 8 * UNIT * norms_of(queries_BD) * self._scan.longest + TINY

    def search(
        self,
        queries_BD: F32,
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        batch, (size, dim) = len(queries_BD), self._vectors.shape
        assert queries_BD.ndim == 2 and queries_BD.shape[1] == dim, "queries: (B, D)"
        assert k >= 1, "k starts at 1"
        hits = Hits.none(batch, k)
        allowed_N = answerable(self, allowed_N)
        for start in range(0, batch if size else 0, _QUERIES):
            part = slice(start, min(start + _QUERIES, batch))
            some = None if exclude is None else exclude.slice(part.start, part.stop)
            skip = Exclusions.of(part.stop - start, some, allowed_N, size)
            queries = frozen(queries_BD[part], np.float32)
            self._search(queries, min(k, size), skip, hits.items_BK[part], hits.scores_BK[part])
        return hits

    def _search(
        self, queries_BD: F32, k: int, skip: Exclusions, items_BK: npt.NDArray[np.int32], scores_BK: F32
    ) -> None:
        checked_norms(queries_BD, "query vectors")
        shared = self._shared
        if shared is None:
            answers = self._ranked(queries_BD, k, skip)
        else:
            vectors, more = shared.skipped(skip)
            answers = (
                shared.rows(*found, k, skip.rows_E[slice(*skip.offsets[b : b + 2])], skip)
                for b, found in enumerate(self._ranked(queries_BD, k + more, vectors, ties=True))
            )
        for b, (rows, scores) in enumerate(answers):
            items_BK[b, : len(rows)], scores_BK[b, : len(rows)] = rows[:k], scores[:k]

    def _ranked(
        self, queries_BD: F32, k: int, skip: Exclusions, *, ties: bool = False
    ) -> Iterator[tuple[npt.NDArray[np.int32], F32]]:
        """For each query the best k of what is searched and some more, by falling score; with `ties` all that equal the
        k-th."""
        batch, order = len(queries_BD), self._order
        scan = self._scan if batch < self._scan.decode_from else self._decoded
        prepared, radius_B = scan.prepare(queries_BD)
        radius_B = radius_B + self._slack(queries_BD)
        lengths_B = norms_of(queries_BD) * (1 + 1e-6) + TINY
        blocks = len(order.order_M)
        most = min(max(1024, _BUFFER // batch) // BLOCK, blocks)
        kept = Kept(batch, min(k, len(self._searched)), _ROOM + 2 * k + most * BLOCK)
        buffer = np.empty(batch * most * BLOCK, np.float32)
        live_L = np.arange(batch)
        low, count = 0, min(_FIRST // BLOCK, most) if order.useful else most
        while low < blocks:
            some_M = np.sort(order.order_M[low : low + count])
            out_Ln = buffer[: len(live_L) * len(some_M) * BLOCK].reshape(len(live_L), -1)
            scan.score(prepared, some_M, out_Ln)
            keep_all(
                out_Ln, some_M, live_L, radius_B, kept.heaps_BK, kept.rows_BC, kept.scores_BC, kept.counts_B,
                skip.rows_E, skip.offsets, skip.allowed_N,
            )  # fmt: skip
            low, count = low + len(some_M), min(16 * count, most)
            for b in np.flatnonzero(kept.counts_B > kept.rows_BC.shape[1] - most * BLOCK).tolist():
                if ties:
                    kept.make_room(b, radius_B[b], most * BLOCK)
                else:
                    kept.settle(b, self._searched, queries_BD[b], radius_B[b])
            if order.useful and low < blocks:
                least_L = (kept.heaps_BK[live_L, 0] - radius_B[live_L]) / lengths_B[live_L]
                may_win_L = order.rest_M[low] >= least_L
                if not may_win_L.all():
                    live_L, prepared = live_L[may_win_L], tuple(_taken(part, may_win_L) for part in prepared)
                    if not len(live_L):
                        break
                count = min(count, max(1, blocks_from(order.rest_M, float(least_L.min())) - low))
        for b in range(batch):
            yield kept.ranked(b, self._searched, queries_BD[b], radius_B[b])


def _taken(part: npt.NDArray[Any], queries_L: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """What was prepared of some queries; kernels compile once, so it is read-only where all of it is."""
    some = part[queries_L]
    some.flags.writeable = part.flags.writeable
    return some


class Kept:
    """What may still be among the best k of each query, in room for `room` rows."""

    def __init__(self, batch: int, k: int, room: int) -> None:
        self.heaps_BK = np.full((batch, k), -np.inf, np.float32)
        self.rows_BC, self.scores_BC = np.empty((batch, room), np.int32), np.empty((batch, room), np.float32)
        self.counts_B = np.zeros(batch, np.int64)

    def _drop(self, b: int, radius: float) -> int:
        self.counts_B[b] = drop(radius, self.heaps_BK[b], self.rows_BC[b], self.scores_BC[b], self.counts_B[b])
        return int(self.counts_B[b])

    def ranked(self, b: int, vectors: ItemVectors, query_D: F32, radius: float) -> tuple[npt.NDArray[np.int32], F32]:
        """A query's kept rows by their full scores, equal ones by row."""
        rows = self.rows_BC[b, : self._drop(b, radius)]
        scores = scores_of(vectors, rows, query_D[None], np.zeros(len(rows), np.int64))
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order]

    def settle(self, b: int, vectors: ItemVectors, query_D: F32, radius: float) -> None:
        """Where too many rows lie within the radius, only the best k stay, with full scores."""
        k = self.heaps_BK.shape[1]
        if self._drop(b, radius) > _ROOM // 2 + k:
            rows, scores = (part[:k] for part in self.ranked(b, vectors, query_D, radius))
            self.counts_B[b] = len(rows)
            self.rows_BC[b, : len(rows)], self.scores_BC[b, : len(rows)] = rows, scores

    def make_room(self, b: int, radius: float, count: int) -> None:
        """Room for `count` more rows of a query, without losing any that may be among the best."""
        if self._drop(b, radius) > (self.rows_BC.shape[1] - count) // 2:
            for name in ("rows_BC", "scores_BC"):
                before = getattr(self, name)
                wider = np.empty((len(before), 2 * before.shape[1]), before.dtype)
                wider[:, : before.shape[1]] = before
                setattr(self, name, wider)
