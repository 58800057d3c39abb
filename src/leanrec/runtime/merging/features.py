"""What a ranker looks at: where the sources place a candidate, how the item sells, and what it is to this history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.runtime.merging.base import Evidence

__all__ = ["ItemFacts", "describe", "feature_names"]

_RECENT = (0.02, 0.08, 0.3)
"""Shares of the events, the newest, that count as of late."""
_HALF_LIVES = (20.0, 100.0)
"""In events of the user."""
_DOUBT = 5.0
"""Users' worth of the average in an item's rate of repeats."""
_FACTS = ("log_count", *(f"log_newest_{share:g}" for share in _RECENT), "unsold", "repeat_rate")
_HISTORY = (
    "again", "log_times", "log_since", *(f"decayed_{life:g}" for life in _HALF_LIVES), "share_of_history",
    "again_x_repeat_rate", "again_x_user_repeats", "again_x_log_length", "user_repeats", "log_length",
)  # fmt: skip


def feature_names(sources: tuple[str, ...]) -> list[str]:
    """F names, in the order of the columns of `describe`."""
    places = [f"{source}: {what}" for source in sources for what in ("log_rank", "inverse_rank", "share")]
    return [*places, *_FACTS, *_HISTORY]


class ItemFacts:
    """How items sell, a row of facts each: (N, G) float32 in the order of `_FACTS`."""

    def __init__(self, table_NG: npt.NDArray[np.float32]) -> None:
        self.table_NG = table_NG

    @classmethod
    def of(cls, events: Jagged, times: Jagged | None, num_items: int) -> Self:
        """From the users' events, oldest first; without times nothing is known of when, and those facts are 0."""
        rows_T = events.values
        count_N = np.bincount(rows_T, minlength=num_items)
        table_NG = np.zeros((num_items, len(_FACTS)), np.float32)
        table_NG[:, 0] = np.log1p(count_N)
        if times is not None and len(rows_T):
            order = np.argsort(np.nan_to_num(times.values, nan=-np.inf), kind="stable")
            for column, share in enumerate(_RECENT, start=1):
                newest = rows_T[order[len(order) - int(np.ceil(share * len(order))) :]]
                table_NG[:, column] = np.log1p(np.bincount(newest, minlength=num_items))
            last_N = np.zeros(num_items)
            last_N[rows_T[order]] = (1 + np.arange(len(order))) / len(order)
            table_NG[:, 1 + len(_RECENT)] = 1 - last_N
        pairs, times_P = np.unique(events.row_of() * num_items + rows_T, return_counts=True)
        users_N = np.bincount(pairs % num_items, minlength=num_items)
        again_N = np.bincount(pairs[times_P > 1] % num_items, minlength=num_items)
        average = again_N.sum() / max(users_N.sum(), 1)
        table_NG[:, -1] = (again_N + _DOUBT * average) / (users_N + _DOUBT)
        return cls(table_NG)

    @classmethod
    def load(cls, tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        table_NG = tensors["facts"]
        if table_NG.shape != (items, len(_FACTS)) or table_NG.dtype != np.float32:
            raise ValueError(f"facts of shape {table_NG.shape} about {items} items")
        return cls(table_NG)


def describe(evidence: Evidence, facts: ItemFacts) -> npt.NDArray[np.float64]:
    """(T, F) one row per candidate; a row depends on the candidate and its query alone."""
    ranks_TS, items_T = evidence.ranks_TS.astype(np.float64), evidence.candidates.values
    columns: list[npt.NDArray[Any]] = []
    for number in range(ranks_TS.shape[1]):
        found_T = ranks_TS[:, number] <= evidence.depth
        columns += [np.log(ranks_TS[:, number]), found_T / ranks_TS[:, number], evidence.shares_TS[:, number]]
    facts_TG = facts.table_NG[items_T]
    columns += list(facts_TG.T)
    columns += _of_history(evidence, facts_TG[:, -1])
    return np.stack(columns, axis=1).astype(np.float64, copy=False)


def _of_history(evidence: Evidence, repeat_rate_T: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
    """The columns named in `_HISTORY`."""
    histories, candidates = evidence.queries.histories, evidence.candidates
    width = int(max(histories.values.max(initial=0), candidates.values.max(initial=0))) + 1
    keys_E = histories.row_of() * width + histories.values
    known_P, pair_E, times_P = np.unique(keys_E, return_inverse=True, return_counts=True)
    lengths_B = histories.lengths
    age_E = np.repeat(histories.offsets[1:], lengths_B) - 1 - np.arange(len(keys_E))
    since_P = np.full(len(known_P), np.iinfo(np.int64).max)
    np.minimum.at(since_P, pair_E, age_E)
    decayed_PH = np.stack(
        [np.bincount(pair_E, weights=0.5 ** (age_E / life), minlength=len(known_P)) for life in _HALF_LIVES], axis=1
    )
    query_T = candidates.row_of()
    keys_T = query_T * width + candidates.values
    at_T = np.minimum(np.searchsorted(known_P, keys_T), max(len(known_P) - 1, 0))
    again_T = known_P[at_T] == keys_T if len(known_P) else np.zeros(len(keys_T), np.bool_)

    def of_pair(values_P: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        if not len(values_P):
            return np.zeros(len(keys_T))
        return np.where(again_T, values_P[at_T], 0.0)

    distinct_B = np.bincount(known_P // width, minlength=len(lengths_B))
    repeats_T = ((lengths_B - distinct_B) / np.maximum(lengths_B, 1))[query_T]
    length_T = np.log1p(lengths_B)[query_T]
    return [
        again_T.astype(np.float64), np.log1p(of_pair(times_P)), np.log1p(of_pair(since_P)),
        *(of_pair(decayed_P) for decayed_P in decayed_PH.T),
        of_pair(times_P) / np.maximum(lengths_B, 1)[query_T],
        again_T * repeat_rate_T, again_T * repeats_T, again_T * length_T, repeats_T, length_T,
    ]  # fmt: skip
