"""Dense layers with int8 weights, beside their NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = [
    "dense_int8", "dense_int8_reference", "dense_int8_static", "dense_int8_static_reference", "quantize_weight",
]  # fmt: skip

F32 = npt.NDArray[np.float32]


def quantize_weight(weight_OD: F32) -> tuple[npt.NDArray[np.int8], F32]:
    """int8 codes and a float32 scale per output: weight ~ scale * code, within half a scale."""
    largest_O = np.abs(weight_OD).max(axis=1, initial=0)
    scales_O = np.where(largest_O > 0, largest_O / np.float32(127), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(weight_OD / scales_O[:, None]), -127, 127).astype(np.int8), scales_O


@jit
def dense_int8(x_TD: Any, codes_OD: Any, scales_O: Any, bias_O: Any) -> Any:
    """(T, O) x W^T + b with W = scale * code; x is rounded to int16 row by row, so that sums are exact in int32."""
    tokens, dim = x_TD.shape
    top = np.float32(min(32767, (2**31 - 1) // (127 * dim)))
    coded_D = np.empty(dim, np.int16)
    out_TO = np.empty((tokens, len(codes_OD)), np.float32)
    for t in range(tokens):
        largest = np.float32(0)
        for d in range(dim):
            largest = max(largest, abs(x_TD[t, d]))
        unit = largest / top if largest > 0 else np.float32(1)
        for d in range(dim):
            coded_D[d] = np.int16(np.rint(x_TD[t, d] / unit))
        for o in range(len(codes_OD)):
            dot = np.int32(0)
            for d in range(dim):
                dot += np.int32(codes_OD[o, d]) * np.int32(coded_D[d])
            out_TO[t, o] = np.float32(dot) * (unit * scales_O[o]) + bias_O[o]
    return out_TO


def dense_int8_reference(x_TD: F32, codes_OD: npt.NDArray[np.int8], scales_O: F32, bias_O: F32) -> F32:
    """What `dense_int8` computes, in NumPy and float64."""
    top = min(32767, (2**31 - 1) // (127 * x_TD.shape[1]))
    largest_T = np.abs(x_TD).max(axis=1, initial=0)
    units_T = np.where(largest_T > 0, largest_T / np.float32(top), np.float32(1)).astype(np.float32)
    coded_TD = np.rint(x_TD / units_T[:, None]).astype(np.int64)
    out_TO = (coded_TD @ codes_OD.T.astype(np.int64)) * (units_T[:, None].astype(np.float64) * scales_O) + bias_O
    result: F32 = out_TO.astype(np.float32)
    return result


@jit
def dense_int8_static(x_TD: Any, codes_OD: Any, scales_O: Any, unit: Any, bias_O: Any) -> Any:
    """(T, O) x W^T + b with W = scale * code; x is rounded to multiples of `unit`, at most 127 of them; D < 2^17."""
    tokens, dim = x_TD.shape
    coded_D = np.empty(dim, np.int16)
    out_TO = np.empty((tokens, len(codes_OD)), np.float32)
    inverse = np.float32(1) / unit
    for t in range(tokens):
        for d in range(dim):
            coded_D[d] = np.int16(np.rint(min(max(x_TD[t, d] * inverse, np.float32(-127)), np.float32(127))))
        for o in range(len(codes_OD)):
            dot = np.int32(0)
            for d in range(dim):
                dot += np.int32(codes_OD[o, d]) * np.int32(coded_D[d])
            out_TO[t, o] = np.float32(dot) * (unit * scales_O[o]) + bias_O[o]
    return out_TO


def dense_int8_static_reference(
    x_TD: F32, codes_OD: npt.NDArray[np.int8], scales_O: F32, unit: np.float32, bias_O: F32
) -> F32:
    """What `dense_int8_static` computes, in NumPy and float64."""
    coded_TD = np.rint(np.clip(x_TD * (np.float32(1) / unit), -127, 127)).astype(np.int64)
    result: F32 = ((coded_TD @ codes_OD.T.astype(np.int64)) * (np.float64(unit) * scales_O) + bias_O).astype(np.float32)
    return result
