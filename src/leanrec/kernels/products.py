"""Products of activations and packed weights, in float32 or in int16 fixed point, without a call to BLAS.

In fixed point a weight row is scale * code and an activation row unit * code, both with as many bits as the sums leave:
the absolute sum of a weight row's codes times the largest activation code stays below 2 ** 31, so no sum can leave
int32, whatever comes. That is 11 to 13 bits a side for widths from 64 to 1,024: errors near 3e-4 of a product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from leanrec.kernels.exponential import float_of
from leanrec.kernels.jit import jit, jit_fast
from leanrec.kernels.tiles import LANES, ROWS, tile1, tile6

__all__ = ["Packed", "code_rows", "code_rows_reference", "pack", "padded", "product", "product_reference", "some"]

F32 = npt.NDArray[np.float32]


class Packed(NamedTuple):
    """One matrix (O, K) for `product`: its outputs padded to whole panels, each panel step by step.

    weights: flat float32, or int16 in pairs. scales, biases: (padded outputs,). steps: values or pairs of a row of
    activations. top: the largest code of an activation; 0 in float32.
    """

    weights: npt.NDArray[Any]
    scales: F32
    biases: F32
    steps: int
    top: int


def padded(width: int) -> int:
    """Up to whole panels."""
    return -(-width // LANES) * LANES


def pack(weight_OK: F32, bias_O: F32, parts: int = 1, *, fixed: bool = False) -> Packed:
    """A dense layer's weight and bias, made ready; its outputs in `parts` of equal width, each padded to panels."""
    outputs, width = weight_OK.shape
    each, room = outputs // parts, padded(outputs // parts)
    whole_OK = np.zeros((parts, room, width), np.float32)
    whole_OK[:, :each] = weight_OK.reshape(parts, each, width)
    biases = np.zeros((parts, room), np.float32)
    biases[:, :each] = bias_O.reshape(parts, each)
    rows_OK = whole_OK.reshape(parts * room, width)
    if not fixed:
        lines = rows_OK.reshape(-1, LANES, width).transpose(0, 2, 1)
        return Packed(np.ascontiguousarray(lines).ravel(), np.ones(len(rows_OK), np.float32), biases.ravel(), width, 0)
    codes_OK, scales_O, top = _fixed(rows_OK)
    codes_OK = np.pad(codes_OK, ((0, 0), (0, width % 2)))
    panels = codes_OK.reshape(-1, LANES, (width + 1) // 2, 2).transpose(0, 2, 1, 3)
    return Packed(np.ascontiguousarray(panels).ravel(), scales_O, biases.ravel(), (width + 1) // 2, top)


def _fixed(rows_OK: F32) -> tuple[npt.NDArray[np.int16], F32, int]:
    """Codes, scales, and the largest code that activations may have; bits are shared out evenly."""
    largest_O = np.abs(rows_OK).max(axis=1, initial=0)
    safe_O = np.where(largest_O > 0, largest_O, 1).astype(np.float32)
    spread = max(1.0, float((np.abs(rows_OK).sum(axis=1, dtype=np.float64) / safe_O).max(initial=1)))
    highest = min(32767, int(np.sqrt((2**31 - 1) / spread / 2)))
    scales_O = (safe_O / np.float32(highest)).astype(np.float32)
    codes_OK = np.clip(np.rint(rows_OK / scales_O[:, None]), -highest, highest).astype(np.int16)
    heaviest = max(1, int(np.abs(codes_OK.astype(np.int64)).sum(axis=1).max(initial=1)))
    return codes_OK, scales_O, min(32767, (2**31 - 1) // heaviest)


def _code(values: Any, at: Any, width: Any, codes: Any, to: Any, top: Any) -> Any:
    raise NotImplementedError("compiled only")


@overload(_code, inline="always")
def _code_by_type(values: Any, at: Any, width: Any, codes: Any, to: Any, top: Any) -> Any:
    if codes.dtype != types.int16:

        def plain(values: Any, at: Any, width: Any, codes: Any, to: Any, top: Any) -> Any:
            x_K, codes_K = values[at : at + width], codes[to : to + width]
            for i in range(width):
                codes_K[i] = x_K[i]
            return np.float32(1)

        return plain

    def fixed(values: Any, at: Any, width: Any, codes: Any, to: Any, top: Any) -> Any:
        x_K, codes_K = values[at : at + width], codes[to : to + width]
        bits_K = x_K.view(np.int32)
        highest = np.int32(0)
        for i in range(width):  # floats without their sign order like integers, and those vectorise
            highest = max(highest, bits_K[i] & np.int32(0x7FFFFFFF))
        largest = float_of(highest)
        if largest < np.float32(1e-30):
            largest = np.float32(1)
        share = np.float32(top) / largest
        for i in range(width):
            codes_K[i] = np.int16(np.int32(np.rint(x_K[i] * share)))
        if width % 2:
            codes[to + width] = 0
        return largest / np.float32(top)

    return fixed


@jit_fast
def code_rows(
    values: Any, at: Any, stride: Any, rows: Any, width: Any, codes: Any, codes_stride: Any, units: Any, top: Any
) -> None:
    """Make rows of float32 ready for `product`: codes and their units, or a copy, by the type of `codes`."""
    for r in range(rows):
        units[r] = _code(values, at + r * stride, width, codes, r * codes_stride, top)


def code_rows_reference(values_RK: F32, top: int) -> tuple[npt.NDArray[np.int16], F32]:
    """Codes (R, K) and units (R,) in fixed point."""
    largest_R = np.abs(values_RK).max(axis=1, initial=0)
    largest_R = np.where(largest_R < 1e-30, 1, largest_R).astype(np.float32)
    codes_RK = np.rint(values_RK * (np.float32(top) / largest_R)[:, None]).astype(np.int16)
    return codes_RK, (largest_R / np.float32(top)).astype(np.float32)


@jit
def some(
    rows: Any, a: Any, a_at: Any, a_stride: Any, w: Any, w_at: Any, w_stride: Any, steps: Any, out: Any, out_at: Any,
    out_stride: Any, units: Any, unit_at: Any, scales: Any, biases: Any, scale_at: Any,
) -> None:  # fmt: skip
    """A tile of one row, or of ROWS rows, of which those beyond `rows` mean nothing; there has to be room for them."""
    if rows == 1:
        tile1(
            a, a_at, a_stride, w, w_at, w_stride, steps, out, out_at, out_stride, units, unit_at, scales, biases,
            scale_at,
        )  # fmt: skip
    else:
        tile6(
            a, a_at, a_stride, w, w_at, w_stride, steps, out, out_at, out_stride, units, unit_at, scales, biases,
            scale_at,
        )  # fmt: skip


@jit
def product(
    codes: Any, stride: Any, rows: Any, units: Any, weights: Any, w_at: Any, line: Any, steps: Any, scales: Any,
    biases: Any, scale_at: Any, panels: Any, out: Any, out_at: Any, out_stride: Any,
) -> None:  # fmt: skip
    """out rows = rows of activations times panels of packed weights from w_at and scale_at on, plus biases.

    line: elements of one step of a panel, LANES, or 2 * LANES in int16. codes: rows from 0 on, `stride` apart. Row r of
    `out` starts at out_at + r * out_stride, and gets panels * LANES values. A panel stays in the first cache while all
    rows pass it. Up to ROWS - 1 rows beyond the last are read and written as well: there has to be room for them.
    """
    for panel in range(panels):
        at, lane, to = w_at + panel * steps * line, scale_at + panel * LANES, out_at + panel * LANES
        for r in range(0, rows, ROWS):
            some(
                rows - r, codes, r * stride, stride, weights, at, line, steps, out, to + r * out_stride, out_stride,
                units, r, scales, biases, lane,
            )  # fmt: skip


def product_reference(values_RK: F32, weight_OK: F32, bias_O: F32) -> F32:
    """What `product` computes, up to the rounding of its way, in NumPy."""
    result: F32 = (values_RK.astype(np.float64) @ weight_OK.T.astype(np.float64) + bias_O).astype(np.float32)
    return result
