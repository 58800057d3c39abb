"""What re-rankers share that choose greedily, place by place, between relevance and unlikeness."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from leanrec.core.nouns import Hits, Queries
from leanrec.rerank.alike import checked_vectors, unit_vectors
from leanrec.rerank.base import Catalogue, Reranker, relevance, reordered

__all__ = ["DiverseReranker"]


class DiverseReranker(Reranker):
    """vectors_ND: (N, D) float16 of length 1, whose cosines say how alike items are. Options: `diversity` and `by`."""

    def __init__(self, diversity: float, vectors_ND: npt.NDArray[np.float16]) -> None:
        self.diversity, self.vectors_ND = diversity, vectors_ND

    @abstractmethod
    def fill(
        self, relevance_BM: npt.NDArray[Any], vectors_BMD: npt.NDArray[np.float32], counts_B: npt.NDArray[np.int64],
        k: int, order_BM: npt.NDArray[np.int64],
    ) -> None:  # fmt: skip
        """order_BM: the places of each pool's candidates in their new order, as kernels.diversity fills it."""

    @classmethod
    @final
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        return cls(options.diversity, unit_vectors(options.by, catalogue, cls.kind))

    @final
    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        order_BM = np.empty(pool.items_BK.shape, np.int64)
        vectors_BMD = self.vectors_ND[pool.items_BK].astype(np.float32)
        self.fill(relevance(pool), vectors_BMD, (pool.items_BK >= 0).sum(axis=1), k, order_BM)
        return reordered(pool, order_BM)

    @final
    def config(self) -> dict[str, Any]:
        return {"diversity": self.diversity}

    @final
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": self.vectors_ND}

    @classmethod
    @final
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        return cls(float(config["diversity"]), checked_vectors(tensors, items))
