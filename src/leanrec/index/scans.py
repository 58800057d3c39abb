"""Scores of item vectors as they are kept, right up to one radius a query: what `coded` scans.

- 8, 6, 5, 4 or 2 bits: codes times a query of 16 bits in whole numbers, then scale and offset of the row;
- product codes: the query's scores of all M x 256 pieces, then M look-ups a row (the sub-id trick of RecJPQ);
- factors in a basis: the query is taken into the basis, and the factors are scored by their own kind;
- vectors that rows share: each vector once, by its own kind, then one look-up a row;
- any other, and for some of these many queries at a time: blocks are decoded and multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.index.vectors import ItemVectors
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import ProductVectors
from leanrec.index.vectors.rowwise import RowwiseVectors
from leanrec.index.vectors.shared import SharedVectors
from leanrec.kernels.code_dots import query_codes
from leanrec.kernels.nibbles import FAST
from leanrec.kernels.product import score_product, score_product_parallel
from leanrec.kernels.rowwise import score_codes, score_codes_parallel
from leanrec.kernels.topk import row_norms

__all__ = ["TINY", "UNIT", "DecodedScan", "Scan", "norms_of", "scan_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
UNIT = 2.0**-24
TINY = 2.0**-120
_WORTH_THREADS = 4 << 20  # bytes of codes below which starting threads costs more than it saves


class Scan(ABC):
    """Scores of consecutive rows for queries, each right up to the radius of its query."""

    longest: float
    """At least the norm of every decoded row."""
    decode_from: int = 8
    """Queries from which decoding blocks once and multiplying is quicker than scanning for each."""

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
        gamma = dim * UNIT / (1 - dim * UNIT)
        return queries_BD, gamma * 1.001 * norms_of(queries_BD) * self.longest + (dim + 2) * TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        np.matmul(prepared, self._vectors.block(low, low + out_Bn.shape[1]).T, out=out_Bn)


class RowwiseScan(Scan):
    """Whole numbers: q = unit * coded + e, so scale * (codes . e) is all that is missed."""

    decode_from = 1 << 30 if FAST else Scan.decode_from

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
        dim = queries_BD.shape[1]
        most = min(32767, (2**31 - 1) // (self._top * dim))
        wide_BD = queries_BD.astype(np.float64)
        largest_B = np.abs(wide_BD).max(axis=1)
        unit_B = np.where(largest_B > 0, largest_B / most, 1.0)
        coded_BD = np.clip(np.rint(wide_BD / unit_B[:, None]), -most, most)
        error_B = np.sqrt(np.square(wide_BD - unit_B[:, None] * coded_BD).sum(axis=1))
        coded_BEW = query_codes(coded_BD, self._vectors.bits)
        facts_B2 = np.stack([unit_B, wide_BD.sum(axis=1)], axis=1)
        radius_B = self._reach * (error_B * (1 + 1e-6) + 2.0**-40 * norms_of(queries_BD))
        return (coded_BEW, facts_B2), radius_B + 2 * UNIT * norms_of(queries_BD) * self.longest * dim**0.5 + TINY

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
        radius_B = (width + splits + 4) * UNIT * 1.001 * splits**0.5 * norms_of(queries_BD) * self.longest
        return self.partial(queries_BD), radius_B + (width + splits + 4) * max(self._size, 1.0) * TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        part, own = slice(low, low + out_Bn.shape[1]), self._vectors
        self._run(own.codes_NM[part], own.sizes_N[part], own.levels_S, prepared, out_Bn)


class LowRankScan(Scan):
    """(q basis^T) . factors: the query moves into the basis, the factors are scanned as their kind is."""

    def __init__(self, vectors: LowRankVectors) -> None:
        self._inner = scan_of(vectors.factors)
        self.decode_from = self._inner.decode_from
        self._basis_RD = vectors.basis_RD.astype(np.float64)
        self.longest = self._inner.longest * float(np.linalg.norm(self._basis_RD, 2)) * (1 + 1e-6)

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        turned_BR = (queries_BD.astype(np.float64) @ self._basis_RD.T).astype(np.float32)
        prepared, radius_B = self._inner.prepare(turned_BR)
        moved_B = 2 * UNIT * norms_of(turned_BR) * self._inner.longest
        decoded_B = 2 * UNIT * norms_of(queries_BD) * self.longest
        return prepared, radius_B + moved_B + decoded_B + TINY

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        self._inner.score(prepared, low, out_Bn)


class SharedScan(Scan):
    """Each vector once, as its kind is scanned, and then by the map."""

    def __init__(self, vectors: SharedVectors) -> None:
        self._inner, self._place_N, self._distinct = scan_of(vectors.distinct), vectors.place_N, len(vectors.distinct)
        self.longest = self._inner.longest

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        prepared, radius_B = self._inner.prepare(queries_BD)
        scores_BC = np.empty((len(queries_BD), self._distinct), np.float32)
        self._inner.score(prepared, 0, scores_BC)
        return scores_BC, radius_B

    def score(self, prepared: Any, low: int, out_Bn: F32) -> None:
        out_Bn[:] = prepared[:, self._place_N[low : low + out_Bn.shape[1]]]


def scan_of(vectors: ItemVectors) -> Scan:
    """The scan for a kind of vectors."""
    if isinstance(vectors, RowwiseVectors):
        return RowwiseScan(vectors)
    if isinstance(vectors, ProductVectors):
        return ProductScan(vectors)
    if isinstance(vectors, LowRankVectors):
        return LowRankScan(vectors)
    if isinstance(vectors, SharedVectors):
        return SharedScan(vectors)
    return DecodedScan(vectors)


def norms_of(queries_BD: F32) -> F64:
    return np.asarray(np.sqrt(np.square(queries_BD.astype(np.float64)).sum(axis=1)))
