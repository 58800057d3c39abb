"""From sources and queries to candidates and the evidence about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.merging import ranks_among
from leanrec.runtime.base import Source
from leanrec.runtime.merging.base import Evidence

__all__ = ["history_lists", "ranked", "unite", "weigh"]

_EVENTS = 1000
"""Of a history, the newest, whose items may be candidates."""


def history_lists(queries: Queries, num_items: int) -> Jagged:
    """(B) the distinct items of each history that may be answered again, rising."""
    recent = queries.histories.last(_EVENTS)
    keys = np.unique(recent.row_of() * num_items + recent.values)
    if queries.exclude is not None:
        keys = keys[~np.isin(keys, queries.exclude.row_of() * num_items + queries.exclude.values)]
    if queries.allowed is not None:
        keys = keys[queries.allowed[keys % num_items]]
    return Jagged.from_lengths(
        (keys % num_items).astype(np.int32), np.bincount(keys // num_items, minlength=len(queries))
    )


def unite(lists: Sequence[Hits], histories: Jagged | None, num_items: int) -> tuple[Jagged, npt.NDArray[np.int8]]:
    """(B) rows of all distinct candidates, rising, and (T,) the list that has each in its highest place.

    Of equal places the earlier list counts; histories, when given, come after all lists.
    """
    batch = len(lists[0].items_BK)
    keys, places, brought = [], [], []
    for number, hits in enumerate(lists):
        query_T, place_T = np.nonzero(hits.items_BK >= 0)
        keys.append(query_T * num_items + hits.items_BK[query_T, place_T])
        places.append(place_T)
        brought.append(np.full(len(place_T), number, np.int8))
    if histories is not None:
        keys.append(histories.row_of() * num_items + histories.values)
        places.append(np.full(len(histories.values), num_items))
        brought.append(np.full(len(histories.values), len(lists), np.int8))
    keys_T, places_T, brought_T = (np.concatenate(arrays) for arrays in (keys, places, brought))
    order = np.lexsort((brought_T, places_T, keys_T))
    first = order[np.flatnonzero(np.diff(keys_T[order], prepend=-1))]
    candidates = Jagged.from_lengths(
        (keys_T[first] % num_items).astype(np.int32), np.bincount(keys_T[first] // num_items, minlength=batch)
    )
    return candidates, brought_T[first]


def weigh(sources: Sequence[Source], lists: Sequence[Hits], queries: Queries, candidates: Jagged) -> Evidence:
    """What every source says of every candidate, seen from its own list of answers."""
    depth = lists[0].items_BK.shape[1]
    query_T = candidates.row_of()
    shape = (len(query_T), len(sources))
    ranks_TS, shares_TS = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for number, (source, hits) in enumerate(zip(sources, lists, strict=True)):
        scores_T = source.score(queries, candidates)
        ranks_T = np.empty(len(query_T), np.float32)
        ranks_among(hits.scores_BK, query_T, scores_T, ranks_T)
        ranks_TS[:, number] = np.where(np.isfinite(scores_T), ranks_T, depth + 1)
        shares_TS[:, number] = _shares(hits, query_T, scores_T)
    return Evidence(queries, candidates, ranks_TS, shares_TS, depth)


def _shares(hits: Hits, query_T: npt.NDArray[np.int64], scores_T: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The head of the list has 1, what is below its end 0; the last answer a little above."""
    found_BK = hits.items_BK >= 0
    count_B = found_BK.sum(axis=1)
    scores_BK = hits.scores_BK.astype(np.float64)
    high_B = np.where(count_B > 0, scores_BK[:, 0], 0.0)
    low_B = np.where(count_B > 0, scores_BK[np.arange(len(count_B)), np.maximum(count_B - 1, 0)], 0.0)
    step_B = np.where(high_B > low_B, (high_B - low_B) / np.maximum(count_B, 1), 1.0)
    above_T = np.where(np.isfinite(scores_T), scores_T, -np.inf) - (low_B - step_B)[query_T]
    shares_T = np.clip(above_T / (high_B - low_B + step_B)[query_T], 0.0, 1.0)
    return np.where(count_B[query_T] > 0, shares_T, 0.0).astype(np.float32)


def ranked(candidates: Jagged, scores_T: npt.NDArray[np.float32], brought_T: npt.NDArray[np.int8], k: int) -> Hits:
    """The best k of each row, by falling score, then by rising item row."""
    hits = Hits.none(len(candidates), k)
    brought_BK = np.zeros(hits.items_BK.shape, np.int8)
    query_T = candidates.row_of()
    order = np.lexsort((candidates.values, -scores_T, query_T))
    place_T = np.arange(len(order)) - np.repeat(candidates.offsets[:-1], candidates.lengths)
    order, place_T, query_T = order[place_T < k], place_T[place_T < k], query_T[place_T < k]
    hits.items_BK[query_T, place_T] = candidates.values[order]
    hits.scores_BK[query_T, place_T] = scores_T[order]
    brought_BK[query_T, place_T] = brought_T[order]
    return Hits(hits.items_BK, hits.scores_BK, brought_BK)
