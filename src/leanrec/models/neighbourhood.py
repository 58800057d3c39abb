"""Who had what, and each item's list of other items: what neighbour models are made of."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.console import Progress
from leanrec.core.jagged import Jagged
from leanrec.kernels.similarity import distinct_counts

__all__ = ["Incidence", "Neighbourhood", "largest", "spread_items"]

_CHUNKS = 64

Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Of some items: how many others each has, the others one after the other, and their numbers."""


@dataclass(frozen=True)
class Incidence:
    """Who had what. by_user: distinct item rows; counts_T: how often; by_item: the transpose, from_T: where it was."""

    by_user: Jagged
    counts_T: npt.NDArray[np.int64]
    by_item: Jagged
    from_T: npt.NDArray[np.int64]

    @classmethod
    def of(cls, histories: Jagged, num_items: int) -> Incidence:
        by_user, counts_T = distinct_counts(histories, num_items)
        from_T = np.argsort(by_user.values, kind="stable")
        users_N = np.bincount(by_user.values, minlength=num_items)
        return cls(by_user, counts_T, Jagged.from_lengths(by_user.row_of()[from_T].astype(np.int32), users_N), from_T)


@dataclass(frozen=True)
class Neighbourhood:
    """The `most` nearest items of each item, by falling similarity; selves_N: the similarity of an item to itself."""

    lists: Jagged
    similarities: npt.NDArray[np.float32]
    selves_N: npt.NDArray[np.float32]
    most: int

    def nearest(self, k: int) -> Neighbourhood:
        """Only the k nearest of each."""
        if k >= self.most:
            return self
        lists = self.lists
        place_T = np.arange(len(lists.values)) - np.repeat(lists.offsets[:-1], lists.lengths)
        return Neighbourhood(lists.where(place_T < k), self.similarities[place_T < k], self.selves_N, k)

    def normalised(self) -> Neighbourhood:
        """Each item's list with Euclidean length 1, its similarity to itself divided by the same number."""
        squares_N = np.bincount(
            self.lists.row_of(), weights=self.similarities.astype(np.float64) ** 2, minlength=len(self.lists)
        )
        lengths_N = np.where(squares_N > 0, np.sqrt(squares_N), 1.0)
        similarities = (self.similarities / lengths_N[self.lists.row_of()]).astype(np.float32)
        return Neighbourhood(self.lists, similarities, (self.selves_N / lengths_N).astype(np.float32), self.most)

    def replaced(self, items_n: npt.NDArray[np.int64], part: Part, selves_N: npt.NDArray[np.float32]) -> Neighbourhood:
        """With the lists of some items, rising, replaced by those of `part`; there may be more items than before."""
        kept_N = np.ones(len(selves_N), np.bool_)
        kept_N[items_n] = False
        kept_T = kept_N[self.lists.row_of()]
        owners = np.concatenate([self.lists.row_of()[kept_T], np.repeat(items_n, part[0])])
        order = np.argsort(owners, kind="stable")
        values = np.concatenate([self.lists.values[kept_T], part[1]])[order]
        similarities = np.concatenate([self.similarities[kept_T], part[2]])[order]
        lists = Jagged.from_lengths(values, np.bincount(owners, minlength=len(selves_N)))
        return Neighbourhood(lists, similarities, selves_N, self.most)


def spread_items(
    name: str, items_n: npt.NDArray[np.int64], work: Callable[[npt.NDArray[np.int64]], Part], *, most: int = 1 << 20
) -> Part:
    """`work` of some items, at most `most` at a time, on all threads, put together in their order."""
    chunks_wanted = max(min(_CHUNKS, len(items_n)), -(-len(items_n) // most))
    edges = np.linspace(0, len(items_n), chunks_wanted + 1).astype(int).tolist()
    chunks = [items_n[start:stop] for start, stop in pairwise(edges)]
    parts: list[Any] = []
    with closing(Progress(name, len(items_n))) as progress, ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for chunk, done in zip(chunks, pool.map(work, chunks), strict=True):
            parts.append(done)
            progress.advance(len(chunk))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    counts_n, rows_T, numbers_T = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return counts_n, rows_T, numbers_T


def largest(
    weights_nM: npt.NDArray[np.float32], keep: int, *, signed: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(n, K) places and weights of the largest in each row, falling, equal ones by rising place.

    By size, unless `signed`.
    """
    sizes_nM = -weights_nM if signed else -np.abs(weights_nM)
    if keep < weights_nM.shape[1]:
        places_nK = np.sort(np.argpartition(sizes_nM, keep, axis=1)[:, :keep], axis=1)
    else:
        places_nK = np.broadcast_to(np.arange(weights_nM.shape[1]), weights_nM.shape)
    order_nK = np.argsort(np.take_along_axis(sizes_nM, places_nK, axis=1), axis=1, kind="stable")
    places_nK = np.take_along_axis(places_nK, order_nK, axis=1)
    return places_nK, np.take_along_axis(weights_nM, places_nK, axis=1)
