"""What lists are like beyond being right: varied, surprising, and how far they lean towards what is popular.

| name             | mean over users of                                                                            |
|------------------|-----------------------------------------------------------------------------------------------|
| diversity        | 1 - similarity, over the pairs of items in the list (Ziegler et al. 2005)                      |
| serendipity      | share of the list that is right and not among the k most popular items the user has not had   |
|                  | (Ge et al. 2010)                                                                              |
| popularity_lift  | mean popularity in the list / in the user's history - 1: 0 leans as the user does             |
|                  | (Abdollahpouri et al. 2020); users without history are left out                               |
| popularity_bias  | mean |log2 (popularity in the list / in the history)|: how far from the user, either way      |

Similarity is Jaccard's of attribute values, or the cosine of vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Cases, Dataset
from leanrec.evaluation.metrics import find_hits

__all__ = ["BEYOND", "ItemSets", "beyond", "diversity", "item_sets", "popularity_lift", "serendipity"]

BEYOND = ("diversity", "serendipity", "popularity_lift", "popularity_bias")
_MOST_VALUES = 256
_BLOCK = 512

Items = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ItemSets:
    """What items are compared by. vectors_ND: (N, D); jaccard: 0 or 1 for each of D values, else for the cosine."""

    vectors_ND: npt.NDArray[np.float32]
    jaccard: bool


def item_sets(data: Dataset) -> ItemSets | None:
    """The attribute values of items: texts and lists of texts with at most half as many values as items; None without.

    Of many values the 256 most frequent count.
    """
    if data.attributes is None:
        return None
    flags = []
    for column in data.attributes.columns[1:]:
        values = data.attributes[column]
        if not isinstance(values.dtype, pl.String | pl.Categorical | pl.Boolean | pl.List):
            continue
        held = values if isinstance(values.dtype, pl.List) else values.cast(pl.String).reshape((-1, 1)).arr.to_list()
        counts = held.list.explode().drop_nulls().value_counts(sort=True)
        if len(counts) * 2 <= len(data.items):
            top = counts[counts.columns[0]].head(_MOST_VALUES)
            flags += [held.list.contains(value).fill_null(False).to_numpy() for value in top]
    return ItemSets(np.stack(flags, axis=1).astype(np.float32), jaccard=True) if flags else None


def diversity(items_BK: Items, sets: ItemSets) -> Values:
    """(B,) mean over pairs of 1 - similarity; NaN for lists of fewer than two items."""
    found = np.full(len(items_BK), np.nan)
    for start in range(0, len(items_BK), _BLOCK):
        items = items_BK[start : start + _BLOCK]
        held_BK = items >= 0
        vectors = sets.vectors_ND[np.maximum(items, 0)].astype(np.float64) * held_BK[..., None]
        products = vectors @ vectors.transpose(0, 2, 1)
        sizes = np.einsum("bkd,bkd->bk", vectors, vectors)
        if sets.jaccard:
            below = sizes[:, :, None] + sizes[:, None, :] - products
        else:
            below = np.sqrt(sizes[:, :, None] * sizes[:, None, :])
        similar = np.divide(products, below, out=np.zeros_like(products), where=below > 0)
        pair = held_BK[:, :, None] & held_BK[:, None, :] & ~np.eye(items.shape[1], dtype=np.bool_)
        pairs = pair.sum(axis=(1, 2))
        apart = ((1 - similar) * pair).sum(axis=(1, 2))
        found[start : start + _BLOCK] = np.divide(apart, pairs, out=np.full(len(items), np.nan), where=pairs > 0)
    return found


def serendipity(items_BK: Items, cases: Cases, popularity_N: Items, k: int, *, include_seen: bool) -> Values:
    """(B,) hits in the first k places that are not among the user's k most popular items, over k."""
    items_BK = items_BK[:, :k]
    hits_BK = find_hits(items_BK, cases.targets)
    order = np.lexsort((np.arange(len(popularity_N)), -popularity_N))
    place_N = np.empty(len(order), np.int64)
    place_N[order] = np.arange(len(order))
    # The user's k-th most popular item stands after those of their history that are more popular.
    limit_B = np.full(len(items_BK), k)
    if not include_seen:
        for row, history in enumerate(cases.histories):
            for place in np.sort(place_N[np.unique(history)]):
                limit_B[row] += place < limit_B[row]
    expected_BK = place_N[np.maximum(items_BK, 0)] < limit_B[:, None]
    return np.asarray((hits_BK & ~expected_BK).sum(axis=1) / k)


def popularity_lift(items_BK: Items, histories: Jagged, popularity_N: Items) -> Values:
    """(B,) mean popularity of the list over that of the history, - 1; NaN where either is empty or was never seen."""
    held_BK = items_BK >= 0
    popularity = np.asarray(popularity_N, np.float64)
    sums = (popularity[np.maximum(items_BK, 0)] * held_BK).sum(axis=1)
    listed_B = _divided(sums, held_BK.sum(axis=1))
    own_B = _divided(
        np.bincount(histories.row_of(), popularity[histories.values], minlength=len(histories)), histories.lengths
    )
    return _divided(listed_B, own_B) - 1


def beyond(
    items_BK: Items, cases: Cases, popularity_N: Items, ks: list[int], sets: ItemSets | None, *, include_seen: bool
) -> dict[str, float]:
    """Every metric of the table at every k, means over the users that have a value."""
    found: dict[str, float] = {}
    for k in ks:
        head_BK = items_BK[:, :k]
        values = {"serendipity": serendipity(head_BK, cases, popularity_N, k, include_seen=include_seen)}
        lift_B = popularity_lift(head_BK, cases.histories, popularity_N)
        values["popularity_lift"] = lift_B
        values["popularity_bias"] = np.abs(np.log2(np.maximum(lift_B + 1, 1e-9)))
        if sets is not None:
            values["diversity"] = diversity(head_BK, sets)
        for name, values_B in values.items():
            known = values_B[~np.isnan(values_B)]
            found[f"{name}@{k}"] = float(known.mean()) if len(known) else 0.0
    return found


def _divided(over: npt.NDArray[Any], under: npt.NDArray[Any]) -> Values:
    out = np.full(len(over), np.nan)
    np.divide(over, under, out=out, where=np.asarray(under) > 0)
    return out
