"""Fresh rows of a table: values that depend on seed, row and dimension alone, whoever makes them and when."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["fresh_range", "fresh_reference", "fresh_rows"]

F32 = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ROW = np.uint64(0xD1342543DE82EF95)
_LOW = np.uint64(0xFFFF)
_SPREAD = 37837.2269
"""Standard deviation of the sum of four uniform integers of 16 bits: 2 * sqrt((2^32 - 1) / 12)."""


@jit
def _fill(out_D: F32, row: int, seed: int, scale: float) -> None:
    # splitmix64 (Steele et al., OOPSLA 2014) of a counter; four 16-bit parts add up to a value that is close to normal
    start = np.uint64(seed) * _GOLDEN + np.uint64(row) * _ROW
    factor = np.float32(scale)
    for d in range(len(out_D)):
        z = start + np.uint64(d + 1) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX1
        z = (z ^ (z >> np.uint64(27))) * _MIX2
        z = z ^ (z >> np.uint64(31))
        total = (z & _LOW) + ((z >> np.uint64(16)) & _LOW) + ((z >> np.uint64(32)) & _LOW) + (z >> np.uint64(48))
        out_D[d] = np.float32(np.int64(total) - 131070) * factor


@jit
def fresh_range(out_MD: F32, first: int, seed: int, std: float) -> None:
    """out[m] = the fresh values of row first + m: mean 0, standard deviation `std`, none beyond 3.47 of it."""
    for m in range(len(out_MD)):
        _fill(out_MD[m], first + m, seed, std / _SPREAD)


@jit
def fresh_rows(out_UD: F32, at_C: npt.NDArray[np.int64], rows_C: npt.NDArray[np.int32], seed: int, std: float) -> None:
    """out[at[c]] = the fresh values of row rows[c]."""
    for c in range(len(rows_C)):
        _fill(out_UD[at_C[c]], rows_C[c], seed, std / _SPREAD)


def fresh_reference(row: int, dim: int, seed: int, std: float) -> F32:
    """(D,) the same values by Python's integers."""
    mask, values = (1 << 64) - 1, []
    for d in range(dim):
        z = (seed * int(_GOLDEN) + row * int(_ROW) + (d + 1) * int(_GOLDEN)) & mask
        z = ((z ^ (z >> 30)) * int(_MIX1)) & mask
        z = ((z ^ (z >> 27)) * int(_MIX2)) & mask
        z ^= z >> 31
        values.append(sum((z >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) - 131070)
    return np.asarray(values, np.float32) * np.float32(std / _SPREAD)
