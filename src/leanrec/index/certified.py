"""An int8 scan whose rows carry a bound on their error, then exact rescoring of the few rows that may still win.

With x = x^ + r (codes and residual) and q = q^ + e: |q.x - q^.x^| <= ||q|| ||r|| + ||e|| ||x^||. At D = 64 a row is
64 bytes of codes, 4 of scale and 1 of residual norm: 69 instead of 256. The full rows stay where they are, mapped on
disk if need be, and only the kept rows are read.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.index.bounded import BoundedIndex, Exclusions, frozen
from leanrec.kernels.scan import LEVELS, int8_bounds_reference, quantize_rows, scan_int8, scan_int8_parallel
from leanrec.kernels.topk import State

__all__ = ["CertifiedInt8Index"]

_WORTH_THREADS = 4 << 20  # bytes of codes below which starting threads costs more than it saves


def _encode(queries_BD: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """(B, D) int16 codes, and (B, 3) unit, slope and offset of the radius for `int8_bounds`.

    The codes leave room for the int32 sum: D * 127 * top < 2**31.
    """
    dim = queries_BD.shape[1]
    top = min(32767, (2**31 - 1) // (127 * dim))
    wide_BD = queries_BD.astype(np.float64)
    largest_B = np.abs(wide_BD).max(axis=1)
    unit_B = np.where(largest_B > 0, largest_B / top, 1.0)
    coded_BD = np.clip(np.rint(wide_BD / unit_B[:, None]), -top, top)
    norm_B = np.sqrt(np.square(wide_BD).sum(axis=1))
    error_B = np.sqrt(np.square(wide_BD - unit_B[:, None] * coded_BD).sum(axis=1))
    size_B = unit_B * np.sqrt(np.square(coded_BD).sum(axis=1))
    longest = 127 * math.sqrt(dim)  # of a row of codes
    # The last term covers rounding: of the answered score to float32, and of these bounds in float64.
    slope_B = norm_B * math.sqrt(dim) / 2 / LEVELS * (1 + 3e-6)
    offset_B = longest * (error_B * (1 + 1e-6) + 2.0**-22 * size_B)
    return coded_BD.astype(np.int16), np.stack([unit_B, slope_B, offset_B], axis=1)


class CertifiedInt8Index(BoundedIndex):
    """int8 codes, float32 scales and uint8 residual norms beside the float32 table they stand for."""

    name = "certified-int8"
    per_row: ClassVar = {"codes": "codes_ND", "scales": "scales_N", "levels": "levels_N"}

    def __init__(
        self,
        items_ND: npt.NDArray[np.float32],
        codes_ND: npt.NDArray[np.int8],
        scales_N: npt.NDArray[np.float32],
        levels_N: npt.NDArray[np.uint8],
    ) -> None:
        assert items_ND.ndim == 2 and codes_ND.shape == items_ND.shape, "one code per value"
        assert scales_N.shape == levels_N.shape == items_ND.shape[:1], "one scale and one level per row"
        self.items_ND = frozen(items_ND, np.float32)
        self.codes_ND = frozen(codes_ND, np.int8)
        self.scales_N = frozen(scales_N, np.float32)
        self.levels_N = frozen(levels_N, np.uint8)

    @classmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        codes, scales, levels = quantize_rows(items_MD)
        return {"codes_ND": codes, "scales_N": scales, "levels_N": levels}

    @property
    def bytes_scanned(self) -> int:
        return self.codes_ND.nbytes + self.scales_N.nbytes + self.levels_N.nbytes

    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        coded_BD, facts_B3 = _encode(query_D[None])
        return int8_bounds_reference(self.codes_ND, self.scales_N, self.levels_N, coded_BD[0], facts_B3[0])

    def scans(self, batch: int) -> int:
        return int(numba.get_num_threads()) if self.codes_ND.nbytes >= _WORTH_THREADS else 1

    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        coded_BD, facts_B3 = _encode(queries_BD)
        run = scan_int8 if len(state.heaps_SBK) == 1 else scan_int8_parallel
        run(
            state, self.codes_ND, self.scales_N, self.levels_N, coded_BD, facts_B3, self.items_ND, queries_BD,
            skip.rows_E, skip.offsets, skip.allowed_N,
        )  # fmt: skip
