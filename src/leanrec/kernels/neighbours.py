"""Item neighbourhoods: which items share users, and what the neighbours of a history add up to.

Arrays `x_offsets, x_values` are the two halves of a Jagged. Similarities are float32; scores are sums in float64 in the
order of the history, rounded once to float32. Equal ones go by rising row, whatever the batch and the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["nearest_items", "score_neighbours", "search_neighbours", "similarities_reference", "sums_reference"]


@jit
def _new_box() -> Any:
    """One float32 and, in the same bytes, an int32: the bits of numbers that are at least 0 sort as the numbers do."""
    score_1 = np.zeros(1, np.float32)
    return score_1, score_1.view(np.int32)


@jit
def _key(box: Any, score: Any, row: Any) -> Any:
    """An int64 that sorts by falling score, then by rising row."""
    box[0][0] = score
    return (-np.int64(box[1][0]) << 32) + np.int64(row)


@jit
def _score_of(box: Any, key: Any) -> Any:
    box[1][0] = np.int32(-(key >> 32))
    return box[0][0]


@jit
def _keep_least(heap_K: Any, count: Any, key: Any) -> Any:
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
def nearest_items(
    start: Any,
    stop: Any,
    user_offsets: Any,
    user_items: Any,
    item_offsets: Any,
    item_users: Any,
    k: Any,
    shrinkage: Any,
) -> Any:
    """The k other items most similar to each of the items start..stop: falling similarity, equal ones by rising row.

    The similarity of i and j is shared / (sqrt(users of i * users of j) + shrinkage). user_*: the distinct items of
    each user; item_*: the transpose. Returns counts_n, and of each item its first counts_n entries of rows_nK and
    similarities_nK (items that share no user are no neighbours).
    """
    shared_N = np.zeros(len(item_offsets) - 1, np.int32)
    touched_N = np.empty(len(item_offsets) - 1, np.int32)
    counts_n = np.zeros(stop - start, np.int64)
    rows_nK = np.empty((stop - start, k), np.int32)
    similarities_nK = np.empty((stop - start, k), np.float32)
    heap_K, box = np.empty(k, np.int64), _new_box()
    for item in range(start, stop):
        touched = 0
        for at in range(item_offsets[item], item_offsets[item + 1]):
            user = item_users[at]
            for place in range(user_offsets[user], user_offsets[user + 1]):
                other = user_items[place]
                if shared_N[other] == 0:
                    touched_N[touched] = other
                    touched += 1
                shared_N[other] += 1
        users = np.float64(item_offsets[item + 1] - item_offsets[item])
        count = 0
        for t in range(touched):
            other = touched_N[t]
            others = np.float64(item_offsets[other + 1] - item_offsets[other])
            similarity = np.float32(shared_N[other] / (np.sqrt(users * others) + shrinkage))
            shared_N[other] = 0
            if other != item:
                count = _keep_least(heap_K, count, _key(box, similarity, other))
        best = np.sort(heap_K[:count])
        for i in range(count):
            rows_nK[item - start, i] = np.int32(best[i] & 0xFFFFFFFF)
            similarities_nK[item - start, i] = _score_of(box, best[i])
        counts_n[item - start] = count
    return counts_n, rows_nK, similarities_nK


@jit
def _add_up(history: Any, weights_L: Any, selves_N: Any, offsets: Any, rows: Any, similarities: Any, sums_N: Any,
            touched_N: Any) -> Any:  # fmt: skip
    """Add the weighted neighbours of the last events of a history to sums_N; how many items were touched."""
    touched = 0
    window = min(len(history), len(weights_L))
    for age in range(window - 1, -1, -1):
        item = history[len(history) - 1 - age]
        weight = np.float64(weights_L[age])
        own = weight * np.float64(selves_N[item])
        if own > 0:  # what underflows to 0 must not count an item as touched twice
            if sums_N[item] == 0:
                touched_N[touched] = item
                touched += 1
            sums_N[item] += own
        for at in range(offsets[item], offsets[item + 1]):
            other = rows[at]
            more = weight * np.float64(similarities[at])
            if more > 0:
                if sums_N[other] == 0:
                    touched_N[touched] = other
                    touched += 1
                sums_N[other] += more
    return touched


@jit
def search_neighbours(
    history_offsets: Any, history_values: Any, weights_L: Any, selves_N: Any, offsets: Any, rows: Any,
    similarities: Any, exclude_offsets: Any, exclude_values: Any, allowed_N: Any, sums_N: Any, touched_N: Any,
    items_BK: Any, scores_BK: Any,
) -> None:  # fmt: skip
    """Fill items_BK and scores_BK with the items that the histories' neighbours add up to, best first.

    weights_L: of the newest event, the one before...; older events do not count. selves_N: what an item says for
    itself. offsets, rows, similarities: the neighbours of each item. exclude_*: B rows, or none at all. allowed_N: (N,)
    or (0,). sums_N (zero), touched_N: scratch of N, left as it was. Answers that are missing stay as they are.
    """
    heap_K, box = np.empty(items_BK.shape[1], np.int64), _new_box()
    for query in range(len(items_BK)):
        history = history_values[history_offsets[query] : history_offsets[query + 1]]
        touched = _add_up(history, weights_L, selves_N, offsets, rows, similarities, sums_N, touched_N)
        if len(exclude_offsets) > 1:
            for at in range(exclude_offsets[query], exclude_offsets[query + 1]):
                sums_N[exclude_values[at]] = 0
        count = 0
        for t in range(touched):
            item = touched_N[t]
            score = np.float32(sums_N[item])
            sums_N[item] = 0
            if score > 0 and (len(allowed_N) == 0 or allowed_N[item]):
                count = _keep_least(heap_K, count, _key(box, score, item))
        best = np.sort(heap_K[:count])
        for i in range(count):
            items_BK[query, i] = np.int32(best[i] & 0xFFFFFFFF)
            scores_BK[query, i] = _score_of(box, best[i])


@jit
def score_neighbours(
    history_offsets: Any, history_values: Any, weights_L: Any, selves_N: Any, offsets: Any, rows: Any,
    similarities: Any, asked_offsets: Any, asked_values: Any, sums_N: Any, touched_N: Any, scores_T: Any,
) -> None:  # fmt: skip
    """Fill scores_T with what the histories' neighbours add up to for each asked item; arrays as above."""
    for query in range(len(asked_offsets) - 1):
        history = history_values[history_offsets[query] : history_offsets[query + 1]]
        touched = _add_up(history, weights_L, selves_N, offsets, rows, similarities, sums_N, touched_N)
        for at in range(asked_offsets[query], asked_offsets[query + 1]):
            scores_T[at] = np.float32(sums_N[asked_values[at]])
        for t in range(touched):
            sums_N[touched_N[t]] = 0


def similarities_reference(incidence_UN: npt.NDArray[np.bool_], shrinkage: float) -> npt.NDArray[np.float64]:
    """(N, N) similarity of all items, themselves included, from who had what; 0 where an item has no users."""
    shared_NN = incidence_UN.T.astype(np.float64) @ incidence_UN.astype(np.float64)
    users_N = np.diag(shared_NN)
    base_NN = np.sqrt(np.outer(users_N, users_N)) + shrinkage
    return np.divide(shared_NN, base_NN, out=np.zeros_like(shared_NN), where=base_NN > 0)


def sums_reference(
    history: npt.NDArray[np.integer[Any]], weights_L: npt.NDArray[np.float64], similarities_NN: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """(N,) the weighted sum of the rows of a (truncated) similarity matrix over the last events of a history."""
    last = history[::-1][: len(weights_L)]
    sums_N: npt.NDArray[np.float64] = weights_L[: len(last)] @ similarities_NN[last].astype(np.float64)
    return sums_N
