"""Codes of a row rounded one after the other, each making up for what those before it missed.

With a metric M an error e of a row costs e^T M e. Let M = U^T diag(g) U with U unit upper triangular: the cost is
sum_d g_d (e_d + sum_{j > d} U_dj e_j)^2. From the last value to the first, each is rounded where its own square is
smallest, given the errors of those after it ("LDLQ": Chee et al. 2023, QuIP; the same as GPTQ, Frantar et al. 2023).
Scale and offset of the row are those of least cost among clipped ranges, each refined by least squares under M.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_parallel, prange
from leanrec.kernels.rowwise import nearest_half, put_code

__all__ = ["encode_rows_by", "round_row_reference", "triangular"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_TRIES = 8
_NARROWEST = 0.5


def triangular(metric_DD: F64) -> tuple[F64, F64]:
    """(D, D) U^T, unit lower triangular, and (D,) g > 0 of a positive definite metric."""
    lower_DD = np.linalg.cholesky(metric_DD)
    sizes_D = np.diag(lower_DD)
    return np.ascontiguousarray(lower_DD / sizes_D), np.square(sizes_D)


@jit
def _round(
    row_D: Any, lower_DD: Any, weights_D: Any, scale: Any, offset: Any, top: Any, codes_D: Any, owed_D: Any
) -> Any:
    """Fill the codes; the cost."""
    inverse, cost = 1.0 / scale if scale > 0 else 0.0, 0.0
    owed_D[:] = 0.0
    for d in range(len(row_D) - 1, -1, -1):
        codes_D[d] = min(max(np.rint((row_D[d] - owed_D[d] - offset) * inverse), 0.0), top)
        missed = offset + scale * codes_D[d] - row_D[d]
        cost += weights_D[d] * (missed + owed_D[d]) ** 2
        for j in range(d):
            owed_D[j] += lower_DD[d, j] * missed
    return cost


@jit
def _times(metric_DD: Any, values_D: Any, out_D: Any) -> Any:
    """out = metric @ values, for a symmetric metric."""
    out_D[:] = 0.0
    for d in range(len(values_D)):
        for j in range(len(values_D)):
            out_D[j] += metric_DD[d, j] * values_D[d]


@jit
def _refit(metric_DD: Any, ones_D: Any, seen_D: Any, codes_D: Any, work_D: Any, scale: Any, offset: Any) -> Any:
    """Scale and offset of least cost for the codes. ones, seen: the metric times 1 and times the row."""
    _times(metric_DD, codes_D, work_D)
    oo, oc, cc, ox, cx = 0.0, 0.0, 0.0, 0.0, 0.0
    for d in range(len(codes_D)):
        oo += ones_D[d]
        oc += work_D[d]
        cc += codes_D[d] * work_D[d]
        ox += seen_D[d]
        cx += codes_D[d] * seen_D[d]
    spread = oo * cc - oc * oc
    if spread <= 1e-12 * oo * cc:
        return scale, offset
    slope = (oo * cx - oc * ox) / spread
    return (slope, (ox * cc - oc * cx) / spread) if slope > 0 else (scale, offset)


@jit_parallel
def encode_rows_by(
    table_ND: F32, metric_DD: F64, lower_DD: F64, weights_D: F64, bits: int, codes_NW: npt.NDArray[np.uint8],
    scales_N: npt.NDArray[np.uint16], offsets_N: npt.NDArray[np.uint16],
) -> None:  # fmt: skip
    """As `rowwise.encode_rows`, under a metric and its `triangular` parts."""
    size, dim = table_ND.shape
    top = np.float64((1 << bits) - 1)
    ones_D = metric_DD.sum(axis=0)
    for n in prange(size):
        single = np.zeros(1, np.float32)
        box = (single, single.view(np.uint32))
        row_D = table_ND[n].astype(np.float64)
        codes_D, seen_D, work_D, best_D = np.zeros(dim), np.zeros(dim), np.zeros(dim), np.zeros(dim)
        _times(metric_DD, row_D, seen_D)
        low, high = row_D.min(), row_D.max()
        best, best_scale, best_offset = np.inf, 0.0, nearest_half(box, (low + high) / 2)
        for step in range(_TRIES if high > low else 1):
            width = (high - low) / 2 * (1.0 - (1.0 - _NARROWEST) * step / (_TRIES - 1))
            scale, offset = 2 * width / top, (low + high) / 2 - width
            for _ in range(2):
                rounded, start = nearest_half(box, scale), nearest_half(box, offset)
                cost = _round(row_D, lower_DD, weights_D, rounded, start, top, codes_D, work_D)
                if cost < best:
                    best, best_scale, best_offset = cost, rounded, start
                    best_D[:] = codes_D
                scale, offset = _refit(metric_DD, ones_D, seen_D, codes_D, work_D, scale, offset)
        for d in range(dim):
            put_code(codes_NW[n], bits, d, best_D[d])
        single[0] = np.float32(best_scale)
        scales_N[n] = np.uint16(box[1][0] >> np.uint32(16))
        single[0] = np.float32(best_offset)
        offsets_N[n] = np.uint16(box[1][0] >> np.uint32(16))


def round_row_reference(row_D: F64, metric_DD: F64, scale: float, offset: float, top: int) -> npt.NDArray[np.uint8]:
    """(D,) codes of a row under a known range, in NumPy, from the metric itself: from the last value to the first the
    code that costs least when those before it, not rounded yet, are free to make up for it."""
    dim = len(row_D)
    codes_D, error_D = np.zeros(dim, np.uint8), np.zeros(dim)
    for d in range(dim - 1, -1, -1):
        # Free errors of 0 .. d - 1 leave the Schur complement of the metric on d ..
        free, rest = metric_DD[:d, :d], metric_DD[d:, d:]
        cross = metric_DD[:d, d:]
        left = rest - (cross.T @ np.linalg.solve(free, cross) if d else 0.0)
        owed = float(left[0, 1:] @ error_D[d + 1 :]) / float(left[0, 0])
        code = (row_D[d] - owed - offset) / scale if scale > 0 else 0.0
        codes_D[d] = int(min(max(np.rint(code), 0), top))
        error_D[d] = offset + scale * codes_D[d] - row_D[d]
    return codes_D
