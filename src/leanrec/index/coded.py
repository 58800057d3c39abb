"""An exact scan of item vectors as they are kept: whole numbers, sub-ids or blocks of decoded rows, no float32 table.

Scores of the scan are right up to one radius a query; the rows that may still win are decoded and scored in full, so
ids and scores are those of brute force over the decoded rows. How rows are scored depends on their kind:

- 8, 4 or 2 bits: codes times a query of 16 bits in whole numbers, then scale and offset of the row;
- product codes: the query's scores of all M x 256 pieces, then M look-ups a row (the sub-id trick of RecJPQ);
- factors in a basis: the query is taken into the basis, and the factors are scored by their own kind;
- any other, and many queries at a time: blocks are decoded and multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.base import Index
from leanrec.index.bounded import MAX_NORM, Exclusions, checked_norms, frozen
from leanrec.index.vectors import Float32Vectors, ItemVectors, scores_of
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import ProductVectors
from leanrec.index.vectors.rowwise import RowwiseVectors
from leanrec.kernels.candidates import drop, keep_all
from leanrec.kernels.product import score_product, score_product_parallel
from leanrec.kernels.rowwise import score_codes, score_codes_parallel
from leanrec.kernels.topk import row_norms

__all__ = ["CodedIndex", "Kept", "Scan", "scan_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_UNIT = 2.0**-24
_TINY = 2.0**-120
_QUERIES = 64
_DECODE = 8  # queries from which decoding blocks once and multiplying is faster than scanning codes for each
_BUFFER = 1 << 18  # scores of a block of rows, for all queries of a call
_ROOM = 4096  # kept rows of a query before they are scored in full
_WORTH_THREADS = 4 << 20  # bytes of codes below which starting threads costs more than it saves


class Scan(ABC):
    """Scores of consecutive rows for queries, each right up to the radius of its query."""

    longest: float
    """At least the norm of every decoded row."""

    @abstractmethod
    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        """What `score` reads of the queries, and (B,) how far its scores are from exact products at most."""

    @abstractmethod
    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        """Scores of rows low, low + 1, ... for every query."""


class DecodedScan(Scan):
    """Blocks of decoded rows by matrix product; gamma_D |q| |x| bounds the rounding in whatever order BLAS sums."""

    def __init__(self, vectors: ItemVectors, longest: float | None = None) -> None:
        self._vectors = vectors
        norms = (float(row_norms(rows).max()) for _, rows in vectors.blocks() if longest is None and len(rows))
        self.longest = max(norms, default=0.0) if longest is None else longest

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        dim = queries_BD.shape[1]
        gamma = dim * _UNIT / (1 - dim * _UNIT)
        return queries_BD, gamma * 1.001 * _norms(queries_BD) * self.longest + (dim + 2) * _TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        np.matmul(prepared, self._vectors.block(low, low + out_Bn.shape[1]).T, out=out_Bn)


class RowwiseScan(Scan):
    """Whole numbers: q = unit * coded + e, so scale * (codes . e) is all that is missed."""

    def __init__(self, vectors: RowwiseVectors) -> None:
        self._vectors = vectors
        scales_N, offsets_N = (part.astype(np.float64) for part in vectors.ranges())
        self._top = (1 << vectors.bits) - 1
        self._reach = float(scales_N.max(initial=0)) * self._top * vectors.shape[1] ** 0.5
        ends_N = np.maximum(np.abs(offsets_N), np.abs(offsets_N + self._top * scales_N))
        self.longest = float(ends_N.max(initial=0)) * vectors.shape[1] ** 0.5 * (1 + 1e-6)
        self._run: Callable[..., None] = (
            score_codes_parallel if vectors.codes_NW.nbytes >= _WORTH_THREADS else score_codes
        )

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        batch, dim = queries_BD.shape
        each, width = 8 // self._vectors.bits, self._vectors.codes_NW.shape[1]
        most = min(32767, (2**31 - 1) // (self._top * dim))
        wide_BD = queries_BD.astype(np.float64)
        largest_B = np.abs(wide_BD).max(axis=1)
        unit_B = np.where(largest_B > 0, largest_B / most, 1.0)
        coded_BD = np.clip(np.rint(wide_BD / unit_B[:, None]), -most, most)
        error_B = np.sqrt(np.square(wide_BD - unit_B[:, None] * coded_BD).sum(axis=1))
        padded_BD = np.zeros((batch, each * width), np.int16)
        padded_BD[:, :dim] = coded_BD
        coded_BEW = np.ascontiguousarray(padded_BD.reshape(batch, width, each).transpose(0, 2, 1))
        facts_B2 = np.stack([unit_B, wide_BD.sum(axis=1)], axis=1)
        radius_B = self._reach * (error_B * (1 + 1e-6) + 2.0**-40 * _norms(queries_BD))
        return (coded_BEW, facts_B2), radius_B + 2 * _UNIT * _norms(queries_BD) * self.longest * dim**0.5 + _TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        part, own = slice(low, low + out_Bn.shape[1]), self._vectors
        self._run(own.codes_NW[part], own.scales_N[part], own.offsets_N[part], own.bits, *prepared, out_Bn)


class ProductScan(Scan):
    """M look-ups a row in the query's scores of all pieces."""

    def __init__(self, vectors: ProductVectors) -> None:
        self._vectors = vectors
        self._squares_MC = np.square(vectors.pieces_MCW.astype(np.float64)).sum(axis=2)
        self._size = float(np.abs(vectors.levels_S).max())
        self.longest = self._size * float(np.sqrt(self._squares_MC.max(axis=1, initial=0).sum())) * (1 + 1e-6)
        self._run: Callable[..., None] = (
            score_product_parallel if vectors.codes_NM.nbytes >= _WORTH_THREADS else score_product
        )

    def partial(self, queries_BD: F32) -> F32:
        """(B, M, 256) scores of every piece."""
        splits, _, width = self._vectors.pieces_MCW.shape
        padded_BD = np.zeros((len(queries_BD), splits * width), np.float32)
        padded_BD[:, : queries_BD.shape[1]] = queries_BD
        parts_MBW = padded_BD.reshape(-1, splits, width).transpose(1, 0, 2)
        scores_MBC = np.matmul(parts_MBW, self._vectors.pieces_MCW.transpose(0, 2, 1))
        return np.ascontiguousarray(scores_MBC.transpose(1, 0, 2))

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        splits, _, width = self._vectors.pieces_MCW.shape
        radius_B = (width + splits + 4) * _UNIT * 1.001 * splits**0.5 * _norms(queries_BD) * self.longest
        return self.partial(queries_BD), radius_B + (width + splits + 4) * max(self._size, 1.0) * _TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        part, own = slice(low, low + out_Bn.shape[1]), self._vectors
        self._run(own.codes_NM[part], own.sizes_N[part], own.levels_S, prepared, out_Bn)


class LowRankScan(Scan):
    """(q basis^T) . factors: the query moves into the basis, the factors are scanned as their kind is."""

    def __init__(self, vectors: LowRankVectors) -> None:
        self._inner = scan_of(vectors.factors)
        self._basis_RD = vectors.basis_RD.astype(np.float64)
        self.longest = self._inner.longest * float(np.linalg.norm(self._basis_RD, 2)) * (1 + 1e-6)

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        turned_BR = (queries_BD.astype(np.float64) @ self._basis_RD.T).astype(np.float32)
        prepared, radius_B = self._inner.prepare(turned_BR)
        moved_B = 2 * _UNIT * _norms(turned_BR) * self._inner.longest
        decoded_B = 2 * _UNIT * _norms(queries_BD) * self.longest
        return prepared, radius_B + moved_B + decoded_B + _TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        self._inner.score(prepared, low, out_Bn)


def scan_of(vectors: ItemVectors) -> Scan:
    """The scan for a kind of vectors."""
    if isinstance(vectors, RowwiseVectors):
        return RowwiseScan(vectors)
    if isinstance(vectors, ProductVectors):
        return ProductScan(vectors)
    if isinstance(vectors, LowRankVectors):
        return LowRankScan(vectors)
    return DecodedScan(vectors)


class CodedIndex(Index):
    """Item vectors of any kind, scanned as they are; nothing is kept beside them."""

    name = "coded"
    exact = True

    def __init__(self, vectors: ItemVectors) -> None:
        self._vectors, self._scan = vectors, scan_of(vectors)
        self._decoded = DecodedScan(vectors, self._scan.longest)
        if not self._scan.longest <= MAX_NORM:
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
        return cls(vectors)

    @classmethod
    def from_tensors(cls, items_ND: F32, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(Float32Vectors(frozen(items_ND, np.float32)))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @property
    def bytes_scanned(self) -> int:
        return self._vectors.nbytes

    def bounds(self, query_D: F32) -> tuple[F64, F64]:
        """(N,) lower and (N,) upper bounds of every row's score, as the scan sees them."""
        prepared, radius_B = self._scan.prepare(frozen(query_D[None], np.float32))
        scores_BN = np.empty((1, len(self._vectors)), np.float32)
        self._scan.score(prepared, 0, scores_BN)
        radius = radius_B[0] + self._slack(query_D[None])[0]
        return scores_BN[0] - radius, scores_BN[0] + radius

    def _slack(self, queries_BD: F32) -> F64:
        """(B,) rounding that is the same for all kinds: of the answered score, of the scan's, and of comparing them."""
        return 8 * _UNIT * _norms(queries_BD) * self._scan.longest + _TINY

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
        batch, size = len(queries_BD), len(self._vectors)
        scan = self._scan if batch < _DECODE else self._decoded
        prepared, radius_B = scan.prepare(queries_BD)
        radius_B = radius_B + self._slack(queries_BD)
        block = min(max(1024, _BUFFER // batch), size)
        kept = Kept(batch, k, _ROOM + 2 * k + block)
        scores_Bn = np.empty((batch, block), np.float32)
        for low in range(0, size, block):
            out_Bn = scores_Bn[:, : min(block, size - low)]
            scan.score(prepared, low, out_Bn)
            keep_all(
                out_Bn, low, radius_B, kept.heaps_BK, kept.rows_BC, kept.scores_BC, kept.counts_B,
                skip.rows_E, skip.offsets, skip.allowed_N,
            )  # fmt: skip
            for b in np.flatnonzero(kept.counts_B > _ROOM + k).tolist():
                kept.settle(b, self._vectors, queries_BD[b], radius_B[b])
        for b in range(batch):
            rows, scores = kept.best(b, self._vectors, queries_BD[b], radius_B[b])
            items_BK[b, : len(rows)], scores_BK[b, : len(rows)] = rows, scores


class Kept:
    """What may still be among the best k of each query, in room for `room` rows."""

    def __init__(self, batch: int, k: int, room: int) -> None:
        self.heaps_BK = np.full((batch, k), -np.inf, np.float32)
        self.rows_BC, self.scores_BC = np.empty((batch, room), np.int32), np.empty((batch, room), np.float32)
        self.counts_B = np.zeros(batch, np.int64)

    def _drop(self, b: int, radius: float) -> int:
        self.counts_B[b] = drop(radius, self.heaps_BK[b], self.rows_BC[b], self.scores_BC[b], self.counts_B[b])
        return int(self.counts_B[b])

    def best(self, b: int, vectors: ItemVectors, query_D: F32, radius: float) -> tuple[npt.NDArray[np.int32], F32]:
        """The best k of a query's kept rows by their full scores, equal ones by row."""
        rows = self.rows_BC[b, : self._drop(b, radius)]
        scores = scores_of(vectors, rows, query_D[None], np.zeros(len(rows), np.int64))
        order = np.lexsort((rows, -scores))[: self.heaps_BK.shape[1]]
        return rows[order], scores[order]

    def settle(self, b: int, vectors: ItemVectors, query_D: F32, radius: float) -> None:
        """Where too many rows lie within the radius, only the best k stay, with full scores."""
        if self._drop(b, radius) > _ROOM // 2 + self.heaps_BK.shape[1]:
            rows, scores = self.best(b, vectors, query_D, radius)
            self.counts_B[b] = len(rows)
            self.rows_BC[b, : len(rows)], self.scores_BC[b, : len(rows)] = rows, scores


def _norms(queries_BD: F32) -> F64:
    return np.asarray(np.sqrt(np.square(queries_BD.astype(np.float64)).sum(axis=1)))
