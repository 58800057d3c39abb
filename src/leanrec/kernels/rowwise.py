"""Rows of 8, 6, 5, 4 or 2 bits a value with a scale and an offset a row: least squares, packing, reading, scoring.

x_d = offset + scale * code_d. Scale and offset are kept in bfloat16, so the product with a code of 8 bits is exact in
float32 and a row decodes to the same bits everywhere. Code d of a row begins at bit `bits * d`, low bits first: two or
four to a byte, four of 6 bits to three bytes, eight of 5 to five.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.candidates import BLOCK, run_of
from leanrec.kernels.code_dots import code_dots, four_codes, group_of
from leanrec.kernels.jit import jit, jit_parallel, prange

__all__ = [
    "decode_rows", "decode_rows_reference", "encode_rows", "encode_rows_reference", "nearest_half", "packed_width",
    "put_code", "score_codes", "score_codes_parallel", "score_codes_reference",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
_HALF = np.uint32(16)
_RUN = 1024 // BLOCK
_ROUNDS = 4
_STEPS = 12
_NARROWEST = 0.3


def packed_width(dim: int, bits: int) -> int:
    """Bytes of a row's codes: whole groups."""
    each, size = group_of(bits)
    return -(-dim // each) * size


@jit
def nearest_half(box: Any, value: Any) -> Any:
    """The bfloat16 next to a value, as float64. box: a float32 and the same bytes as uint32."""
    box[0][0] = np.float32(value)
    bits = box[1][0]
    box[1][0] = ((bits + np.uint32(0x7FFF) + ((bits >> _HALF) & np.uint32(1))) >> _HALF) << _HALF
    return np.float64(box[0][0])


@jit
def _loss(row_D: Any, scale: Any, offset: Any, top: Any) -> Any:
    """Squared error of the row under a scale and an offset, with the best codes."""
    total = 0.0
    inverse = 1.0 / scale if scale > 0 else 0.0
    for d in range(len(row_D)):
        value = np.float64(row_D[d])
        code = min(max(np.rint((value - offset) * inverse), 0.0), top)
        rest = value - offset - scale * code
        total += rest * rest
    return total


@jit
def _refit(row_D: Any, scale: Any, offset: Any, top: Any) -> Any:
    """Scale and offset of least squares for the codes that the given ones bring."""
    inverse = 1.0 / scale if scale > 0 else 0.0
    n, sc, sx, scc, scx = len(row_D), 0.0, 0.0, 0.0, 0.0
    for d in range(n):
        value = np.float64(row_D[d])
        code = min(max(np.rint((value - offset) * inverse), 0.0), top)
        sc += code
        sx += value
        scc += code * code
        scx += code * value
    spread = n * scc - sc * sc
    if spread <= 0:
        return scale, offset
    slope = (n * scx - sc * sx) / spread
    return (slope, (sx - slope * sc) / n) if slope > 0 else (scale, offset)


@jit
def _range_of(row_D: Any, top: Any, box: Any) -> Any:
    """The scale and offset (both bfloat16) that search found to have the least squared error."""
    low, high = np.float64(row_D[0]), np.float64(row_D[0])
    for d in range(len(row_D)):
        low, high = min(low, np.float64(row_D[d])), max(high, np.float64(row_D[d]))
    best_scale, best_offset = 0.0, nearest_half(box, (low + high) / 2)
    if high == low:
        return best_scale, best_offset
    best = _loss(row_D, best_scale, best_offset, top)
    middle, half = (low + high) / 2, (high - low) / 2
    for step in range(_STEPS):
        width = half * (1.0 - (1.0 - _NARROWEST) * step / (_STEPS - 1))
        scale, offset = 2 * width / top, middle - width
        for _ in range(_ROUNDS):
            rounded, start = nearest_half(box, scale), nearest_half(box, offset)
            loss = _loss(row_D, rounded, start, top)
            if loss < best:
                best, best_scale, best_offset = loss, rounded, start
            scale, offset = _refit(row_D, scale, offset, top)
    return best_scale, best_offset


@jit
def put_code(codes_W: Any, bits: Any, d: Any, code: Any) -> None:
    """Set the d-th code of a zeroed row."""
    at, bit = bits * d // 8, bits * d % 8
    moved = np.uint32(code) << np.uint32(bit)
    codes_W[at] |= np.uint8(moved & np.uint32(255))
    if bit + bits > 8:
        codes_W[at + 1] |= np.uint8(moved >> np.uint32(8))


@jit_parallel
def encode_rows(table_ND: F32, bits: int, codes_NW: U8, scales_N: U16, offsets_N: U16) -> None:
    """Fill zeroed codes (N, packed width) and bfloat16 scales and offsets of finite rows, with the least squared error
    that a search over clipped ranges, refined by least squares, finds."""
    size, dim = table_ND.shape
    top = np.float64((1 << bits) - 1)
    for n in prange(size):
        value_1 = np.zeros(1, np.float32)
        box = (value_1, value_1.view(np.uint32))
        scale, offset = _range_of(table_ND[n], top, box)
        inverse = 1.0 / scale if scale > 0 else 0.0
        for d in range(dim):
            code = min(max(np.rint((np.float64(table_ND[n, d]) - offset) * inverse), 0.0), top)
            put_code(codes_NW[n], bits, d, code)
        value_1[0] = np.float32(scale)
        scales_N[n] = np.uint16(box[1][0] >> _HALF)
        value_1[0] = np.float32(offset)
        offsets_N[n] = np.uint16(box[1][0] >> _HALF)


def encode_rows_reference(
    table_ND: F32, scales_N: npt.NDArray[np.float64], offsets_N: npt.NDArray[np.float64], bits: int
) -> U8:
    """(N, D) codes under known ranges, not packed, in NumPy."""
    wide_ND = table_ND.astype(np.float64) - offsets_N[:, None]
    safe_N = np.where(scales_N > 0, scales_N, np.inf)
    return np.clip(np.rint(wide_ND * (1 / safe_N)[:, None]), 0, (1 << bits) - 1).astype(np.uint8)


@jit
def _decode_fours(codes_NW: Any, row: Any, bits: Any, scale: Any, offset: Any, out_UD: Any, u: Any) -> None:
    mask = np.uint32((1 << bits) - 1)
    dim = out_UD.shape[1]
    whole = dim // 4
    for nth in range(whole):
        word = four_codes(codes_NW, row, bits, nth)
        for place in range(4):
            out_UD[u, 4 * nth + place] = offset + scale * np.float32((word >> np.uint32(bits * place)) & mask)
    if 4 * whole < dim:
        word = four_codes(codes_NW, row, bits, whole)
        for place in range(dim - 4 * whole):
            out_UD[u, 4 * whole + place] = offset + scale * np.float32((word >> np.uint32(bits * place)) & mask)


@jit
def decode_rows(
    codes_NW: U8, scales_N: U16, offsets_N: U16, bits: int, rows_U: npt.NDArray[np.int64], out_UD: F32
) -> None:
    """out[u] = the values of row rows[u]."""
    mask = np.uint32((1 << bits) - 1)
    pair = np.empty(2, np.float32)
    pair_bits = pair.view(np.uint32)
    for u in range(len(rows_U)):
        row = rows_U[u]
        pair_bits[0] = np.uint32(scales_N[row]) << _HALF
        pair_bits[1] = np.uint32(offsets_N[row]) << _HALF
        scale, offset = pair[0], pair[1]
        if bits == 6:
            _decode_fours(codes_NW, row, 6, scale, offset, out_UD, u)
            continue
        if bits == 5:
            _decode_fours(codes_NW, row, 5, scale, offset, out_UD, u)
            continue
        for d in range(out_UD.shape[1]):
            code = (np.uint32(codes_NW[row, bits * d // 8]) >> np.uint32(bits * d % 8)) & mask
            out_UD[u, d] = offset + scale * np.float32(code)


def decode_rows_reference(codes_NW: U8, scales_N: U16, offsets_N: U16, bits: int, dim: int) -> F32:
    """(N, D) all rows, in NumPy."""
    each, group = group_of(bits)
    parts_NGB = codes_NW.reshape(len(codes_NW), -1, group).astype(np.uint64)
    words_NG = (parts_NGB << (8 * np.arange(group, dtype=np.uint64))).sum(axis=2, dtype=np.uint64)
    shifts = np.arange(each, dtype=np.uint64) * np.uint64(bits)
    codes_ND = ((words_NG[:, :, None] >> shifts) & np.uint64((1 << bits) - 1)).reshape(len(codes_NW), -1)[:, :dim]
    scale_N, offset_N = ((half.astype(np.uint32) << 16).view(np.float32) for half in (scales_N, offsets_N))
    return np.asarray(offset_N[:, None] + scale_N[:, None] * codes_ND.astype(np.float32))


def _score_codes(
    codes_NW: U8, scales_N: U16, offsets_N: U16, bits: int, coded_BEW: npt.NDArray[np.int16],
    facts_B2: npt.NDArray[np.float64], blocks_M: npt.NDArray[np.int32], out_Bn: F32,
) -> None:  # fmt: skip
    """(B, BLOCK M) scores of the rows of blocks without decoding a value: scale * unit * (codes . coded) + offset *
    (sum of the query); -inf behind the last row.

    coded_BEW: as `query_codes` makes them. facts_B2: unit, and the query's sum.
    """
    count = len(blocks_M)
    for chunk in prange((count + _RUN - 1) // _RUN):
        ranges = np.empty((2, BLOCK * _RUN), np.float32)
        halves = ranges.view(np.uint32)
        dots = np.empty(BLOCK * _RUN, np.int32)
        at, end = chunk * _RUN, min((chunk + 1) * _RUN, count)
        while at < end:
            run = run_of(blocks_M, at, end)
            place, first = BLOCK * at, BLOCK * np.int64(blocks_M[at])
            scales_n, offsets_n = scales_N[first : first + BLOCK * run], offsets_N[first : first + BLOCK * run]
            rows = len(scales_n)
            for i in range(rows):
                halves[0, i] = np.uint32(scales_n[i]) << _HALF
                halves[1, i] = np.uint32(offsets_n[i]) << _HALF
            for b in range(len(out_Bn)):
                code_dots(codes_NW, bits, coded_BEW[b], first, first + rows, dots)
                unit, total = facts_B2[b, 0], facts_B2[b, 1]
                out_n = out_Bn[b, place : place + BLOCK * run]
                for i in range(rows):
                    scale, offset = np.float64(ranges[0, i]), np.float64(ranges[1, i])
                    out_n[i] = np.float32(scale * (unit * np.float64(dots[i])) + offset * total)
                out_n[rows:] = -np.inf
            at += run


score_codes = jit(_score_codes)
score_codes_parallel = jit_parallel(_score_codes)


def score_codes_reference(codes_ND: U8, scale_N: F32, offset_N: F32, query_D: F32) -> npt.NDArray[np.float64]:
    """(N,) what `score_codes` comes close to, in NumPy, from codes that are not packed."""
    decoded_ND = offset_N[:, None].astype(np.float64) + scale_N[:, None].astype(np.float64) * codes_ND
    return np.asarray(decoded_ND @ query_D.astype(np.float64))
