"""Coded weights back to float32 rows, a panel at a time, for products by BLAS; each beside its NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = [
    "decode_bfloat16", "decode_bfloat16_reference", "decode_int4", "decode_int4_reference", "decode_int8",
    "decode_int8_reference", "decode_pairs", "decode_pairs_reference",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


@jit
def decode_int8(codes_OD: Any, scales_O: Any, out_OD: Any) -> None:
    """out = scale * code."""
    outputs, dim = codes_OD.shape
    for o in range(outputs):
        scale = scales_O[o]
        for d in range(dim):
            out_OD[o, d] = scale * np.float32(codes_OD[o, d])


def decode_int8_reference(codes_OD: npt.NDArray[np.int8], scales_O: F32) -> F32:
    result: F32 = codes_OD.astype(np.float32) * scales_O[:, None]
    return result


@jit
def decode_int4(codes_OH: Any, scales_OG: Any, group: int, out_OD: Any) -> None:
    """out = scale of the group * (nibble - 8). Byte h holds column h in its lower half, column H + h in its upper."""
    outputs, dim = out_OD.shape
    half = codes_OH.shape[1]
    for o in range(outputs):
        for g in range(scales_OG.shape[1]):
            # slices from 0 on: an index that may be negative keeps the compiler from vectorising
            scale, low, high = scales_OG[o, g], g * group, min(dim, (g + 1) * group)
            edge = min(max(low, half), high)
            codes, out = codes_OH[o, low:edge], out_OD[o, low:edge]
            for i in range(len(out)):
                out[i] = scale * np.float32(np.int32(codes[i] & np.uint8(15)) - np.int32(8))
            codes, out = codes_OH[o, edge - half : high - half], out_OD[o, edge:high]
            for i in range(len(out)):
                out[i] = scale * np.float32(np.int32(codes[i] >> np.uint8(4)) - np.int32(8))


def decode_int4_reference(codes_OH: U8, scales_OG: F32, group: int, dim: int) -> F32:
    nibbles_OD = np.concatenate([codes_OH & 15, codes_OH >> 4], axis=1)[:, :dim].astype(np.int32)
    result: F32 = (nibbles_OD - 8).astype(np.float32) * np.repeat(scales_OG, group, axis=1)[:, :dim]
    return result


@jit
def decode_bfloat16(upper_OD: Any, out_OD: Any) -> None:
    """out = the float32 whose upper half it is."""
    bits_OD = out_OD.view(np.uint32)
    outputs, dim = upper_OD.shape
    for o in range(outputs):
        for d in range(dim):
            bits_OD[o, d] = np.uint32(upper_OD[o, d]) << np.uint32(16)


def decode_bfloat16_reference(upper_OD: npt.NDArray[np.uint16]) -> F32:
    result: F32 = (upper_OD.astype(np.uint32) << 16).view(np.float32)
    return result


@jit
def decode_pairs(values_OV: Any, places_OQ: Any, out_OD: Any) -> None:
    """Two values of every four columns: byte q holds the places of quads 2 q and 2 q + 1, two bits each."""
    outputs, dim = out_OD.shape
    for o in range(outputs):
        for d in range(dim):
            out_OD[o, d] = np.float32(0)
        for v in range(values_OV.shape[1]):
            at = 4 * (v >> 1) + ((places_OQ[o, v >> 2] >> np.uint8(2 * (v & 3))) & 3)
            if at < dim:
                out_OD[o, at] += values_OV[o, v]


def decode_pairs_reference(values_OV: F32, places_OQ: U8, dim: int) -> F32:
    outputs, count = values_OV.shape
    places_OV = (np.repeat(places_OQ, 4, axis=1)[:, :count] >> (2 * (np.arange(count) % 4))) & 3
    at_OV = 4 * (np.arange(count) // 2) + places_OV
    wide = np.zeros((outputs, max(dim, 2 * count) + 4), np.float32)
    np.add.at(wide, (np.arange(outputs)[:, None], at_OV), values_OV)
    return np.ascontiguousarray(wide[:, :dim])
