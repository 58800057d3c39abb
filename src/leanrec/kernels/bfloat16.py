"""Rows of bfloat16, the upper half of a float32: with stochastic rounding, or with the lower half kept beside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["join_halves", "nearest_bfloat16", "round_rows", "split_rows", "widen_rows"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ROW = np.uint64(0xD1342543DE82EF95)
_HALF = np.uint32(16)
_LOW = np.uint32(0xFFFF)


def nearest_bfloat16(values: F32) -> U16:
    """The upper halves of finite values, rounded to nearest, ties to even; the largest ones stay finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> _HALF) & np.uint32(1))) >> _HALF
    beyond = (rounded & np.uint32(0x7F80)) == 0x7F80
    return np.where(beyond, bits >> _HALF, rounded).astype(np.uint16)


@jit
def widen_rows(upper_ND: U16, rows_U: I32, out_UD: F32) -> None:
    """out[u] = the values of bfloat16 row rows[u]."""
    bits_UD = out_UD.view(np.uint32)
    for u in range(len(rows_U)):
        for d in range(upper_ND.shape[1]):
            bits_UD[u, d] = np.uint32(upper_ND[rows_U[u], d]) << _HALF


@jit
def join_halves(upper_ND: U16, lower_ND: U16, rows_U: I32, out_UD: F32) -> None:
    """out[u] = the float32 values whose halves stand in row rows[u]."""
    bits_UD = out_UD.view(np.uint32)
    for u in range(len(rows_U)):
        row = rows_U[u]
        for d in range(upper_ND.shape[1]):
            bits_UD[u, d] = (np.uint32(upper_ND[row, d]) << _HALF) | np.uint32(lower_ND[row, d])


@jit
def split_rows(values_UD: F32, rows_U: I32, upper_ND: U16, lower_ND: U16) -> None:
    """The inverse of `join_halves`: exact."""
    bits_UD = values_UD.view(np.uint32)
    for u in range(len(rows_U)):
        row = rows_U[u]
        for d in range(upper_ND.shape[1]):
            upper_ND[row, d] = np.uint16(bits_UD[u, d] >> _HALF)
            lower_ND[row, d] = np.uint16(bits_UD[u, d] & _LOW)


@jit
def round_rows(values_UD: F32, rows_U: I32, upper_ND: U16, seed: int, step: int) -> None:
    """Row rows[u] = values[u] rounded to bfloat16, up as often as it is close: right on average.

    The chance depends on seed, step, row and dimension alone. Values are finite.
    """
    bits_UD = values_UD.view(np.uint32)
    for u in range(len(rows_U)):
        row = rows_U[u]
        start = np.uint64(seed) * _MIX1 + np.uint64(step) * _MIX2 + np.uint64(row) * _ROW
        for d in range(upper_ND.shape[1]):
            z = start + np.uint64(d + 1) * _GOLDEN
            z = (z ^ (z >> np.uint64(30))) * _MIX1
            z = (z ^ (z >> np.uint64(27))) * _MIX2
            upper_ND[row, d] = np.uint16((bits_UD[u, d] + np.uint32(z >> np.uint64(48))) >> _HALF)
