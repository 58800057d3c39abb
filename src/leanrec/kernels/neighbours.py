"""Item neighbourhoods: which items share users, and what the neighbours of a history add up to.

Arrays `x_offsets, x_values` are the two halves of a Jagged. Similarities are float32; scores are sums in float64 in the
order of the history, rounded once to float32. Equal ones go by rising row, whatever the batch and the threads. What is
added up may be below 0 (the weights of a linear model); answers are above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.heap import keep_least, key_of, new_box, score_of, take_best
from leanrec.kernels.jit import jit, jit_inline

__all__ = [
    "add_touched", "nearest_items", "score_neighbours", "search_neighbours", "similarities_reference",
    "similarity_base", "sums_reference",
]  # fmt: skip

_CANCELLED = 1e-300


@jit
def similarity_base(norm: Any, other_norm: Any, shared: Any, shrinkage: Any, jaccard: Any) -> Any:
    """What the shared weight of two sets is divided by."""
    if jaccard:
        return norm + other_norm - shared + shrinkage
    return np.sqrt(norm * other_norm) + shrinkage


@jit
def nearest_items(
    items_n: Any, user_offsets: Any, user_items: Any, user_weights: Any, item_offsets: Any, item_users: Any,
    item_weights: Any, norms_N: Any, other_norms_N: Any, k: Any, shrinkage: Any, jaccard: Any,
) -> Any:  # fmt: skip
    """The k other items most similar to each of the given items: falling similarity, equal ones by rising row.

    The similarity of i to j is shared / (sqrt(norm of i * other norm of j) + shrinkage), with `jaccard`
    shared / (norm of i + other norm of j - shared + shrinkage); shared: the sum over users who had both of the product
    of the two weights. The two norms of an item differ where similarity has a direction. user_*: the distinct items of
    each user; item_*: the transpose. Returns counts_n, and of each item its first counts_n entries of rows_nK and
    similarities_nK (items that share no user are no neighbours).
    """
    shared_N = np.zeros(len(item_offsets) - 1)
    touched_N = np.empty(len(item_offsets) - 1, np.int32)
    counts_n = np.zeros(len(items_n), np.int64)
    rows_nK = np.empty((len(items_n), k), np.int32)
    similarities_nK = np.empty((len(items_n), k), np.float32)
    heap_K, box = np.empty(k, np.int64), new_box()
    for n, item in enumerate(items_n):
        touched = 0
        for at in range(item_offsets[item], item_offsets[item + 1]):
            user, weight = item_users[at], np.float64(item_weights[at])
            for place in range(user_offsets[user], user_offsets[user + 1]):
                other = user_items[place]
                more = weight * np.float64(user_weights[place])
                if more > 0:
                    if shared_N[other] == 0:
                        touched_N[touched] = other
                        touched += 1
                    shared_N[other] += more
        count = 0
        for t in range(touched):
            other = touched_N[t]
            base = similarity_base(norms_N[item], other_norms_N[other], shared_N[other], shrinkage, jaccard)
            similarity = np.float32(shared_N[other] / base)
            shared_N[other] = 0
            if other != item and similarity > 0:
                count = keep_least(heap_K, count, key_of(box, similarity, other))
        best = np.sort(heap_K[:count])
        for i in range(count):
            rows_nK[n, i] = np.int32(best[i] & 0xFFFFFFFF)
            similarities_nK[n, i] = score_of(box, best[i])
        counts_n[n] = count
    return counts_n, rows_nK, similarities_nK


@jit_inline
def add_touched(more: Any, item: Any, sums_N: Any, touched_N: Any, touched: Any) -> Any:
    """sums_N[item] += more, and the item listed when it is the first time; the new number of touched items.

    A sum of 0 says untouched: what is 0 is not added, and a sum that cancels to 0 becomes a number that rounds to it.
    """
    if more != 0:
        if sums_N[item] == 0:
            touched_N[touched] = item
            touched += 1
        sums_N[item] += more
        if sums_N[item] == 0:
            sums_N[item] = _CANCELLED
    return touched


@jit
def _add_up(history: Any, weights_L: Any, selves_N: Any, offsets: Any, rows: Any, similarities: Any, sums_N: Any,
            touched_N: Any) -> Any:  # fmt: skip
    """Add the weighted neighbours of the last events of a history to sums_N; how many items were touched."""
    touched = 0
    window = min(len(history), len(weights_L))
    for age in range(window - 1, -1, -1):
        item = history[len(history) - 1 - age]
        weight = np.float64(weights_L[age])
        touched = add_touched(weight * np.float64(selves_N[item]), item, sums_N, touched_N, touched)
        for at in range(offsets[item], offsets[item + 1]):
            touched = add_touched(weight * np.float64(similarities[at]), rows[at], sums_N, touched_N, touched)
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
    heap_K, box = np.empty(items_BK.shape[1], np.int64), new_box()
    for query in range(len(items_BK)):
        history = history_values[history_offsets[query] : history_offsets[query + 1]]
        touched = _add_up(history, weights_L, selves_N, offsets, rows, similarities, sums_N, touched_N)
        take_best(
            query, sums_N, touched_N, touched, exclude_offsets, exclude_values, allowed_N, heap_K, box, items_BK,
            scores_BK,
        )  # fmt: skip


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


def similarities_reference(
    weights_UN: npt.NDArray[np.float64], norms_N: npt.NDArray[np.float64], shrinkage: float, *, jaccard: bool = False
) -> npt.NDArray[np.float64]:
    """(N, N) similarity of all items, themselves included, from each item's weight for each user; 0 over 0 is 0."""
    shared_NN = weights_UN.T @ weights_UN
    if jaccard:
        base_NN = norms_N[:, None] + norms_N - shared_NN + shrinkage
    else:
        base_NN = np.sqrt(np.outer(norms_N, norms_N)) + shrinkage
    return np.divide(shared_NN, base_NN, out=np.zeros_like(shared_NN), where=base_NN > 0)


def sums_reference(
    history: npt.NDArray[np.integer[Any]], weights_L: npt.NDArray[np.float64], similarities_NN: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """(N,) the weighted sum of the rows of a (truncated) similarity matrix over the last events of a history."""
    last = history[::-1][: len(weights_L)]
    sums_N: npt.NDArray[np.float64] = weights_L[: len(last)] @ similarities_NN[last].astype(np.float64)
    return sums_N
