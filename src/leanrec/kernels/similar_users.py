"""The users most like a history, and what they had: similar users are found through the items they share alone.

Arrays `x_offsets, x_values` are the two halves of a Jagged. Sums are float64 in a fixed order, rounded once to float32;
equal ones go by rising row, whatever the batch and the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.heap import keep_least, key_of, new_box, score_of, take_best
from leanrec.kernels.jit import jit
from leanrec.kernels.neighbours import add_touched, similarity_base

__all__ = ["score_by_users", "search_by_users", "sums_by_users_reference"]


@jit
def _similar_users(
    items: Any, weights: Any, norm: Any, item_offsets: Any, item_users: Any, item_weights: Any, norms_U: Any,
    shrinkage: Any, jaccard: Any, shared_U: Any, touched_U: Any, heap: Any, box: Any,
) -> Any:  # fmt: skip
    """Keys of the most similar users, as many as the heap holds, by falling similarity."""
    touched = 0
    for at in range(len(items)):
        weight = np.float64(weights[at])
        for place in range(item_offsets[items[at]], item_offsets[items[at] + 1]):
            user = item_users[place]
            touched = add_touched(weight * np.float64(item_weights[place]), user, shared_U, touched_U, touched)
    count = 0
    for t in range(touched):
        user = touched_U[t]
        shared = shared_U[user]
        shared_U[user] = 0
        similarity = np.float32(shared / similarity_base(norm, norms_U[user], shared, shrinkage, jaccard))
        if similarity > 0:
            count = keep_least(heap, count, key_of(box, similarity, user))
    return np.sort(heap[:count])


@jit
def _add_up(keys: Any, user_offsets: Any, user_items: Any, box: Any, sums_N: Any, touched_N: Any) -> Any:
    """Add each user's similarity to the items they had; how many items were touched."""
    touched = 0
    for key in keys:
        similarity = np.float64(score_of(box, key))
        user = np.int32(key & 0xFFFFFFFF)
        for place in range(user_offsets[user], user_offsets[user + 1]):
            touched = add_touched(similarity, user_items[place], sums_N, touched_N, touched)
    return touched


@jit
def search_by_users(
    asked_offsets: Any, asked_items: Any, asked_weights: Any, norms_B: Any, user_offsets: Any, user_items: Any,
    item_offsets: Any, item_users: Any, item_weights: Any, norms_U: Any, users: Any, shrinkage: Any, jaccard: Any,
    exclude_offsets: Any, exclude_values: Any, allowed_N: Any, shared_U: Any, touched_U: Any, sums_N: Any,
    touched_N: Any, items_BK: Any, scores_BK: Any,
) -> None:  # fmt: skip
    """Fill items_BK and scores_BK with what the `users` most similar users had, by the sum of their similarities.

    asked_*: the distinct items of B histories with weights; norms_B: of the histories. user_*: the distinct items of
    the training users; item_*: the transpose with weights; norms_U: of the users. exclude_*: B rows, or none at all.
    allowed_N: (N,) or (0,). shared_U, sums_N (zero), touched_*: scratch, left as it was.
    """
    heap, heap_K, box = np.empty(users, np.int64), np.empty(items_BK.shape[1], np.int64), new_box()
    for query in range(len(items_BK)):
        asked = slice(asked_offsets[query], asked_offsets[query + 1])
        keys = _similar_users(
            asked_items[asked], asked_weights[asked], norms_B[query], item_offsets, item_users, item_weights, norms_U,
            shrinkage, jaccard, shared_U, touched_U, heap, box,
        )  # fmt: skip
        touched = _add_up(keys, user_offsets, user_items, box, sums_N, touched_N)
        take_best(
            query, sums_N, touched_N, touched, exclude_offsets, exclude_values, allowed_N, heap_K, box, items_BK,
            scores_BK,
        )  # fmt: skip


@jit
def score_by_users(
    asked_offsets: Any, asked_items: Any, asked_weights: Any, norms_B: Any, user_offsets: Any, user_items: Any,
    item_offsets: Any, item_users: Any, item_weights: Any, norms_U: Any, users: Any, shrinkage: Any, jaccard: Any,
    wanted_offsets: Any, wanted_items: Any, shared_U: Any, touched_U: Any, sums_N: Any, touched_N: Any, scores_T: Any,
) -> None:  # fmt: skip
    """Fill scores_T with the sum of similarities of the users who had each wanted item; arrays as above."""
    heap, box = np.empty(users, np.int64), new_box()
    for query in range(len(wanted_offsets) - 1):
        asked = slice(asked_offsets[query], asked_offsets[query + 1])
        keys = _similar_users(
            asked_items[asked], asked_weights[asked], norms_B[query], item_offsets, item_users, item_weights, norms_U,
            shrinkage, jaccard, shared_U, touched_U, heap, box,
        )  # fmt: skip
        touched = _add_up(keys, user_offsets, user_items, box, sums_N, touched_N)
        for at in range(wanted_offsets[query], wanted_offsets[query + 1]):
            scores_T[at] = np.float32(sums_N[wanted_items[at]])
        for t in range(touched):
            sums_N[touched_N[t]] = 0


def sums_by_users_reference(
    weights_N: npt.NDArray[np.float64], norm: float, weights_UN: npt.NDArray[np.float64],
    norms_U: npt.NDArray[np.float64], had_UN: npt.NDArray[np.bool_], users: int, shrinkage: float, *,
    jaccard: bool = False,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """(N,) the sum of similarities of the most similar users who had each item, by comparing with every user."""
    shared_U = weights_UN @ weights_N
    base_U = norm + norms_U - shared_U + shrinkage if jaccard else np.sqrt(norm * norms_U) + shrinkage
    similar_U = np.divide(shared_U, base_U, out=np.zeros_like(shared_U), where=shared_U > 0).astype(np.float32)
    nearest = [user for user in np.lexsort((np.arange(len(similar_U)), -similar_U)) if similar_U[user] > 0][:users]
    sums_N: npt.NDArray[np.float64] = similar_U[nearest].astype(np.float64) @ had_UN[nearest]
    return sums_N
