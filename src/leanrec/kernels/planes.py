"""Rows as two planes of 4-bit codes, and a scan that reads the second plane only of rows that the first leaves open.

A row is scale * (high + low / 16) with codes -8 .. 7, each kept as code + 8, so both planes together are an 8-bit code.
Byte p of a row holds dimension p in its low half and dimension D/2 + p in its high one, D counted as a multiple of 32.
The first plane stands eight rows together (`nibbles`), the second row by row. A query is unit * (128 * a + b) with
8-bit a and b: all rows meet a alone, open ones both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_finite, jit_parallel, prange
from leanrec.kernels.nibbles import ROWS, block_dots, dots_at
from leanrec.kernels.topk import State, offer_row

__all__ = [
    "BLOCK",
    "HIGH_REST",
    "LOW_REST",
    "pack_planes",
    "pack_planes_reference",
    "plane_bounds_reference",
    "refine",
    "rough_uppers",
    "scan_planes",
    "scan_planes_parallel",
]

BLOCK = 512
"""Rows that share a bound on their norms, and are scored for all queries while they are in the nearest caches."""
_TOGETHER = 16
_CHUNK = 32
"""Rows of which the largest bound is noted."""
_PARTS = 4096
_NOTED = 1 << 22  # peaks that are in memory at once
_MOST = np.float32(np.inf)
_LEVELS = 255
_STEP = 118
"""The largest 8-bit code: 118 = 16 * 7 + 6, so that its high nibble is 7 at most."""
HIGH_REST = 8.5 / 16 * (1 + 2e-6) / _LEVELS
"""A residual norm of the first plane is at most level * HIGH_REST * scale * sqrt(D)."""
LOW_REST = 0.5 / 16 * (1 + 2e-6) / _LEVELS
"""The same for both planes together."""
_TINY = 1e-37  # of float32 sums, where subnormal numbers may be flushed to zero
_TINIER = 1e-44  # of the answered score


@jit
def pack_planes(items_ND: Any, half: Any) -> Any:
    """(N, H) uint8 high and low codes, (N) float32 scales, (N) uint8 levels of what the first plane and both leave out.

    half: H, bytes a row and plane, at least D / 2.
    """
    size, dim = items_ND.shape
    high_NH, low_NH = np.zeros((size, half), np.uint8), np.zeros((size, half), np.uint8)
    scales_N = np.zeros(size, np.float32)
    levels_N, fine_N = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    root = np.sqrt(np.float64(dim))
    for n in range(size):
        largest = 0.0
        for d in range(dim):
            largest = max(largest, abs(np.float64(items_ND[n, d])))
        scale = np.float32(largest * 16 / _STEP * (1 + 1e-6))
        if scale < 1e-35:  # float32 is too coarse down here: code zero, and all of the row is residual
            scale = np.float32(33 * largest + 2e-38) if largest > 0 else np.float32(0)
        wide = np.float64(scale)
        rest_high, rest_low = 0.0, 0.0
        for d in range(2 * half):
            value = np.float64(items_ND[n, d]) if d < dim else 0.0
            code = np.int64(np.rint(value * 16 / wide)) if scale > 0 else 0
            high = (code + 8) >> 4
            shift = 4 * (d // half)
            high_NH[n, d % half] |= np.uint8((high + 8) << shift)
            low_NH[n, d % half] |= np.uint8((code - 16 * high + 8) << shift)
            rest = value - wide * np.float64(high)
            rest_high += rest * rest
            rest = value - wide * np.float64(code) / 16
            rest_low += rest * rest
        scales_N[n] = scale
        if scale > 0:
            levels_N[n] = np.uint8(min(np.ceil(np.sqrt(rest_high) / (wide * root * HIGH_REST) * (1 + 5e-7)), _LEVELS))
            fine_N[n] = np.uint8(min(np.ceil(np.sqrt(rest_low) / (wide * root * LOW_REST) * (1 + 5e-7)), _LEVELS))
    return high_NH, low_NH, scales_N, levels_N, fine_N


U8 = npt.NDArray[np.uint8]


def pack_planes_reference(
    items_ND: npt.NDArray[np.float32], half: int
) -> tuple[U8, U8, npt.NDArray[np.float32], U8, U8]:
    """What `pack_planes` computes, in NumPy."""
    size, dim = items_ND.shape
    wide_ND = np.zeros((size, 2 * half))
    wide_ND[:, :dim] = items_ND
    largest_N = np.abs(wide_ND).max(axis=1, initial=0)
    scales_N = (largest_N * 16 / _STEP * (1 + 1e-6)).astype(np.float32)
    coarse_N = scales_N < 1e-35
    scales_N[coarse_N] = (33 * largest_N[coarse_N] + 2e-38).astype(np.float32)
    scales_N[largest_N == 0] = 0
    safe_N1 = np.where(scales_N > 0, scales_N, 1).astype(np.float64)[:, None]
    codes_ND = np.rint(wide_ND * 16 / safe_N1).astype(np.int64)
    high_ND = (codes_ND + 8) >> 4
    planes: list[U8] = []
    for part_ND in (high_ND, codes_ND - 16 * high_ND):
        stored_ND = (part_ND + 8).astype(np.uint8)
        planes.append(stored_ND[:, :half] | (stored_ND[:, half:] << np.uint8(4)))
    levels: list[U8] = []
    for rest_ND, unit in ((wide_ND - safe_N1 * high_ND, HIGH_REST), (wide_ND - safe_N1 * codes_ND / 16, LOW_REST)):
        share_N = np.sqrt(np.square(rest_ND).sum(axis=1)) / (safe_N1[:, 0] * np.sqrt(dim) * unit)
        levels.append(np.minimum(np.ceil(share_N * (1 + 5e-7)), _LEVELS).astype(np.uint8))
    return planes[0], planes[1], scales_N, levels[0], levels[1]


def plane_bounds_reference(
    high_NH: U8,
    low_NH: U8,
    scales_N: npt.NDArray[np.float32],
    levels_N: U8,
    fine_N: U8,
    longest_N: npt.NDArray[np.float32],
    coded_2D: npt.NDArray[np.int64],
    facts_7: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The (N,) lower and upper bounds that the scan sees once both planes are read, in NumPy.

    high_NH, low_NH: codes row by row. coded_2D: the query's a and b, over 2 H dimensions. longest_N: the largest norm
    of each row's block. facts_7: the query's unit; of a alone its unit, the slope of the radius in that unit and the
    error; of a and b slope and error of the radius; and the query's norm.
    """
    unit, rough_unit, slope, error, fine_slope, fine_error, norm = facts_7
    high_N2, low_N2 = (
        (np.concatenate([plane_NH & 15, plane_NH >> 4], axis=1).astype(np.int64) - 8) @ coded_2D.T
        for plane_NH in (high_NH, low_NH)
    )
    scale_N, wide_N = scales_N.astype(np.float64), longest_N.astype(np.float64)
    rough_N = rough_unit * (scale_N * (high_N2[:, 0] + slope * levels_N) + _TINY) + error * wide_N + _TINIER
    both_N = (16 * high_N2 + low_N2) @ np.array([128, 1])
    centre_N = unit / 16 * scale_N * both_N
    radius_N = fine_slope * scale_N * fine_N + fine_error * wide_N + _TINIER
    cap_N = norm * wide_N + _TINIER
    return centre_N - radius_N, np.minimum(np.minimum(centre_N + radius_N, rough_N), cap_N)


@jit
def _low_dot(low_NH: Any, at: Any, coded_B2H: Any, query: Any) -> Any:
    """Sum of code * query over a row of the second plane, codes 0 .. 15."""
    dot = np.int32(0)
    for p in range(low_NH.shape[1]):
        packed = low_NH[at, p]
        dot += np.int32(np.int16(packed & np.uint8(15))) * np.int32(coded_B2H[query, 0, p])
        dot += np.int32(np.int16(packed >> np.uint8(4))) * np.int32(coded_B2H[query, 1, p])
    return dot


@jit
def rough_uppers(dots_n: Any, base: Any, slope: Any, scales_n: Any, rests_n: Any, uppers_n: Any) -> None:
    """What the first plane says at most, in the unit of the query's a, in float32."""
    slope = np.float32(slope)
    for i in range(len(uppers_n)):
        uppers_n[i] = scales_n[i] * np.float32(dots_n[i] - base) + slope * rests_n[i]


@jit
def _below(value: Any) -> Any:
    """A float32 not above a float64."""
    narrow = np.float32(value)
    return narrow - abs(narrow) * np.float32(2.0**-22) if np.isfinite(narrow) else narrow


@jit
def refine(
    state: Any, scan: Any, query: Any, first: Any, longest: Any, dots_n: Any, uppers_n: Any, table: Any, asked: Any,
    least: Any, bottom: Any, ceiling: Any, excluded_E: Any, allowed_N: Any, scratch: Any,
) -> None:  # fmt: skip
    """Read the second plane of the places whose bound by the first reaches the k-th best, and offer their rows.

    least: a score that the k-th best is known to reach, -inf where none is. bottom, ceiling: places whose bound is
    below the one or not below the other are left to other calls.
    """
    high_MG84, low_NH, scales_N, _, fine_N, _, items_ND, rows_N = table
    fine_BG284, coded_B2H, bases_B3, facts_B7, queries_BD = asked[1:]
    open_n, eight = scratch
    unit = facts_B7[query, 1]
    slack = facts_B7[query, 3] * longest + _TINIER + _TINY * unit
    cap = facts_B7[query, 6] * longest + _TINIER
    for start in range(0, len(uppers_n), _CHUNK):
        stop = min(start + _CHUNK, len(uppers_n))
        floor = max(_below((max(state.heaps_SBK[scan, query, 0], least) - slack) / unit), bottom)
        reaching = 0
        for i in range(start, stop):  # branch-free, so that it vectorises; mostly nothing reaches
            reaching += uppers_n[i] >= floor
        if reaching == 0:
            continue
        count = 0
        for i in range(start, stop):
            open_n[count] = i
            count += (uppers_n[i] >= floor) & (uppers_n[i] < ceiling)
        for place in range(count):
            i = open_n[place]
            at = first + i
            row = np.int64(rows_N[at])
            rough = min(np.float64(uppers_n[i]) * unit + slack, cap)
            known = max(state.heaps_SBK[scan, query, 0], least)
            if rough < known or (len(allowed_N) > 0 and not allowed_N[row]):
                continue
            dots_at(high_MG84, at // ROWS, fine_BG284, query, eight, 0)
            high = 128 * (np.int64(dots_n[i]) - bases_B3[query, 0]) + np.int64(eight[at % ROWS]) - bases_B3[query, 1]
            low = np.int64(_low_dot(low_NH, at, coded_B2H, query)) - bases_B3[query, 2]
            state.refined_SB[scan, query] += 1
            scale = np.float64(scales_N[at])
            centre = facts_B7[query, 0] / 16 * scale * np.float64(16 * high + low)
            radius = facts_B7[query, 4] * scale * np.float64(fine_N[at]) + facts_B7[query, 5] * longest + _TINIER
            upper = min(centre + radius, rough)
            if upper >= known:
                offer_row(state, scan, query, row, centre - radius, upper, items_ND, queries_BD[query], excluded_E)


@jit_finite
def _peaks(uppers_n: Any, peaks_QC: Any, q: Any, first: Any) -> None:
    """The largest of every `_CHUNK` bounds of a block."""
    for c in range(BLOCK // _CHUNK):
        peak = uppers_n[c * _CHUNK]
        for i in range(_CHUNK):
            peak = max(peak, uppers_n[c * _CHUNK + i])
        peaks_QC[q, first + c] = peak


@jit_finite
def _folded(peaks_C: Any, parts_f: Any) -> None:
    """The largest of about equally many neighbouring peaks for each part."""
    share = -(-len(peaks_C) // len(parts_f))
    for part in range(len(parts_f)):
        peak = np.float32(-np.inf)
        for c in range(part * share, min((part + 1) * share, len(peaks_C))):
            peak = max(peak, peaks_C[c])
        parts_f[part] = peak


@jit
def _ceiling(peaks_C: Any, count: Any) -> Any:
    """A bound that about `count` places reach, by the peaks."""
    parts_f = np.empty(min(len(peaks_C), _PARTS), np.float32)
    _folded(peaks_C, parts_f)
    if count >= len(parts_f):
        return np.float32(-np.inf)
    return np.partition(parts_f, len(parts_f) - count)[len(parts_f) - count]


@jit
def _note_peaks(
    begin: Any, low: Any, high: Any, first_query: Any, floors_B: Any, table: Any, asked: Any, allowed_N: Any,
    peaks_QC: Any,
) -> None:  # fmt: skip
    """Scan the first plane of blocks low .. high - 1: the largest bound of each chunk for each query, or -inf where no
    row is long enough to reach its floor. Peaks begin with those of block `begin`."""
    high_MG84, _, scales_N, levels_N, _, longest_J, _, rows_N = table
    rough_BG284, _, _, bases_B3, facts_B7, _ = asked
    size, each = len(scales_N), BLOCK // _CHUNK
    dots, uppers_n = np.empty((_TOGETHER, BLOCK), np.int32), np.empty(BLOCK, np.float32)
    rests_n, lengths_n = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(low, high):
        first, last = block * BLOCK, min((block + 1) * BLOCK, size)
        for i in range(last - first):
            lengths_n[i] = scales_N[first + i]
            rests_n[i] = scales_N[first + i] * np.float32(levels_N[first + i])
        uppers_n[last - first :] = -np.inf
        codes = high_MG84[first // ROWS : -(-last // ROWS)]
        for start in range(0, len(peaks_QC), _TOGETHER):
            stop = min(start + _TOGETHER, len(peaks_QC))
            reaching = 0
            for q in range(start, stop):
                cap = facts_B7[first_query + q, 6] * np.float64(longest_J[block]) + _TINIER
                reaching += cap >= floors_B[first_query + q]
            if reaching == 0:
                at = (block - begin) * each
                peaks_QC[start:stop, at : at + each] = -np.inf
                continue
            block_dots(codes, rough_BG284[first_query + start : first_query + stop], dots)
            for q in range(start, stop):
                base, slope = np.int32(bases_B3[first_query + q, 0]), np.float32(facts_B7[first_query + q, 2])
                for i in range(last - first):
                    uppers_n[i] = lengths_n[i] * np.float32(dots[q - start, i] - base) + slope * rests_n[i]
                if len(allowed_N) > 0:
                    for i in range(last - first):
                        uppers_n[i] = uppers_n[i] if allowed_N[rows_N[first + i]] else np.float32(-np.inf)
                _peaks(uppers_n, peaks_QC, q, (block - begin) * each)


@jit
def _settle(
    state: Any, scan: Any, query: Any, begin: Any, low: Any, high: Any, peaks_C: Any, least: Any, bottom: Any,
    ceiling: Any, table: Any, asked: Any, excluded_E: Any, allowed_N: Any,
) -> None:  # fmt: skip
    """Read the second plane of places in blocks low .. high - 1 that a peak leaves open, with bounds by the first from
    `bottom` to below `ceiling`."""
    high_MG84, low_NH, scales_N, levels_N, fine_N, longest_J, items_ND, rows_N = table
    rough_BG284, fine_BG284, coded_B2H, bases_B3, facts_B7, queries_BD = asked
    each, size = BLOCK // _CHUNK, len(scales_N)
    unit, slope, base = facts_B7[query, 1], np.float32(facts_B7[query, 2]), np.int32(bases_B3[query, 0])
    dots_n, uppers_n = np.empty(_CHUNK, np.int32), np.empty(_CHUNK, np.float32)
    eight = np.empty(ROWS, np.int32)
    known = max(state.heaps_SBK[scan, query, 0], least)
    refined = 0
    for block in range(low, high):
        longest = np.float64(longest_J[block])
        cap = facts_B7[query, 6] * longest + _TINIER
        if cap < known:
            continue
        slack = facts_B7[query, 3] * longest + _TINIER + _TINY * unit
        floor = max(_below((known - slack) / unit), bottom)
        for chunk in range(block * each, min((block + 1) * each, -(-size // _CHUNK))):
            if peaks_C[chunk - begin * each] < floor:
                continue
            first, count = chunk * _CHUNK, min(_CHUNK, size - chunk * _CHUNK)
            for group in range(-(-count // ROWS)):
                dots_at(high_MG84, first // ROWS + group, rough_BG284, query, dots_n, ROWS * group)
            for i in range(count):
                scale = scales_N[first + i]
                rest = scale * np.float32(levels_N[first + i])
                uppers_n[i] = scale * np.float32(dots_n[i] - base) + slope * rest
            for i in range(count):
                if uppers_n[i] < floor or uppers_n[i] >= ceiling:
                    continue
                at = first + i
                row = np.int64(rows_N[at])
                rough = min(np.float64(uppers_n[i]) * unit + slack, cap)
                if rough < known or (len(allowed_N) > 0 and not allowed_N[row]):
                    continue
                dots_at(high_MG84, at // ROWS, fine_BG284, query, eight, 0)
                wide = 128 * (np.int64(dots_n[i]) - np.int64(base)) + np.int64(eight[at % ROWS]) - bases_B3[query, 1]
                narrow = np.int64(_low_dot(low_NH, at, coded_B2H, query)) - bases_B3[query, 2]
                refined += 1
                scale_ = np.float64(scales_N[at])
                centre = facts_B7[query, 0] / 16 * scale_ * np.float64(16 * wide + narrow)
                radius = facts_B7[query, 4] * scale_ * np.float64(fine_N[at]) + facts_B7[query, 5] * longest + _TINIER
                upper = min(centre + radius, rough)
                if upper >= known:
                    offer_row(
                        state, scan, query, row, centre - radius, upper, items_ND, queries_BD[query], excluded_E
                    )  # fmt: skip
                    known = max(state.heaps_SBK[scan, query, 0], least)
                    floor = max(_below((known - slack) / unit), bottom)
    state.refined_SB[scan, query] += refined


def _scan_planes(
    state: State, table: Any, asked: Any, begin: Any, end: Any, floors_B: Any, excluded_E: Any, excluded_at: Any,
    allowed_N: Any,
) -> None:  # fmt: skip
    """One streaming pass over the first plane of blocks begin .. end - 1, then the second plane of what it leaves open,
    the likeliest rows first.

    The pass notes the largest bound of each 32 rows. Rows whose bounds are among the largest are read first, so that
    the threshold that the others meet is almost the last one. Blocks of rows go to threads in the pass; afterwards
    queries do, or the rows of a single one.

    table: high (M, G, 8, 4), low (N, H), scales, levels, fine (N), longest (N / 512), items (N, D), and the row at each
    place (N). asked: the queries' a and b as `nibbles.spread_query` makes them, both as (B, 2, H) int16, sums to take
    off, facts, and vectors. floors_B: a score that the k-th best is known to reach.
    """
    blocks, scans, batch = end - begin, len(state.heaps_SBK), len(asked[0])
    share, each = -(-blocks // scans), BLOCK // _CHUNK
    sought = 2 * state.heaps_SBK.shape[2]
    most = max(_TOGETHER, _NOTED // max(1, blocks * each) // _TOGETHER * _TOGETHER)
    for start in range(0, batch, most):
        queries = min(most, batch - start)
        peaks_QC = np.empty((queries, blocks * each), np.float32)
        for scan in prange(scans):
            low, high = begin + min(scan * share, blocks), begin + min((scan + 1) * share, blocks)
            _note_peaks(begin, low, high, start, floors_B, table, asked, allowed_N, peaks_QC)
        if queries > 1:
            for q in prange(queries):
                b, peaks_C = start + q, peaks_QC[q]
                excluded, least = excluded_E[excluded_at[b] : excluded_at[b + 1]], floors_B[b]
                top = _ceiling(peaks_C, sought)
                _settle(state, 0, b, begin, begin, end, peaks_C, least, top, _MOST, table, asked, excluded, allowed_N)
                if top > -np.inf:
                    none = np.float32(-np.inf)
                    _settle(
                        state, 0, b, begin, begin, end, peaks_C, least, none, top, table, asked, excluded, allowed_N
                    )  # fmt: skip
        else:
            peaks_C, excluded = peaks_QC[0], excluded_E[excluded_at[start] : excluded_at[start + 1]]
            top = _ceiling(peaks_C, sought)
            least, ceiling = floors_B[start], _MOST
            if top > -np.inf:
                _settle(
                    state, 0, start, begin, begin, end, peaks_C, least, top, _MOST, table, asked, excluded, allowed_N
                )  # fmt: skip
                ceiling = top
            known = max(state.heaps_SBK[0, start, 0], least)
            for scan in prange(scans):
                low, high = begin + min(scan * share, blocks), begin + min((scan + 1) * share, blocks)
                none = np.float32(-np.inf)
                _settle(
                    state, scan, start, begin, low, high, peaks_C, known, none, ceiling, table, asked, excluded,
                    allowed_N,
                )  # fmt: skip


scan_planes = jit(_scan_planes)
scan_planes_parallel = jit_parallel(_scan_planes)
