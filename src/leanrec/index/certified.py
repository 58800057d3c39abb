"""An int8 scan whose rows carry a bound on their error, then exact rescoring of the few rows that may still win.

With x = x^ + r (codes and residual) and q = q^ + e: |q.x - q^.x^| <= ||q^|| ||r|| + ||e|| ||x||. At D = 64 a row is
64 bytes of codes, 4 of scale, 4 of place and 1 of residual norm: 73 instead of 256. The codes stand by falling norm,
and a query is done when ||q|| ||x|| can no longer win. The full rows stay where they are, mapped on disk if need be,
and only the kept rows are read.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.index.bounded import BoundedIndex, Exclusions, NormedIndex, frozen, longest_of
from leanrec.kernels.panel_scan import BLOCK, REST, panel_bounds_reference, scan_panels, scan_panels_parallel
from leanrec.kernels.panels import PANEL, as_panels, by_row, groups_of
from leanrec.kernels.queries import coded_queries
from leanrec.kernels.scan import quantize_rows
from leanrec.kernels.topk import State, row_norms

__all__ = ["CertifiedInt8Index"]

_WORTH_THREADS = 4 << 20  # bytes of codes times queries below which starting threads costs more than it saves
_SHARED = 8  # queries for each thread from which they are shared out, and not the rows
_MAX_DIM = 65536


class CertifiedInt8Index(NormedIndex):
    """int8 codes, float32 scales and uint8 residual norms beside the float32 table they stand for.

    codes_MG: 32 rows together (see `kernels.panels`). longest_J: norms of 512 rows at most.
    """

    name = "certified-int8"
    per_row: ClassVar = {"scales": "scales_N", "levels": "levels_N", "order": "order_N"}
    per_block: ClassVar = {"codes": ("codes_MG", PANEL), "longest": ("longest_J", BLOCK)}

    def __init__(
        self,
        items_ND: npt.NDArray[np.float32],
        codes_MG: npt.NDArray[np.uint8],
        scales_N: npt.NDArray[np.float32],
        levels_N: npt.NDArray[np.uint8],
        longest_J: npt.NDArray[np.float32],
        order_N: npt.NDArray[np.int32],
    ) -> None:
        size, dim = items_ND.shape
        assert codes_MG.shape == (-(-size // PANEL), groups_of(dim), PANEL, 4), "32 rows together"
        assert scales_N.shape == levels_N.shape == order_N.shape == (size,), "one scale, level and place per row"
        assert longest_J.shape == (-(-size // BLOCK),), "one norm a block"
        if dim > _MAX_DIM:  # sums of the scan are int32
            raise InputError(f"{self.name} scans vectors of {_MAX_DIM:,} values at most, not {dim:,}: use 'exact'")
        self.items_ND = frozen(items_ND, np.float32)
        self.codes_MG = frozen(codes_MG, np.uint8)
        self.scales_N, self.levels_N = frozen(scales_N, np.float32), frozen(levels_N, np.uint8)
        self._stand(longest_J, order_N)

    @classmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        norms_M = row_norms(items_MD)
        order_M = np.argsort(-norms_M, kind="stable").astype(np.int32)
        norms_M, items_MD = norms_M[order_M], items_MD[order_M]
        codes_MD, scales, levels = quantize_rows(items_MD)
        if isinstance(after, cls):  # the rows of the last, unfinished blocks come again
            before, dim = len(after.items_ND), items_MD.shape[1]
            order_M += np.int32(before)
            again_nD = by_row(after.codes_MG[before // PANEL :])[: before % PANEL, :dim]
            codes_MD = np.concatenate([again_nD, codes_MD])
        return {
            "codes_MG": as_panels(codes_MD), "scales_N": scales, "levels_N": levels,
            "longest_J": longest_of(norms_M, BLOCK, after if isinstance(after, cls) else None), "order_N": order_M,
        }  # fmt: skip

    @property
    def bytes_scanned(self) -> int:
        return self.codes_MG.nbytes + self.scales_N.nbytes + self.levels_N.nbytes + self.longest_J.nbytes

    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        size, dim = self.items_ND.shape
        coded_B2D, facts_B7 = coded_queries(query_D[None], dim, REST, REST)
        longest_N = np.repeat(self.longest_J, BLOCK)[:size]
        codes_ND = by_row(self.codes_MG)[:size, :dim]
        found = panel_bounds_reference(codes_ND, self.scales_N, self.levels_N, longest_N, coded_B2D[0], facts_B7[0])
        lower_N, upper_N = self.by_row(*found)
        return lower_N, upper_N

    def scans(self, batch: int) -> int:
        threads = int(numba.get_num_threads())
        return threads if self.codes_MG.nbytes >= _WORTH_THREADS and batch < _SHARED * threads else 1

    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        batch, scans = len(queries_BD), len(state.heaps_SBK)
        coded_B2D, facts_B7 = coded_queries(queries_BD, 4 * self.codes_MG.shape[1], REST, REST)
        rough_BG, fine_BG = (np.ascontiguousarray(coded_B2D[:, part], np.int8) for part in (0, 1))
        asked = rough_BG, fine_BG, 128 * coded_B2D.sum(axis=2), facts_B7, queries_BD
        table = (
            self.codes_MG, self.scales_N, self.levels_N, self.order_N, self.longest_J, self.rest_J, self.items_ND,
        )  # fmt: skip
        threads = int(numba.get_num_threads())
        worth = self.codes_MG.nbytes * batch >= _WORTH_THREADS and batch >= _SHARED * threads
        parts = threads if scans == 1 and worth else 1
        run = scan_panels if max(scans, parts) == 1 else scan_panels_parallel
        run(state, parts, table, asked, skip.rows_E, skip.offsets, skip.allowed_N)
