"""Two planes of 4-bit codes: the first is read for all rows, the second for rows that it leaves open, then full rows.

At D = 128 a row costs 64 bytes of first plane, 4 of scale and 1 of residual level: 69 instead of 512. The threshold
that a row's first bound has to reach comes from bounds by both planes, so it is as sharp as that of an int8 scan: of a
million Gaussian rows some 1 % are read again where comparing bounds of the first plane with each other leaves 14 %.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.index.bounded import BoundedIndex, Exclusions, frozen
from leanrec.kernels.nibbles import ROWS, groups_of, spread_query
from leanrec.kernels.planes import (
    BLOCK,
    HIGH_REST,
    LOW_REST,
    pack_planes,
    plane_bounds_reference,
    scan_planes,
    scan_planes_parallel,
)
from leanrec.kernels.queries import coded_queries
from leanrec.kernels.topk import State, row_norms

__all__ = ["CertifiedInt4Index", "asked_of"]

_WORTH_THREADS = 4 << 20  # bytes of codes below which starting threads costs more than it saves
_MAX_DIM = 8192
_SAME = frozen(np.empty(0, np.int32), np.int32)  # rows stand where their numbers say


def asked_of(queries_BD: npt.NDArray[np.float32], half: int) -> tuple[npt.NDArray[Any], ...]:
    """What the kernels want to know of queries, against rows of `half` bytes a plane."""
    coded_B2D, facts_B7 = coded_queries(queries_BD, 2 * half, HIGH_REST, LOW_REST)
    whole_BD = 128 * coded_B2D[:, 0] + coded_B2D[:, 1]
    sums_B3 = 8 * np.stack([coded_B2D[:, 0].sum(axis=1), coded_B2D[:, 1].sum(axis=1), whole_BD.sum(axis=1)], axis=1)
    rough, fine = (spread_query(coded_B2D[:, part], half // 4) for part in (0, 1))
    return rough, fine, whole_BD.astype(np.int16).reshape(-1, 2, half), sums_B3, facts_B7, queries_BD


class CertifiedInt4Index(BoundedIndex):
    """Two planes of 4-bit codes, float32 scales and uint8 residual levels beside the float32 table.

    high_MG84: the first plane, eight rows together (see `kernels.nibbles`). longest_J: norms of 512 rows at most.
    """

    name = "certified-int4"
    per_row: ClassVar = {"low": "low_NH", "scales": "scales_N", "levels": "levels_N", "fine": "fine_N"}
    per_block: ClassVar = {"high": ("high_MG84", ROWS), "longest": ("longest_J", BLOCK)}

    def __init__(
        self,
        items_ND: npt.NDArray[np.float32],
        high_MG84: npt.NDArray[np.uint8],
        low_NH: npt.NDArray[np.uint8],
        scales_N: npt.NDArray[np.float32],
        levels_N: npt.NDArray[np.uint8],
        fine_N: npt.NDArray[np.uint8],
        longest_J: npt.NDArray[np.float32],
    ) -> None:
        size, dim = items_ND.shape
        groups = groups_of(dim)
        assert high_MG84.shape == (-(-size // ROWS), groups, ROWS, 4), "eight rows together"
        assert low_NH.shape == (size, 4 * groups), "two codes a byte"
        assert scales_N.shape == levels_N.shape == fine_N.shape == (size,), "one scale and two levels a row"
        assert longest_J.shape == (-(-size // BLOCK),), "one norm a block"
        if dim > _MAX_DIM:  # sums of the scan are int32
            raise InputError(f"{self.name} scans vectors of {_MAX_DIM:,} values at most, not {dim:,}: use 'exact'")
        self.items_ND = frozen(items_ND, np.float32)
        self.high_MG84, self.low_NH = frozen(high_MG84, np.uint8), frozen(low_NH, np.uint8)
        self.scales_N, self.longest_J = frozen(scales_N, np.float32), frozen(longest_J, np.float32)
        self.levels_N, self.fine_N = frozen(levels_N, np.uint8), frozen(fine_N, np.uint8)

    @classmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        groups = groups_of(items_MD.shape[1])
        high_NH, low, scales, levels, fine = pack_planes(items_MD, 4 * groups)
        norms_N = row_norms(items_MD)
        if isinstance(after, cls):  # the rows of the last, unfinished blocks come again
            before = len(after.items_ND)
            high_NH = np.concatenate([_by_row(after.high_MG84[before // ROWS :])[: before % ROWS], high_NH])
            norms_N = np.concatenate([np.repeat(after.longest_J[before // BLOCK :], before % BLOCK), norms_N])
        starts = np.arange(0, len(norms_N), BLOCK)
        high_NH = np.pad(high_NH, ((0, -len(high_NH) % ROWS), (0, 0)))
        together = np.ascontiguousarray(high_NH.reshape(-1, ROWS, groups, 4).transpose(0, 2, 1, 3))
        longest = np.maximum.reduceat(norms_N, starts) if len(norms_N) else np.empty(0, np.float32)
        return {
            "high_MG84": together, "low_NH": low, "scales_N": scales, "levels_N": levels, "fine_N": fine,
            "longest_J": longest,
        }  # fmt: skip

    @property
    def bytes_scanned(self) -> int:
        return self.high_MG84.nbytes + self.scales_N.nbytes + self.levels_N.nbytes

    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        size = len(self.items_ND)
        coded_B2D, facts_B7 = coded_queries(query_D[None], 2 * self.low_NH.shape[1], HIGH_REST, LOW_REST)
        longest_N = np.repeat(self.longest_J, BLOCK)[:size]
        return plane_bounds_reference(
            _by_row(self.high_MG84)[:size], self.low_NH, self.scales_N, self.levels_N, self.fine_N, longest_N,
            coded_B2D[0], facts_B7[0],
        )  # fmt: skip

    def table(self) -> tuple[npt.NDArray[Any], ...]:
        """What the kernels want to know of the rows."""
        return (
            self.high_MG84, self.low_NH, self.scales_N, self.levels_N, self.fine_N, self.longest_J, self.items_ND, _SAME
        )  # fmt: skip

    def scans(self, batch: int) -> int:
        return int(numba.get_num_threads()) if self.high_MG84.nbytes >= _WORTH_THREADS else 1

    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        asked = asked_of(queries_BD, self.low_NH.shape[1])
        run = scan_planes if len(state.heaps_SBK) == 1 else scan_planes_parallel
        run(state, self.table(), asked, skip.rows_E, skip.offsets, skip.allowed_N)


def _by_row(high_MG84: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(8 M, H) codes of the first plane row by row."""
    return high_MG84.transpose(0, 2, 1, 3).reshape(len(high_MG84) * ROWS, 4 * high_MG84.shape[1])
