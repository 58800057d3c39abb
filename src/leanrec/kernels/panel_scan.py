"""A scan of int8 codes that serves a batch while a block of rows is near: bounds by 8 bits of the query, then by 15.

Rows stand by falling norm, as far as they came together, so that a query is done when its norm times the largest norm
that is left falls short of its k-th best (the bound of LEMP, Teflioudi et al. 2015); on trained tables that is often
soon. A query is unit * (128 * a + b) with 8-bit a and b. Eight queries at a time meet a block's rows with a alone; the
32 rows of a panel in which one reaches the k-th best meet b as well, and what still reaches it is offered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.heap import listed, replace_least
from leanrec.kernels.jit import jit, jit_inline, jit_parallel, prange
from leanrec.kernels.nibbles import address_of
from leanrec.kernels.panels import PANEL, lowest_bit, panel_dots, reaching
from leanrec.kernels.topk import State, make_room

__all__ = ["BLOCK", "REST", "panel_bounds_reference", "scan_panels", "scan_panels_parallel"]

BLOCK = 512
"""Rows that share a bound on their norms, and are scored for all queries while they are in the nearest caches."""
REST = 0.5 * (1 + 2e-6) / 255
"""A residual norm is at most level * REST * scale * sqrt(D)."""
_TOGETHER = 8
_RUN = 8
"""Blocks that follow each other in a scan of several, so that reading them does not start anew all the time."""
_FIRST = 16
"""Blocks that one scan sees before the others begin."""
_TINY = 1e-37  # of float32 sums, where subnormal numbers may be flushed to zero
_TINIER = 1e-44  # of the answered score


def panel_bounds_reference(
    codes_ND: npt.NDArray[np.int8],
    scales_N: npt.NDArray[np.float32],
    levels_N: npt.NDArray[np.uint8],
    longest_N: npt.NDArray[np.float32],
    coded_2D: npt.NDArray[np.int64],
    facts_7: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The (N,) lower and upper bounds that the scan sees once b was asked as well, in NumPy.

    coded_2D, facts_7: as `queries.coded_queries` makes them. longest_N: the largest norm of each row's block.
    """
    unit, rough_unit, slope, error, fine_slope, fine_error, norm = facts_7
    dots_N2 = codes_ND.astype(np.int64) @ coded_2D.T
    scale_N, wide_N = scales_N.astype(np.float64), longest_N.astype(np.float64)
    rough_N = rough_unit * (scale_N * (dots_N2[:, 0] + slope * levels_N) + _TINY) + error * wide_N + _TINIER
    centre_N = unit * scale_N * (128 * dots_N2[:, 0] + dots_N2[:, 1])
    radius_N = fine_slope * scale_N * levels_N + fine_error * wide_N + _TINIER
    cap_N = norm * wide_N + _TINIER
    return centre_N - radius_N, np.minimum(np.minimum(centre_N + radius_N, rough_N), cap_N)


@jit_inline
def _below(value: Any) -> Any:
    """A float32 not above a float64."""
    narrow = np.float32(value)
    return narrow - abs(narrow) * np.float32(2.0**-22) if np.isfinite(narrow) else narrow


@jit
def _scan_part(
    state: Any, scan: Any, scans: Any, blocks: Any, first_query: Any, last_query: Any, floors_B: Any, table: Any,
    asked: Any, excluded_E: Any, excluded_at: Any, allowed_N: Any,
) -> None:  # fmt: skip
    """A scan's blocks of those from blocks[0] to blocks[1] - 1, dealt out in runs of a few, for queries first_query ..
    last_query - 1. floors_B: a score that k rows are known to reach.

    Arrays are indexed and not cut inside the inner loops: a view counts another reference, which threads wait for.
    """
    codes_MG, scales_N, levels_N, order_N, longest_J, rest_J, items_ND = table
    rough_BG, fine_BG, bases_B2, facts_B7, queries_BD = asked
    heaps_SBK, rows_SBC, uppers_SBC, counts_SB, _, refined_SB = state
    size, room, batch, k = len(scales_N), rows_SBC.shape[2], heaps_SBK.shape[1], heaps_SBK.shape[2]
    heaps = heaps_SBK.reshape(-1)
    dots, fine = np.empty((_TOGETHER, BLOCK), np.int32), np.empty((1, PANEL), np.int32)
    lengths_n, rests_n = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    near_G = np.empty((_TOGETHER, rough_BG.shape[1]), np.int8)
    open_b, asking_b = np.arange(first_query, last_query), np.empty(last_query - first_query, np.int64)
    left = len(open_b)
    for turn in range(blocks[1] - blocks[0]):
        block = blocks[0] + (turn // _RUN * scans + scan) * _RUN + turn % _RUN
        if block >= blocks[1]:
            break
        longest, rest = np.float64(longest_J[block]), np.float64(rest_J[block])
        still, asking = 0, 0
        for place in range(left):
            b = open_b[place]
            known = max(heaps[(scan * batch + b) * k], floors_B[b])
            if facts_B7[b, 6] * rest + _TINIER < known:
                continue
            open_b[still] = b
            still += 1
            if facts_B7[b, 6] * longest + _TINIER >= known:
                asking_b[asking] = b
                asking += 1
        left = still
        if left == 0:
            break
        if asking == 0:
            continue
        first, last = block * BLOCK, min((block + 1) * BLOCK, size)
        scales_n, levels_n = scales_N[first:last], levels_N[first:last]  # so that the loop runs many values at once
        for i in range(len(scales_n)):
            lengths_n[i] = scales_n[i]
            rests_n[i] = scales_n[i] * np.float32(levels_n[i])
        panels = -(-(last - first) // PANEL)
        for start in range(0, asking, _TOGETHER):
            count = min(_TOGETHER, asking - start)
            together = asking_b[start]
            if asking_b[start + count - 1] - together == count - 1:
                panel_dots(codes_MG, first // PANEL, panels, rough_BG, together, count, dots)
            else:
                for q in range(count):
                    b = asking_b[start + q]
                    for g in range(rough_BG.shape[1]):
                        near_G[q, g] = rough_BG[b, g]
                panel_dots(codes_MG, first // PANEL, panels, near_G, 0, count, dots)
            for q in range(count):
                b = asking_b[start + q]
                unit, rough_unit, slope_ = facts_B7[b, 0], facts_B7[b, 1], facts_B7[b, 2]
                fine_slope, fine_slack = facts_B7[b, 4], facts_B7[b, 5] * longest + _TINIER
                slope, base = np.float32(slope_), np.int32(bases_B2[b, 0])
                slack = facts_B7[b, 3] * longest + _TINIER + _TINY * rough_unit
                cap = facts_B7[b, 6] * longest + _TINIER
                heap = (scan * batch + b) * k
                known = max(heaps[heap], floors_B[b])
                floor = _below((known - slack) / rough_unit)
                for panel in range(panels):
                    at = PANEL * panel
                    bits = reaching(
                        address_of(dots) + np.uintp(4 * (q * BLOCK + at)), address_of(lengths_n) + np.uintp(4 * at),
                        address_of(rests_n) + np.uintp(4 * at), base, slope, floor,
                    )  # fmt: skip
                    if bits == 0:
                        continue
                    panel_dots(codes_MG, first // PANEL + panel, 1, fine_BG, b, 1, fine)
                    while bits != 0:
                        r = lowest_bit(bits)
                        bits &= bits - np.uint32(1)
                        place = first + at + r
                        if place >= size:
                            continue
                        row = order_N[place]
                        if len(allowed_N) > 0 and not allowed_N[row]:
                            continue
                        refined_SB[scan, b] += 1
                        wide = np.int64(dots[q, at + r]) - np.int64(base)
                        scale, level = np.float64(lengths_n[at + r]), np.float64(levels_N[place])
                        rough = rough_unit * (scale * (np.float64(wide) + slope_ * level)) + slack
                        narrow = np.int64(fine[0, r]) - bases_B2[b, 1]
                        centre = unit * scale * np.float64(128 * wide + narrow)
                        radius = fine_slope * scale * level + fine_slack
                        upper = min(min(centre + radius, rough), cap)
                        if upper < known or listed(excluded_E, excluded_at[b], excluded_at[b + 1], row):
                            continue
                        kept = counts_SB[scan, b]
                        if kept == room:
                            make_room(state, scan, b, items_ND, queries_BD)
                            kept = counts_SB[scan, b]
                        rows_SBC[scan, b, kept], uppers_SBC[scan, b, kept] = row, upper
                        counts_SB[scan, b] = kept + 1
                        if centre - radius > heaps[heap]:
                            replace_least(heaps, heap, k, centre - radius)
                        known = max(heaps[heap], floors_B[b])
                    floor = _below((known - slack) / rough_unit)


def _scan_panels(
    state: State, parts: Any, table: Any, asked: Any, excluded_E: Any, excluded_at: Any, allowed_N: Any
) -> None:
    """Offer every row. Several scans share the blocks out, after one of them has seen the first, whose rows are the
    longest; a single one shares queries out to `parts`.

    table: codes (M, G, 32, 4), scales, levels, row at each place (N), the largest norm in each block and from there on
    (N / 512), items (N, D). asked: the queries' a and b, both (B, 4 G) int8, what to take off their sums (B, 2), facts
    (B, 7), and vectors.
    """
    scans, batch, blocks = len(state.heaps_SBK), len(asked[0]), len(table[4])
    each = -(-batch // parts // _TOGETHER) * _TOGETHER
    floors_B, first = np.full(batch, -np.inf), min(_FIRST, blocks)
    if scans > 1:
        _scan_part(
            state, 0, 1, (0, first), 0, batch, floors_B, table, asked, excluded_E, excluded_at, allowed_N
        )  # fmt: skip
        for b in range(batch):
            floors_B[b] = state.heaps_SBK[0, b, 0]
    for job in prange(max(scans, parts)):
        if scans > 1:
            _scan_part(
                state, job, scans, (first, blocks), 0, batch, floors_B, table, asked, excluded_E, excluded_at, allowed_N
            )  # fmt: skip
        else:
            low, high = min(job * each, batch), min((job + 1) * each, batch)
            _scan_part(
                state, 0, 1, (0, blocks), low, high, floors_B, table, asked, excluded_E, excluded_at, allowed_N
            )  # fmt: skip


scan_panels = jit(_scan_panels)
scan_panels_parallel = jit_parallel(_scan_panels)
