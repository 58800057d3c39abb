"""Two planes of 4-bit codes: the first is read for all rows, the second for rows that it leaves open, then full rows.

At D = 128 a row costs 64 bytes of first plane, 4 of scale and 1 of residual level: 69 instead of 512. The threshold
that a row's first bound has to reach comes from bounds by both planes, so it is as sharp as that of an int8 scan: of a
million Gaussian rows some 1 % are read again where comparing bounds of the first plane with each other leaves 14 %.
The codes stand by falling norm: what the longest rows score says from where on none is long enough to win, and those
are not read at all.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.index.bounded import BoundedIndex, Exclusions, NormedIndex, frozen, longest_of
from leanrec.index.norm_order import blocks_from, norms_differ
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
_FIRST = 16  # blocks that are scanned before it is asked which others may hold a row that wins
_PACKED = 1 << 18  # rows that are copied to their places at a time


def asked_of(queries_BD: npt.NDArray[np.float32], half: int) -> tuple[npt.NDArray[Any], ...]:
    """What the kernels want to know of queries, against rows of `half` bytes a plane."""
    coded_B2D, facts_B7 = coded_queries(queries_BD, 2 * half, HIGH_REST, LOW_REST)
    whole_BD = 128 * coded_B2D[:, 0] + coded_B2D[:, 1]
    sums_B3 = 8 * np.stack([coded_B2D[:, 0].sum(axis=1), coded_B2D[:, 1].sum(axis=1), whole_BD.sum(axis=1)], axis=1)
    rough, fine = (spread_query(coded_B2D[:, part], half // 4) for part in (0, 1))
    return rough, fine, whole_BD.astype(np.int16).reshape(-1, 2, half), sums_B3, facts_B7, queries_BD


class CertifiedInt4Index(NormedIndex):
    """Two planes of 4-bit codes, float32 scales and uint8 residual levels beside the float32 table.

    high_MG84: the first plane, eight rows together (see `kernels.nibbles`). longest_J: norms of 512 rows at most.
    """

    name = "certified-int4"
    per_row: ClassVar = {
        "low": "low_NH", "scales": "scales_N", "levels": "levels_N", "fine": "fine_N", "order": "order_N",
    }  # fmt: skip
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
        order_N: npt.NDArray[np.int32],
    ) -> None:
        size, dim = items_ND.shape
        groups = groups_of(dim)
        assert high_MG84.shape == (-(-size // ROWS), groups, ROWS, 4), "eight rows together"
        assert low_NH.shape == (size, 4 * groups), "two codes a byte"
        assert scales_N.shape == levels_N.shape == fine_N.shape == order_N.shape == (size,), "scale, levels, place"
        assert longest_J.shape == (-(-size // BLOCK),), "one norm a block"
        if dim > _MAX_DIM:  # sums of the scan are int32
            raise InputError(f"{self.name} scans vectors of {_MAX_DIM:,} values at most, not {dim:,}: use 'exact'")
        self.items_ND = frozen(items_ND, np.float32)
        self.high_MG84, self.low_NH = frozen(high_MG84, np.uint8), frozen(low_NH, np.uint8)
        self.scales_N, self.levels_N = frozen(scales_N, np.float32), frozen(levels_N, np.uint8)
        self.fine_N = frozen(fine_N, np.uint8)
        self._stand(longest_J, order_N)
        self._early = len(longest_J) > _FIRST and norms_differ(longest_J)

    @classmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        order_M = np.argsort(-row_norms(items_MD), kind="stable").astype(np.int32)
        return cls.placed(items_MD, order_M, after)

    @classmethod
    def placed(
        cls,
        items_MD: npt.NDArray[np.float32],
        order_M: npt.NDArray[np.int32],
        after: BoundedIndex | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """`encoded`, with rows in an order of their own."""
        groups = groups_of(items_MD.shape[1])
        packed = [
            pack_planes(items_MD[order_M[first : first + _PACKED]], 4 * groups)
            for first in range(0, max(len(order_M), 1), _PACKED)
        ]
        high_NH, low, scales, levels, fine = (np.concatenate(parts) for parts in zip(*packed, strict=True))
        longest = longest_of(row_norms(items_MD)[order_M], BLOCK, after if isinstance(after, cls) else None)
        if isinstance(after, cls):  # the rows of the last, unfinished blocks come again
            before = len(after.items_ND)
            order_M = order_M + np.int32(before)
            high_NH = np.concatenate([_by_row(after.high_MG84[before // ROWS :])[: before % ROWS], high_NH])
        high_NH = np.pad(high_NH, ((0, -len(high_NH) % ROWS), (0, 0)))
        together = np.ascontiguousarray(high_NH.reshape(-1, ROWS, groups, 4).transpose(0, 2, 1, 3))
        return {
            "high_MG84": together, "low_NH": low, "scales_N": scales, "levels_N": levels, "fine_N": fine,
            "longest_J": longest, "order_N": order_M,
        }  # fmt: skip

    @property
    def bytes_scanned(self) -> int:
        return self.high_MG84.nbytes + self.scales_N.nbytes + self.levels_N.nbytes

    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        size = len(self.items_ND)
        coded_B2D, facts_B7 = coded_queries(query_D[None], 2 * self.low_NH.shape[1], HIGH_REST, LOW_REST)
        longest_N = np.repeat(self.longest_J, BLOCK)[:size]
        found = plane_bounds_reference(
            _by_row(self.high_MG84)[:size], self.low_NH, self.scales_N, self.levels_N, self.fine_N, longest_N,
            coded_B2D[0], facts_B7[0],
        )  # fmt: skip
        lower_N, upper_N = self.by_row(*found)
        return lower_N, upper_N

    def table(self) -> tuple[npt.NDArray[Any], ...]:
        """What the kernels want to know of the rows."""
        return (
            self.high_MG84, self.low_NH, self.scales_N, self.levels_N, self.fine_N, self.longest_J, self.items_ND,
            self.order_N,
        )  # fmt: skip

    def scans(self, batch: int) -> int:
        return int(numba.get_num_threads()) if self.high_MG84.nbytes >= _WORTH_THREADS else 1

    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        asked = asked_of(queries_BD, self.low_NH.shape[1])
        blocks, low, floors_B = len(self.longest_J), 0, np.full(len(queries_BD), -np.inf)
        if self._early:
            low = _FIRST
            scan_planes(state, self.table(), asked, 0, low, floors_B, skip.rows_E, skip.offsets, skip.allowed_N)
            floors_B = state.heaps_SBK[0, :, 0].copy()
            blocks = max(self._needed(asked[4][:, 6], floors_B), low)
        if low < blocks:
            run = scan_planes if len(state.heaps_SBK) == 1 else scan_planes_parallel
            run(state, self.table(), asked, low, blocks, floors_B, skip.rows_E, skip.offsets, skip.allowed_N)

    def _needed(self, norms_B: npt.NDArray[np.float64], floors_B: npt.NDArray[np.float64]) -> int:
        """Blocks up to the last one with a row so long that it may reach the floor of a query."""
        with np.errstate(divide="ignore", invalid="ignore"):
            least_B = np.where(norms_B > 0, (floors_B - 1e-43) / norms_B * (1 - 1e-12), -np.inf)
        return blocks_from(self.rest_J, float(least_B.min()))


def _by_row(high_MG84: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(8 M, H) codes of the first plane row by row."""
    return high_MG84.transpose(0, 2, 1, 3).reshape(len(high_MG84) * ROWS, 4 * high_MG84.shape[1])
