"""What is learnt of a column while it streams by, in bounded memory: counts of categories, a sample of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Counts", "Reservoir"]

_CATEGORIES = 1 << 20
_SAMPLE = 200_000

U64 = npt.NDArray[np.uint64]


class Counts:
    """How often each hash came, at least for those that came often (lossy counting, Manku & Motwani 2002).

    Exact up to `most` different ones; beyond, the rarest are forgotten, so that a count may fall short by `lost`.
    """

    def __init__(self, most: int = _CATEGORIES) -> None:
        self.most, self.lost = most, 0
        self._keys: U64 = np.empty(0, np.uint64)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[tuple[U64, npt.NDArray[np.int64]]] = []
        self._size = 0

    def add(self, hashes: U64) -> None:
        keys, counts = np.unique(hashes, return_counts=True)
        self._waiting.append((keys, counts.astype(np.int64)))
        self._size += len(keys)
        if self._size > max(len(self._keys), 1 << 18):
            self._merge()

    def finish(self) -> tuple[U64, npt.NDArray[np.int64]]:
        """The hashes by falling count, equal counts by rising hash; and the counts."""
        self._merge()
        order = np.lexsort((self._keys, -self._counts))
        return self._keys[order], self._counts[order]

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._waiting)])
        self._waiting, self._size = [], 0
        self._keys, place = np.unique(keys, return_inverse=True)
        self._counts = np.zeros(len(self._keys), np.int64)
        np.add.at(self._counts, place, counts)
        while len(self._keys) > self.most:
            least = int(self._counts.min())
            kept = self._counts > least
            self._keys, self._counts = self._keys[kept], self._counts[kept]
            self.lost += least


class Reservoir:
    """At most `most` of the numbers that came, each equally likely; the same ones whenever the same numbers come."""

    def __init__(self, most: int = _SAMPLE) -> None:
        self.most = most
        self._rng = np.random.default_rng(0)
        self._numbers = np.empty(0)
        self._lots = np.empty(0)

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        self._numbers = np.concatenate([self._numbers, numbers])
        self._lots = np.concatenate([self._lots, self._rng.random(len(numbers))])
        if len(self._lots) > 2 * self.most:
            self._shrink()

    def finish(self) -> npt.NDArray[Any]:
        """The sample, rising."""
        self._shrink()
        return np.sort(self._numbers)

    def _shrink(self) -> None:
        if len(self._lots) > self.most:
            kept = np.argpartition(self._lots, self.most)[: self.most]
            self._numbers, self._lots = self._numbers[kept], self._lots[kept]
