"""Top-k from bounds: keep every row whose upper bound reaches the k-th lower bound, then rescore the kept in full.

A scan offers rows with a lower and an upper bound of their score, in any number of calls; a `State` per query keeps
what can still be among the best k. Nothing else is ever dropped, so the answer is exact whatever the bounds came from.
When the kept rows fill the buffer they are rescored and only the best k stay: memory is bounded for any data.

The score itself is one for all indexes: the inner product of float32 vectors, products exact and summed in float64 in
order of dimension, rounded once to float32. Order is by falling score, then by rising row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leanrec.kernels.heap import listed, replace_least
from leanrec.kernels.jit import jit

__all__ = [
    "State",
    "canonical_scores",
    "canonical_scores_reference",
    "finish",
    "make_room",
    "merge",
    "new_state",
    "offer",
    "offer_row",
    "row_norms",
    "row_norms_reference",
    "topk_reference",
]

_CHUNK = 64


class State(NamedTuple):
    """What can still be among the best k, for S scans of B queries (S > 1 when threads scan disjoint rows).

    heaps_SBK: the k largest lower bounds, a min-heap, -inf where there are none yet. rows_SBC, uppers_SBC: kept rows
    and their upper bounds; the first counts_SB of them are in use. rescored_SB: rows scored in full so far. refined_SB:
    rows of which a scan of several planes has read more than the first.
    """

    heaps_SBK: npt.NDArray[np.float64]
    rows_SBC: npt.NDArray[np.int32]
    uppers_SBC: npt.NDArray[np.float64]
    counts_SB: npt.NDArray[np.int64]
    rescored_SB: npt.NDArray[np.int64]
    refined_SB: npt.NDArray[np.int64]


def new_state(scans: int, batch: int, k: int) -> State:
    """An empty state; k >= 1."""
    room = max(512, 4 * k)
    return State(
        np.full((scans, batch, k), -np.inf),
        np.empty((scans, batch, room), np.int32),
        np.empty((scans, batch, room), np.float64),
        np.zeros((scans, batch), np.int64),
        np.zeros((scans, batch), np.int64),
        np.zeros((scans, batch), np.int64),
    )


@jit
def _dot(query_D: Any, row_D: Any) -> Any:
    total = 0.0
    for d in range(len(query_D)):
        total += np.float64(query_D[d]) * np.float64(row_D[d])
    score = np.float32(total)
    if score == 0:  # a tiny negative sum rounds to -0.0, which must tie with 0.0
        score = np.float32(0)
    return score


@jit
def _dots(items_ND: Any, query_D: Any, rows_C: Any, count: Any, scores_c: Any) -> None:
    """`_dot` of the first `count` rows, four at a time, so that sums do not wait for each other."""
    for i in range(0, count - 3, 4):
        a, b, c, d = rows_C[i], rows_C[i + 1], rows_C[i + 2], rows_C[i + 3]
        total_a, total_b, total_c, total_d = 0.0, 0.0, 0.0, 0.0
        for e in range(len(query_D)):
            value = np.float64(query_D[e])
            total_a += value * np.float64(items_ND[a, e])
            total_b += value * np.float64(items_ND[b, e])
            total_c += value * np.float64(items_ND[c, e])
            total_d += value * np.float64(items_ND[d, e])
        scores_c[i], scores_c[i + 1] = np.float32(total_a), np.float32(total_b)
        scores_c[i + 2], scores_c[i + 3] = np.float32(total_c), np.float32(total_d)
    for i in range(count - count % 4, count):
        scores_c[i] = _dot(query_D, items_ND[rows_C[i]])
    for i in range(count):
        scores_c[i] += np.float32(0)  # a tiny negative sum rounds to -0.0, which must tie with 0.0


@jit
def _rank(items_ND: Any, query_D: Any, rows_C: Any, count: Any) -> Any:
    """Sort keys of the first `count` rows: falling score in the high half, rising row in the low half."""
    scores = np.empty(count, np.float32)
    _dots(items_ND, query_D, rows_C, count, scores)
    bits = scores.view(np.int32)
    keys = np.empty(count, np.int64)
    for i in range(count):
        # Floats of one sign order like their bits; negative ones the other way round.
        rising = np.int64(bits[i]) if bits[i] >= 0 else np.int64(-1) - np.int64(bits[i] & 0x7FFFFFFF)
        keys[i] = (-rising << 32) + np.int64(rows_C[i])
    keys.sort()
    return keys


@jit
def _drop_beaten(floor: Any, rows_C: Any, uppers_C: Any, count: Any) -> Any:
    kept = 0
    for i in range(count):
        if uppers_C[i] >= floor:
            rows_C[kept] = rows_C[i]
            uppers_C[kept] = uppers_C[i]
            kept += 1
    return kept


@jit
def _make_room(items_ND: Any, query_D: Any, heap_K: Any, rows_C: Any, uppers_C: Any, count: Any) -> Any:
    """Drop beaten rows; if most of the buffer is still in use, score it in full and keep the best k.

    Returns how many rows are kept and how many were rescored.
    """
    count = _drop_beaten(heap_K[0], rows_C, uppers_C, count)
    if 2 * count <= len(rows_C):
        return count, 0
    k = len(heap_K)
    keys = _rank(items_ND, query_D, rows_C, count)
    for i in range(k):
        row = np.int32(keys[i] & 0xFFFFFFFF)
        score = np.float64(_dot(query_D, items_ND[row]))
        rows_C[i] = row
        uppers_C[i] = score
        heap_K[k - 1 - i] = score  # rising, so a heap
    return k, count


@jit
def make_room(state: Any, scan: Any, query: Any, items_ND: Any, queries_BD: Any) -> None:
    """Drop a query's beaten rows, and score the others in full where they are most of the buffer."""
    heap_K, rows_C, uppers_C = state.heaps_SBK[scan, query], state.rows_SBC[scan, query], state.uppers_SBC[scan, query]
    count, rescored = _make_room(items_ND, queries_BD[query], heap_K, rows_C, uppers_C, state.counts_SB[scan, query])
    state.counts_SB[scan, query] = count
    state.rescored_SB[scan, query] += rescored


@jit
def offer_row(
    state: Any,
    scan: Any,
    query: Any,
    row: Any,
    lower: Any,
    upper: Any,
    items_ND: Any,
    query_D: Any,
    exclude_E: Any,
) -> None:
    """Offer one allowed row whose upper bound reaches the k-th lower bound; exclude_E: rising rows to leave out."""
    if listed(exclude_E, 0, len(exclude_E), row):
        return
    heap_K, rows_C, uppers_C = state.heaps_SBK[scan, query], state.rows_SBC[scan, query], state.uppers_SBC[scan, query]
    count = state.counts_SB[scan, query]
    if count == len(rows_C):
        count, rescored = _make_room(items_ND, query_D, heap_K, rows_C, uppers_C, count)
        state.rescored_SB[scan, query] += rescored
    rows_C[count] = row
    uppers_C[count] = upper
    state.counts_SB[scan, query] = count + 1
    if lower > heap_K[0]:
        replace_least(heap_K, 0, len(heap_K), lower)


@jit
def offer(
    state: Any,
    scan: Any,
    query: Any,
    lowers_n: Any,
    uppers_n: Any,
    first: Any,
    items_ND: Any,
    query_D: Any,
    exclude_E: Any,
    allowed_N: Any,
) -> None:
    """Offer rows first, first + 1, ... with bounds of their scores to one query's state.

    exclude_E: rising rows that may not be answered. allowed_N: (N,) or (0,) for no restriction.
    """
    heap_K = state.heaps_SBK[scan, query]
    size = len(uppers_n)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        floor = heap_K[0]
        reaching = 0
        for i in range(start, stop):  # branch-free, so that it vectorises; mostly nothing reaches
            reaching += uppers_n[i] >= floor
        if reaching == 0:
            continue
        for i in range(start, stop):
            row = first + i
            if uppers_n[i] >= heap_K[0] and (len(allowed_N) == 0 or allowed_N[row]):
                offer_row(state, scan, query, row, lowers_n[i], uppers_n[i], items_ND, query_D, exclude_E)


@jit
def merge(state: Any, query: Any, items_ND: Any, query_D: Any) -> None:
    """Bring what the other scans kept for a query into its first scan."""
    heap_K, rows_C, uppers_C = state.heaps_SBK[0, query], state.rows_SBC[0, query], state.uppers_SBC[0, query]
    count = state.counts_SB[0, query]
    for scan in range(1, len(state.heaps_SBK)):
        for value in state.heaps_SBK[scan, query]:
            if value > heap_K[0]:
                replace_least(heap_K, 0, len(heap_K), value)
        for i in range(state.counts_SB[scan, query]):
            if state.uppers_SBC[scan, query, i] < heap_K[0]:
                continue
            if count == len(rows_C):
                count, rescored = _make_room(items_ND, query_D, heap_K, rows_C, uppers_C, count)
                state.rescored_SB[0, query] += rescored
            rows_C[count] = state.rows_SBC[scan, query, i]
            uppers_C[count] = state.uppers_SBC[scan, query, i]
            count += 1
        state.rescored_SB[0, query] += state.rescored_SB[scan, query]
        state.refined_SB[0, query] += state.refined_SB[scan, query]
    state.counts_SB[0, query] = count


@jit
def finish(state: Any, query: Any, items_ND: Any, query_D: Any, rows_K: Any, scores_K: Any) -> None:
    """Write the best k of a (merged) query; places beyond the last answer are left as they are."""
    heap_K, rows_C, uppers_C = state.heaps_SBK[0, query], state.rows_SBC[0, query], state.uppers_SBC[0, query]
    count = _drop_beaten(heap_K[0], rows_C, uppers_C, state.counts_SB[0, query])
    state.rescored_SB[0, query] += count
    keys = _rank(items_ND, query_D, rows_C, count)
    for i in range(min(count, len(rows_K))):
        row = np.int32(keys[i] & 0xFFFFFFFF)
        rows_K[i] = row
        scores_K[i] = _dot(query_D, items_ND[row])


@jit
def canonical_scores(items_ND: Any, rows_T: Any, queries_BD: Any, query_of_T: Any) -> Any:
    """(T,) float32 scores of item rows_T[t] for query query_of_T[t]."""
    scores_T = np.empty(len(rows_T), np.float32)
    for t in range(len(rows_T)):
        scores_T[t] = _dot(queries_BD[query_of_T[t]], items_ND[rows_T[t]])
    return scores_T


def canonical_scores_reference(
    items_ND: npt.NDArray[np.float32],
    rows_T: npt.NDArray[np.integer],
    queries_BD: npt.NDArray[np.float32],
    query_of_T: npt.NDArray[np.integer],
) -> npt.NDArray[np.float32]:
    """What `canonical_scores` computes, in NumPy."""
    total_T = np.zeros(len(rows_T))
    for d in range(items_ND.shape[1]):
        total_T += queries_BD[query_of_T, d].astype(np.float64) * items_ND[rows_T, d].astype(np.float64)
    return total_T.astype(np.float32) + np.float32(0)  # + 0 turns -0.0 into 0.0


@jit
def row_norms(items_ND: Any) -> Any:
    """(N,) float32, at least the Euclidean norm of each row; inf or NaN where the row is not finite."""
    norms_N = np.empty(len(items_ND), np.float32)
    for n in range(len(items_ND)):
        total = 0.0
        for d in range(items_ND.shape[1]):
            total += np.float64(items_ND[n, d]) * np.float64(items_ND[n, d])
        norms_N[n] = np.float32(np.sqrt(total) * (1 + 1e-6) + 1e-44) if total > 0 else np.float32(total)
    return norms_N


def row_norms_reference(items_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The norms that `row_norms` bounds from above, in NumPy."""
    norms_N: npt.NDArray[np.float64] = np.sqrt(np.square(items_ND.astype(np.float64)).sum(axis=1))
    return norms_N


def topk_reference(
    items_ND: npt.NDArray[np.float32],
    query_D: npt.NDArray[np.float32],
    k: int,
    exclude: npt.NDArray[np.integer] | None = None,
    allowed_N: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """What every exact index answers to one query, by scoring and sorting everything."""
    rows = np.arange(len(items_ND))
    scores_N = canonical_scores_reference(items_ND, rows, query_D[None], np.zeros(len(rows), np.int64))
    keep_N = np.ones(len(rows), np.bool_) if allowed_N is None else allowed_N.copy()
    if exclude is not None:
        keep_N[exclude] = False
    best = [n for n in np.lexsort((rows, -scores_N)) if keep_N[n]][:k]
    rows_K, top_K = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
    rows_K[: len(best)], top_K[: len(best)] = best, scores_N[best]
    return rows_K, top_K
