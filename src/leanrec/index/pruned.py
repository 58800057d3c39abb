"""Product codes searched by falling sub-id until no item that is left can win: exact, and mostly a part of the rows.

In the spirit of RecJPQPrune (Petrov, Macdonald & Tonellotto 2025, arXiv 2505.00560): the scores of all sub-ids bound
those of items that were not looked at. Where the bound does not fall fast enough, the query is scanned as `coded` does.
Rows by sub-id are kept in memory beside the codes (4 M bytes a row), not in the bundle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.index.bounded import Exclusions, checked_norms
from leanrec.index.coded import CodedIndex, Kept
from leanrec.index.norm_order import NormOrder
from leanrec.index.vectors import ItemVectors
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import PIECES, ProductVectors
from leanrec.kernels.product import pruned_product

__all__ = ["PrunedIndex"]

F32 = npt.NDArray[np.float32]
_PART = 8
"""A query that would look at more than one row in this many is scanned instead: rows in a random order are dear."""


class PrunedIndex(CodedIndex):
    """Over product codes, or factors of a basis that are kept as such."""

    name = "coded-pruned"

    def __init__(self, vectors: ItemVectors, order: NormOrder | None = None) -> None:
        codes = vectors.factors if isinstance(vectors, LowRankVectors) else vectors
        if not isinstance(codes, ProductVectors):
            raise ConfigError(f"the index {self.name!r} searches product codes, these are {vectors.kind}: use 'coded'")
        super().__init__(vectors, order)
        self._codes_NM, self._sizes_N, self._levels_S = codes.codes_NM, codes.sizes_N, codes.levels_S
        self._order_S = np.argsort(-self._levels_S, kind="stable")
        lists = [*self._codes_NM.T, self._sizes_N]
        self._postings_MN = np.empty((len(lists), len(codes)), np.int32)
        self._starts_MS = np.zeros((len(lists), PIECES + 1), np.int64)
        for m, entries_N in enumerate(lists):
            self._postings_MN[m] = np.argsort(entries_N, kind="stable")
            self._starts_MS[m, 1:] = np.cumsum(np.bincount(entries_N, minlength=PIECES))
        self.scored_rows, self.scanned_queries = 0, 0
        """What searches looked at so far: rows by sub-id, and queries that had to be scanned."""

    @property
    def bytes_scanned(self) -> int:
        return self._vectors.nbytes + self._postings_MN.nbytes + self._starts_MS.nbytes

    def _search(
        self, queries_BD: F32, k: int, skip: Exclusions, items_BK: npt.NDArray[np.int32], scores_BK: F32
    ) -> None:
        checked_norms(queries_BD, "query vectors")
        (partial_BMC,), radius_B = self._scan.prepare(queries_BD)
        radius_B = radius_B + self._slack(queries_BD)
        left = []
        for b in range(len(queries_BD)):
            order_MC = np.argsort(-partial_BMC[b], axis=1, kind="stable")
            one, excluded = Kept(1, k, 2 * k + (1 << 14)), _of(skip, b)
            limit = len(self._codes_NM) // _PART + 1024
            one.counts_B[0], scored, proven = pruned_product(
                self._codes_NM, self._sizes_N, self._levels_S, self._postings_MN, self._starts_MS, partial_BMC[b],
                order_MC, self._order_S, radius_B[b], one.heaps_BK[0], one.rows_BC[0], one.scores_BC[0], limit,
                excluded, skip.allowed_N,
            )  # fmt: skip
            self.scored_rows += scored
            if not proven:
                left.append(b)
                continue
            rows, scores = (part[:k] for part in one.ranked(0, self._vectors, queries_BD[b], radius_B[b]))
            items_BK[b, : len(rows)], scores_BK[b, : len(rows)] = rows, scores
        if left:
            self.scanned_queries += len(left)
            offsets = np.cumsum([0, *(len(_of(skip, b)) for b in left)])
            rest = Exclusions(np.concatenate([_of(skip, b) for b in left]), offsets, skip.allowed_N)
            items, scores = items_BK[left], scores_BK[left]
            super()._search(queries_BD[left], k, rest, items, scores)
            items_BK[left], scores_BK[left] = items, scores


def _of(skip: Exclusions, query: int) -> npt.NDArray[np.int32]:
    return skip.rows_E[skip.offsets[query] : skip.offsets[query + 1]]
