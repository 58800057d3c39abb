"""Which rows can still be among the best k, when every score is known up to one radius a query.

A row whose score falls short of the k-th best by more than twice the radius cannot win. `keep` collects the others;
whoever calls it scores them in full when they become too many. Rows come in short blocks, in any order; scores of
places behind the last row are -inf and are never kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.heap import listed, replace_least
from leanrec.kernels.jit import jit

__all__ = ["BLOCK", "drop", "keep", "keep_all", "mark_places", "run_of"]

BLOCK = 16
"""Rows of a block. Compiled into `product`, `rowwise` and `scan`, whose cached code does not see a change here: remove
it then."""
_CHUNK = 64


@jit
def run_of(blocks_M: Any, at: Any, end: Any) -> Any:
    """How many blocks from place `at`, but before `end`, follow each other."""
    run = 1
    while at + run < end and blocks_M[at + run] == blocks_M[at] + run:
        run += 1
    return run


@jit
def keep(
    scores_n: Any, blocks_M: Any, radius: Any, heap_K: Any, rows_C: Any, kept_C: Any, count: Any, exclude_E: Any,
    allowed_N: Any,
) -> Any:  # fmt: skip
    """Offer the rows of blocks with their scores; the new count of kept rows, at most count + n.

    scores_n: BLOCK for each block. heap_K: float32, the k best scores so far, a min-heap. rows_C, kept_C: kept rows and
    their scores. exclude_E: rising rows that may not be answered. allowed_N: (N,) or (0,) for no restriction.
    """
    reach = np.float32(2 * radius)
    for start in range(0, len(scores_n), _CHUNK):
        stop = min(start + _CHUNK, len(scores_n))
        floor = heap_K[0] - reach
        reaching = 0
        for i in range(start, stop):  # branch-free, so that it vectorises; mostly nothing reaches
            reaching += scores_n[i] >= floor
        if reaching == 0:
            continue
        for i in range(start, stop):
            score = scores_n[i]
            row = BLOCK * blocks_M[i // BLOCK] + i % BLOCK
            if score == -np.inf or score < heap_K[0] - reach or (len(allowed_N) > 0 and not allowed_N[row]):
                continue
            if listed(exclude_E, 0, len(exclude_E), row):
                continue
            rows_C[count] = row
            kept_C[count] = score
            count += 1
            if score > heap_K[0]:
                replace_least(heap_K, 0, len(heap_K), score)
    return count


@jit
def keep_all(
    scores_Ln: Any, blocks_M: Any, live_L: Any, radius_B: Any, heaps_BK: Any, rows_BC: Any, kept_BC: Any, counts_B: Any,
    exclude_E: Any, exclude_offsets: Any, allowed_N: Any,
) -> None:  # fmt: skip
    """`keep` for the queries live_L of all B; rows to exclude lie between a query's offsets."""
    for at in range(len(live_L)):
        b = live_L[at]
        excluded = exclude_E[exclude_offsets[b] : exclude_offsets[b + 1]]
        counts_B[b] = keep(
            scores_Ln[at], blocks_M, radius_B[b], heaps_BK[b], rows_BC[b], kept_BC[b], counts_B[b], excluded, allowed_N
        )


@jit
def drop(radius: Any, heap_K: Any, rows_C: Any, kept_C: Any, count: Any) -> Any:
    """Forget kept rows that have fallen behind; the new count."""
    floor = heap_K[0] - np.float32(2 * radius)
    left = 0
    for i in range(count):
        if kept_C[i] >= floor:
            rows_C[left] = rows_C[i]
            kept_C[left] = kept_C[i]
            left += 1
    return left


@jit
def mark_places(place_N: Any, allowed_N: Any, marked_C: Any) -> None:
    """Set the places of allowed rows."""
    for n in range(len(place_N)):
        if allowed_N[n]:
            marked_C[place_N[n]] = True
