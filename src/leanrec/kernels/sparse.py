"""Products with sparse weights, rows of inputs side by side in vector registers; each beside its NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast

__all__ = ["dense_blocks", "dense_blocks_reference", "dense_csr", "dense_csr_reference"]

F32 = npt.NDArray[np.float32]
_LANES = 64


@jit_fast
def dense_csr(x_TD: Any, values_V: Any, columns_V: Any, offsets_O: Any, bias_O: Any) -> Any:
    """(T, O) x W^T + b; values of output o stand at offsets[o]..offsets[o + 1]. 64 rows of x share each weight."""
    tokens, dim = x_TD.shape
    outputs = len(bias_O)
    out_TO = np.empty((tokens, outputs), np.float32)
    turned_DL = np.empty((dim, _LANES), np.float32)
    sums_L = np.empty(_LANES, np.float32)
    for start in range(0, tokens, _LANES):
        lanes = min(_LANES, tokens - start)
        for t in range(lanes):
            for d in range(dim):
                turned_DL[d, t] = x_TD[start + t, d]
        for o in range(outputs):
            for t in range(lanes):
                sums_L[t] = bias_O[o]
            for v in range(offsets_O[o], offsets_O[o + 1]):
                value, column = values_V[v], columns_V[v]
                for t in range(lanes):
                    sums_L[t] += value * turned_DL[column, t]
            for t in range(lanes):
                out_TO[start + t, o] = sums_L[t]
    return out_TO


def dense_csr_reference(
    x_TD: F32, values_V: F32, columns_V: npt.NDArray[Any], offsets_O: npt.NDArray[Any], bias_O: F32
) -> F32:
    weight_OD = np.zeros((len(bias_O), x_TD.shape[1]))
    weight_OD[np.repeat(np.arange(len(bias_O)), np.diff(offsets_O)), columns_V] = values_V
    result: F32 = (x_TD @ weight_OD.T + bias_O).astype(np.float32)
    return result


@jit_fast
def dense_blocks(x_TD: Any, blocks_KDO: Any, columns_K: Any, offsets_R: Any, bias_O: Any) -> Any:
    """(T, O) x W^T + b of a matrix in blocks of (inputs, outputs); columns: the number of each block's inputs."""
    tokens, dim = x_TD.shape
    outputs = len(bias_O)
    wide, high = blocks_KDO.shape[1], blocks_KDO.shape[2]
    out_TO = np.empty((tokens, outputs), np.float32)
    sums_O = np.empty(high, np.float32)
    for r in range(len(offsets_R) - 1):
        first = r * high
        count = min(high, outputs - first)
        for t in range(tokens):
            for o in range(high):
                sums_O[o] = bias_O[first + o] if o < count else np.float32(0)
            for k in range(offsets_R[r], offsets_R[r + 1]):
                base = columns_K[k] * wide
                for d in range(min(wide, dim - base)):
                    value = x_TD[t, base + d]
                    for o in range(high):
                        sums_O[o] += value * blocks_KDO[k, d, o]
            for o in range(count):
                out_TO[t, first + o] = sums_O[o]
    return out_TO


def dense_blocks_reference(
    x_TD: F32, blocks_KDO: F32, columns_K: npt.NDArray[Any], offsets_R: npt.NDArray[Any], bias_O: F32
) -> F32:
    _, wide, high = blocks_KDO.shape
    rows, columns = (len(offsets_R) - 1) * high, x_TD.shape[1] + wide
    weight_OD = np.zeros((rows, columns))
    row_K = np.repeat(np.arange(len(offsets_R) - 1), np.diff(offsets_R))
    for block_DO, row, column in zip(blocks_KDO, row_K, columns_K, strict=True):
        weight_OD[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = block_DO.T
    result: F32 = (x_TD @ weight_OD[: len(bias_O), : x_TD.shape[1]].T + bias_O).astype(np.float32)
    return result
