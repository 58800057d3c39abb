"""What the indexes of other libraries share: candidates from the library, filters and canonical scores here.

A library is asked for more rows than wanted, so that enough are left after exclusions, filters and removed rows; a
query for which too few are left, or a filter that leaves few rows, is answered by scanning all rows instead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.base import Index, answerable, marked, padded, removed_rows, stored_removed
from leanrec.index.bounded import Exclusions, checked_norms, frozen
from leanrec.index.exact import ExactIndex
from leanrec.kernels.offers import offer_candidates
from leanrec.kernels.scan import finish_all
from leanrec.kernels.topk import new_state

__all__ = ["LibraryIndex"]

_SCAN = 8  # a library that would be asked for more than this part of the rows is not asked


class LibraryIndex(Index):
    """An approximate index of a library over the table, which the library copies unless it says otherwise."""

    exact = False
    more = 1.0
    """Candidates asked for, over those wanted: above 1 where the library's own scores are coarse."""

    def __init__(self, items_ND: npt.NDArray[np.float32]) -> None:
        self.items_ND = frozen(items_ND, np.float32)
        self._exact: ExactIndex | None = None

    def search(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        batch, size = len(queries_BD), len(self.items_ND)
        assert k >= 1, "k starts at 1"
        hits = Hits.none(batch, k)
        if batch == 0 or size == 0:
            return hits
        queries = frozen(queries_BD, np.float32)
        checked_norms(queries, "query vectors")
        may_N = answerable(self, allowed_N)
        longest = 0 if exclude is None else int(exclude.lengths.max(initial=0))
        share = 1.0 if may_N is None else max(float(np.mean(may_N)), 1 / size)
        count = int(np.ceil((self.more * k + longest) / share * (1.0 if share == 1 else 1.5)))
        short = np.arange(batch)
        if count * _SCAN <= size:
            rows_BC = np.ascontiguousarray(self.candidates(queries, count), np.int64)
            skip = Exclusions.of(batch, exclude, may_N, size)
            state = new_state(1, batch, min(k, size))
            offer_candidates(
                state, rows_BC, self.items_ND, queries, skip.rows_E, skip.offsets, skip.allowed_N
            )  # fmt: skip
            finish_all(state, self.items_ND, queries, hits.items_BK, hits.scores_BK)
            short = np.flatnonzero(hits.items_BK[:, -1] < 0)
        if len(short):
            found = self._scanning().search(
                queries[short], k, None if exclude is None else exclude.take(short), may_N
            )  # fmt: skip
            hits.items_BK[short], hits.scores_BK[short] = found.items_BK, found.scores_BK
        return hits

    def _scanning(self) -> ExactIndex:
        if self._exact is None:
            self._exact = ExactIndex.build(self.items_ND)
        return self._exact

    def add(self, items_MD: npt.NDArray[np.float32]) -> Self:
        table = frozen(items_MD, np.float32)
        checked_norms(table, "added items")
        grown = self.extended(np.concatenate([self.items_ND, table]), len(table))
        if len(self.removed_N):
            grown.removed_N = padded(self.removed_N, len(grown.items_ND))
        return grown

    def remove(self, rows: npt.NDArray[np.integer]) -> Self:
        left = copy(self)
        left.removed_N = marked(self, rows)
        return left

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {**self.stored(), **removed_rows(self)}

    @classmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        index = cls.restored(items_ND, tensors)
        index.removed_N = stored_removed(tensors, len(items_ND))
        return index

    @abstractmethod
    def candidates(self, queries_BD: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.integer]:
        """(B, count) rows the library thinks best, -1 where it has none; count is at most an eighth of the rows."""

    @abstractmethod
    def extended(self, items_ND: npt.NDArray[np.float32], added: int) -> Self:
        """The index over a table of which the last `added` rows are new."""

    @abstractmethod
    def stored(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays from which `restored` makes the index again, without a parser of the library's own files."""

    @classmethod
    @abstractmethod
    def restored(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The index as it was stored; BundleError where the arrays cannot be one."""
