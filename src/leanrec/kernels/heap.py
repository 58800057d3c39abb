"""What compiled loops keep the best of many rows with: heaps, keys that sort as answers do, and rows to leave out.

Keys are of float32 scores above 0, so that score and row fit one int64 that sorts by falling score, then by rising row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit

__all__ = ["keep_least", "key_of", "listed", "new_box", "replace_least", "score_of", "take_best"]


@jit
def replace_least(values: Any, first: Any, size: Any, value: Any) -> None:
    """Put `value` in place of the least of the min-heap values[first : first + size].

    Places and no view: a view counts another reference, which threads wait for.
    """
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and values[first + child + 1] < values[first + child]:
            child += 1
        if values[first + child] >= value:
            break
        values[first + at] = values[first + child]
        at = child
    values[first + at] = value


@jit
def listed(sorted_E: Any, low: Any, high: Any, row: Any) -> Any:
    """Whether a row stands among the rising ones from place low to before place high."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if sorted_E[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low < end and sorted_E[low] == row


@jit
def new_box() -> Any:
    """One float32 and, in the same bytes, an int32: the bits of numbers that are at least 0 sort as the numbers do."""
    score_1 = np.zeros(1, np.float32)
    return score_1, score_1.view(np.int32)


@jit
def key_of(box: Any, score: Any, row: Any) -> Any:
    """An int64 that sorts by falling score, then by rising row."""
    box[0][0] = score
    return (-np.int64(box[1][0]) << 32) + np.int64(row)


@jit
def score_of(box: Any, key: Any) -> Any:
    box[1][0] = np.int32(-(key >> 32))
    return box[0][0]


@jit
def keep_least(heap_K: Any, count: Any, key: Any) -> Any:
    """Offer a key to a max-heap of the least `len(heap_K)` keys, `count` of them in use; the new count."""
    at = count
    if count < len(heap_K):
        while at > 0 and heap_K[(at - 1) // 2] < key:
            heap_K[at] = heap_K[(at - 1) // 2]
            at = (at - 1) // 2
        heap_K[at] = key
        return count + 1
    if count == 0 or key >= heap_K[0]:
        return count
    at = 0
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and heap_K[child + 1] > heap_K[child]:
            child += 1
        if heap_K[child] <= key:
            break
        heap_K[at] = heap_K[child]
        at = child
    heap_K[at] = key
    return count


@jit
def take_best(
    query: Any, sums_N: Any, touched_N: Any, touched: Any, exclude_offsets: Any, exclude_values: Any, allowed_N: Any,
    heap_K: Any, box: Any, items_BK: Any, scores_BK: Any,
) -> None:  # fmt: skip
    """Fill row `query` of items_BK and scores_BK with the best touched items that are above 0; sums_N is zero again.

    exclude_*: B rows, or none at all. allowed_N: (N,) or (0,). Answers that are missing stay as they are.
    """
    if len(exclude_offsets) > 1:
        for at in range(exclude_offsets[query], exclude_offsets[query + 1]):
            sums_N[exclude_values[at]] = 0
    count = 0
    for t in range(touched):
        item = touched_N[t]
        score = np.float32(sums_N[item])
        sums_N[item] = 0
        if score > 0 and (len(allowed_N) == 0 or allowed_N[item]):
            count = keep_least(heap_K, count, key_of(box, score, item))
    best = np.sort(heap_K[:count])
    for i in range(count):
        items_BK[query, i] = np.int32(best[i] & 0xFFFFFFFF)
        scores_BK[query, i] = score_of(box, best[i])
