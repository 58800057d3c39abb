"""Rows that share vectors, searched by their vectors: each is scored once, and the best ones name their rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.index.bounded import Exclusions
from leanrec.index.vectors.base import F32
from leanrec.index.vectors.shared import SharedVectors

__all__ = ["SharedRows"]


class SharedRows:
    """From C vectors to the N rows that have them.

    The row of a vector that only one row has is remembered; the rows of any other are looked for when it is among the
    best.
    """

    def __init__(self, vectors: SharedVectors) -> None:
        self.distinct, self._place_N = vectors.distinct, vectors.place_N
        counts_C = np.bincount(self._place_N, minlength=len(self.distinct))
        alone = np.flatnonzero(counts_C[self._place_N] == 1)
        self._row_C = np.full(len(self.distinct), -1, np.int32)
        self._row_C[self._place_N[alone]] = alone
        self._counts_C = counts_C.astype(np.int32)
        self._used_C = None if counts_C.all() else counts_C > 0

    def skipped(self, skip: Exclusions) -> tuple[Exclusions, int]:
        """What a search of the vectors must skip, and how many vectors more than rows it has to find.

        A vector stays unless none of its rows may be answered by anybody, or its only row is excluded. Any other one
        that exclusions may leave without a row counts as one more to find.
        """
        allowed_C, filtered = self._used_C, len(skip.allowed_N) > 0
        if filtered:
            allowed_C = np.zeros(len(self.distinct), np.bool_)
            allowed_C[self._place_N[skip.allowed_N]] = True
        excluded = Jagged(self._place_N[skip.rows_E].astype(np.int32), skip.offsets)
        alone_E = self._row_C[excluded.values] >= 0
        longest = int(excluded.lengths.max())
        emptied_E = ~alone_E & (filtered | (self._counts_C[excluded.values] <= longest))
        more = int(excluded.where(emptied_E).lengths.max()) if emptied_E.any() else 0
        return Exclusions.of(len(excluded), excluded.where(alone_E), allowed_C, len(self.distinct)), more

    def rows(
        self, found: npt.NDArray[np.int32], scores: F32, k: int, excluded: npt.NDArray[np.int32], skip: Exclusions
    ) -> tuple[npt.NDArray[np.int32], F32]:
        """The best k rows of vectors that were found, with their scores; equal scores by row."""
        single = self._row_C[found]
        rows, values = [single[single >= 0]], [scores[single >= 0]]
        for place in np.flatnonzero(single < 0).tolist():  # by falling score
            if sum(int((part > scores[place]).sum()) for part in values) >= k:
                break
            members = np.flatnonzero(self._place_N == found[place]).astype(np.int32)
            if len(skip.allowed_N):
                members = members[skip.allowed_N[members]]
            members = np.setdiff1d(members, excluded, assume_unique=True)
            rows.append(members)
            values.append(np.full(len(members), scores[place], np.float32))
        every, worth = np.concatenate(rows), np.concatenate(values)
        order = np.lexsort((every, -worth))[:k]
        return every[order], worth[order]
