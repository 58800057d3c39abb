"""Rows that share vectors, searched by their vectors: each is scored once, and the best ones name their rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.index.bounded import Exclusions
from leanrec.index.vectors.base import F32
from leanrec.index.vectors.shared import SharedVectors
from leanrec.kernels.candidates import mark_places

__all__ = ["SharedRows"]


class SharedRows:
    """From C vectors to the N rows that have them.

    The row of a vector that only one row has is remembered; the rows of any other are looked for when it is among the
    best.
    """

    def __init__(self, vectors: SharedVectors) -> None:
        self.distinct, self._place_N = vectors.distinct, vectors.place_N
        self._counts_C = np.bincount(self._place_N, minlength=len(self.distinct)).astype(np.int32)
        alone = np.flatnonzero(self._counts_C[self._place_N] == 1)
        self._row_C = np.full(len(self.distinct), -1, np.int32)
        self._row_C[self._place_N[alone]] = alone
        self._used_C = None if self._counts_C.all() else self._counts_C > 0

    def skipped(self, skip: Exclusions) -> tuple[Exclusions, int]:
        """What a search of the vectors must skip, and how many vectors more than rows it has to find.

        A vector stays unless none of its rows may be answered by anybody, or its only row is excluded. Any other one
        that exclusions may leave without a row counts as one more to find.
        """
        allowed_C, filtered, size = self._used_C, len(skip.allowed_N) > 0, len(self._place_N)
        if filtered:
            allowed_C = np.zeros(len(self.distinct), np.bool_)
            mark_places(self._place_N, skip.allowed_N, allowed_C)
        excluded = Jagged(skip.rows_E, skip.offsets)
        known_E = (skip.rows_E >= 0) & (skip.rows_E < size)
        if not known_E.all():
            excluded = excluded.where(known_E)
        excluded = Jagged(self._place_N[excluded.values].astype(np.int32), excluded.offsets)
        alone_E = self._row_C[excluded.values] >= 0
        longest = int(excluded.lengths.max())
        others = excluded.where(~alone_E & (filtered | (self._counts_C[excluded.values] <= longest)))
        more = 0
        if len(others.values):
            emptied = np.unique(others.row_of() * len(self.distinct) + others.values)
            more = int(np.bincount(emptied // len(self.distinct)).max())
        return Exclusions.of(len(excluded), excluded.where(alone_E), allowed_C, len(self.distinct)), more

    def rows(
        self, found: npt.NDArray[np.int32], scores: F32, k: int, excluded: npt.NDArray[np.int32], skip: Exclusions
    ) -> tuple[npt.NDArray[np.int32], F32]:
        """The best k rows of vectors that were found, by falling score and with all that equal the last; equal scores
        by row."""
        rows, values = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
        count, end = 0, 0
        while count < k and end < len(found):
            start, end = end, min(max(k, 4 * end), len(found))
            end = int(np.searchsorted(-scores, -scores[end - 1], side="right"))
            part, worth = found[start:end], scores[start:end]
            single = self._row_C[part]
            alone = single >= 0
            rows.append(single[alone])
            values.append(worth[alone])
            if not alone.all():
                worth_C = np.full(len(self.distinct), np.nan, np.float32)
                worth_C[part[~alone]] = worth[~alone]
                members = self._members(~np.isnan(worth_C), excluded, skip)
                rows.append(members)
                values.append(worth_C[self._place_N[members]])
            count = sum(map(len, rows))
        every, best = np.concatenate(rows), np.concatenate(values)
        order = np.lexsort((every, -best))[:k]
        return every[order], best[order]

    def _members(
        self, wanted_C: npt.NDArray[np.bool_], excluded: npt.NDArray[np.int32], skip: Exclusions
    ) -> npt.NDArray[np.int32]:
        """The rows of some vectors that may be answered: one pass over the map."""
        members = np.flatnonzero(wanted_C[self._place_N]).astype(np.int32)
        if len(skip.allowed_N):
            members = members[skip.allowed_N[members]]
        return np.setdiff1d(members, excluded, assume_unique=True)
