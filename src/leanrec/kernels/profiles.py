"""Histories as weighted sums of sparse item vectors, and the items most like them: only items that share a term.

Arrays `x_offsets, x_values` are the two halves of a Jagged. Sums are float64 in the order of the history, rounded once
to float32; equal ones go by rising row, whatever the batch and the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.heap import new_box, take_best
from leanrec.kernels.jit import jit
from leanrec.kernels.neighbours import add_touched

__all__ = ["cosines_reference", "score_profiles", "search_profiles"]


@jit
def _add_up(
    history: Any, weights_L: Any, item_offsets: Any, item_terms: Any, item_values: Any, term_offsets: Any,
    term_items: Any, term_values: Any, profile_F: Any, terms_F: Any, sums_N: Any, touched_N: Any,
) -> Any:  # fmt: skip
    """Add to sums_N the cosine of the history's weighted sum of vectors with each item; how many were touched."""
    terms = 0
    for age in range(min(len(history), len(weights_L)) - 1, -1, -1):
        item = history[len(history) - 1 - age]
        for at in range(item_offsets[item], item_offsets[item + 1]):
            terms = add_touched(weights_L[age] * np.float64(item_values[at]), item_terms[at], profile_F, terms_F, terms)
    squares = 0.0
    for t in range(terms):
        squares += profile_F[terms_F[t]] ** 2
    touched = 0
    for t in range(terms):
        term = terms_F[t]
        value = profile_F[term] / np.sqrt(squares)
        profile_F[term] = 0
        for at in range(term_offsets[term], term_offsets[term + 1]):
            touched = add_touched(value * np.float64(term_values[at]), term_items[at], sums_N, touched_N, touched)
    return touched


@jit
def search_profiles(
    history_offsets: Any, history_values: Any, weights_L: Any, item_offsets: Any, item_terms: Any, item_values: Any,
    term_offsets: Any, term_items: Any, term_values: Any, exclude_offsets: Any, exclude_values: Any, allowed_N: Any,
    profile_F: Any, terms_F: Any, sums_N: Any, touched_N: Any, items_BK: Any, scores_BK: Any,
) -> None:  # fmt: skip
    """Fill items_BK and scores_BK with the items whose vectors are most like the histories', by cosine above 0.

    weights_L: of the newest event, the one before...; older events do not count. item_*: the terms of each item with
    values, of length 1 or none; term_*: the transpose. exclude_*: B rows, or none at all. allowed_N: (N,) or (0,).
    profile_F, sums_N (zero), terms_F, touched_N: scratch, left as it was.
    """
    heap_K, box = np.empty(items_BK.shape[1], np.int64), new_box()
    for query in range(len(items_BK)):
        history = history_values[history_offsets[query] : history_offsets[query + 1]]
        touched = _add_up(
            history, weights_L, item_offsets, item_terms, item_values, term_offsets, term_items, term_values, profile_F,
            terms_F, sums_N, touched_N,
        )  # fmt: skip
        take_best(
            query, sums_N, touched_N, touched, exclude_offsets, exclude_values, allowed_N, heap_K, box, items_BK,
            scores_BK,
        )  # fmt: skip


@jit
def score_profiles(
    history_offsets: Any, history_values: Any, weights_L: Any, item_offsets: Any, item_terms: Any, item_values: Any,
    term_offsets: Any, term_items: Any, term_values: Any, asked_offsets: Any, asked_values: Any, profile_F: Any,
    terms_F: Any, sums_N: Any, touched_N: Any, scores_T: Any,
) -> None:  # fmt: skip
    """Fill scores_T with the cosine of each asked item; arrays as above."""
    for query in range(len(asked_offsets) - 1):
        history = history_values[history_offsets[query] : history_offsets[query + 1]]
        touched = _add_up(
            history, weights_L, item_offsets, item_terms, item_values, term_offsets, term_items, term_values, profile_F,
            terms_F, sums_N, touched_N,
        )  # fmt: skip
        for at in range(asked_offsets[query], asked_offsets[query + 1]):
            scores_T[at] = np.float32(sums_N[asked_values[at]])
        for t in range(touched):
            sums_N[touched_N[t]] = 0


def cosines_reference(
    history: npt.NDArray[np.integer[Any]], weights_L: npt.NDArray[np.float64], vectors_NF: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) cosine of the weighted sum of a history's vectors with every item, 0 where either has no length."""
    last = history[::-1][: len(weights_L)]
    profile_F = weights_L[: len(last)] @ vectors_NF[last]
    length = np.linalg.norm(profile_F)
    cosines_N: npt.NDArray[np.float64] = vectors_NF @ (profile_F / length if length else profile_F)
    return cosines_N
