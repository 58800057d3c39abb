"""Scores of item vectors as they are kept, right up to one radius a query: what `coded` scans, block by block.

- 8, 6, 5, 4 or 2 bits: codes times a query of 16 bits in whole numbers, then scale and offset of the row;
- product codes: the query's scores of all M x 256 pieces, then M look-ups a row (the sub-id trick of RecJPQ);
- factors in a basis: the query is taken into the basis, and the factors are scored by their own kind;
- vectors that rows share: each vector once, by its own kind, then one look-up a row;
- any other, and for some of these many queries at a time: blocks are decoded and multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.index.vectors import Float32Vectors, ItemVectors
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import ProductVectors
from leanrec.index.vectors.rowwise import RowwiseVectors
from leanrec.index.vectors.shared import SharedVectors
from leanrec.kernels.candidates import BLOCK
from leanrec.kernels.code_dots import query_codes
from leanrec.kernels.nibbles import FAST
from leanrec.kernels.product import score_product, score_product_parallel
from leanrec.kernels.rowwise import score_codes, score_codes_parallel
from leanrec.kernels.scan import score_blocks, score_blocks_parallel
from leanrec.kernels.topk import row_norms

__all__ = ["TINY", "UNIT", "DecodedScan", "Scan", "norms_of", "scan_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
UNIT = 2.0**-24
TINY = 2.0**-120
_WORTH_THREADS = 4 << 20  # bytes of codes, for all queries, below which starting threads costs more than it saves


class Scan(ABC):
    """Scores of blocks of BLOCK consecutive rows for queries, each right up to the radius of its query."""

    longest: float
    """At least the norm of every decoded row."""
    decode_from: int = 8
    """Queries from which decoding blocks once and multiplying is quicker than scanning for each."""

    @abstractmethod
    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        """What `score` reads of the queries (arrays by query, in a tuple), and (B,) how far its scores are from exact
        products at most."""

    @abstractmethod
    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        """(B, BLOCK M) scores of the rows of blocks for every query; -inf behind the last row."""


class DecodedScan(Scan):
    """Blocks of decoded rows by matrix product; gamma_D |q| |x| bounds the rounding in whatever order BLAS sums."""

    def __init__(self, vectors: ItemVectors, longest: float | None = None) -> None:
        self._vectors = vectors
        norms = [float(row_norms(rows).max()) for _, rows in vectors.blocks() if longest is None and len(rows)]
        self.longest = float(np.max(norms, initial=0.0)) if longest is None else longest

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        dim = queries_BD.shape[1]
        gamma = dim * UNIT / (1 - dim * UNIT)
        return (queries_BD,), gamma * 1.001 * norms_of(queries_BD) * self.longest + (dim + 2) * TINY

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        if not len(blocks_M):
            return
        if bool((np.diff(blocks_M) == 1).all()):
            low = BLOCK * int(blocks_M[0])
            rows_nD = self._vectors.block(low, min(low + out_Bn.shape[1], len(self._vectors)))
            np.matmul(prepared[0], rows_nD.T, out=out_Bn[:, : len(rows_nD)])
            out_Bn[:, len(rows_nD) :] = -np.inf
        else:
            rows_n, behind_n = _rows_of(blocks_M, len(self._vectors))
            np.matmul(prepared[0], self._vectors.gather(rows_n).T, out=out_Bn)
            out_Bn[:, behind_n] = -np.inf


class PlainScan(DecodedScan):
    """Few queries over float32 rows as they stand, in any order of sums."""

    def __init__(self, vectors: Float32Vectors, longest: float | None = None) -> None:
        super().__init__(vectors, longest)
        self._table_ND = vectors.table_ND

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        run = score_blocks_parallel if 4 * out_Bn.size * self._table_ND.shape[1] >= _WORTH_THREADS else score_blocks
        run(self._table_ND, prepared[0], blocks_M, out_Bn)


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

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        own, (coded_BEW, facts_B2) = self._vectors, prepared
        run = score_codes_parallel if out_Bn.size * own.codes_NW.shape[1] >= _WORTH_THREADS else score_codes
        run(own.codes_NW, own.scales_N, own.offsets_N, own.bits, coded_BEW, facts_B2, blocks_M, out_Bn)


class ProductScan(Scan):
    """M look-ups a row in the query's scores of all pieces."""

    def __init__(self, vectors: ProductVectors) -> None:
        self._vectors = vectors
        self._squares_MC = np.square(vectors.pieces_MCW.astype(np.float64)).sum(axis=2)
        self._size = float(np.abs(vectors.levels_S).max())
        self.longest = self._size * float(np.sqrt(self._squares_MC.max(axis=1, initial=0).sum())) * (1 + 1e-6)

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
        return (self.partial(queries_BD),), radius_B + (width + splits + 4) * max(self._size, 1.0) * TINY

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        own, (partial_BMC,) = self._vectors, prepared
        run = score_product_parallel if out_Bn.size * own.codes_NM.shape[1] >= _WORTH_THREADS else score_product
        run(own.codes_NM, own.sizes_N, own.levels_S, partial_BMC, blocks_M, out_Bn)


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

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        self._inner.score(prepared, blocks_M, out_Bn)


class SharedScan(Scan):
    """Each vector once, as its kind is scanned, and then by the map."""

    def __init__(self, vectors: SharedVectors) -> None:
        self._inner, self._place_N = scan_of(vectors.distinct), vectors.place_N
        self._blocks_M = np.arange(-(-len(vectors.distinct) // BLOCK), dtype=np.int32)
        self.longest = self._inner.longest

    def prepare(self, queries_BD: F32) -> tuple[Any, F64]:
        prepared, radius_B = self._inner.prepare(queries_BD)
        scores_BC = np.empty((len(queries_BD), BLOCK * len(self._blocks_M)), np.float32)
        self._inner.score(prepared, self._blocks_M, scores_BC)
        return (scores_BC,), radius_B

    def score(self, prepared: Any, blocks_M: I32, out_Bn: F32) -> None:
        rows_n, behind_n = _rows_of(blocks_M, len(self._place_N))
        out_Bn[:] = prepared[0][:, self._place_N[rows_n]]
        out_Bn[:, behind_n] = -np.inf


def scan_of(vectors: ItemVectors, longest: float | None = None) -> Scan:
    """The scan for a kind of vectors. longest: at least the norm of every row, where it is known."""
    if isinstance(vectors, Float32Vectors):
        return PlainScan(vectors, longest)
    if isinstance(vectors, RowwiseVectors):
        return RowwiseScan(vectors)
    if isinstance(vectors, ProductVectors):
        return ProductScan(vectors)
    if isinstance(vectors, LowRankVectors):
        return LowRankScan(vectors)
    if isinstance(vectors, SharedVectors):
        return SharedScan(vectors)
    return DecodedScan(vectors, longest)


def _rows_of(blocks_M: I32, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The rows of blocks, the last row for places behind it, and which places these are."""
    rows_n = (BLOCK * blocks_M[:, None].astype(np.int64) + np.arange(BLOCK)).reshape(-1)
    return np.minimum(rows_n, size - 1), rows_n >= size


def norms_of(queries_BD: F32) -> F64:
    return np.asarray(np.sqrt(np.square(queries_BD.astype(np.float64)).sum(axis=1)))
