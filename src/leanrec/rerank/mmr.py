"""Maximal marginal relevance (Carbonell & Goldstein 1998)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.diversity import mmr_order
from leanrec.rerank.alike import checked_vectors, unit_vectors
from leanrec.rerank.base import Catalogue, Reranker, relevance, reordered

__all__ = ["MMROptions", "MaximalMarginalRelevance"]


class MMROptions(Config, frozen=True, kw_only=True):
    """Settings of maximal marginal relevance."""

    diversity: float = 0.2
    """What being unlike the items above counts for, beside relevance: 0 to 1."""
    by: str | None = None
    """What makes items alike: `vectors`, `users`, or an attribute; see rerank.alike."""

    def __post_init__(self) -> None:
        if not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity must be between 0 and 1, not {self.diversity}")


class MaximalMarginalRelevance(Reranker):
    """Next comes what has the most (1 - diversity) relevance - diversity * cosine to the most alike item above it."""

    kind: ClassVar[str] = "mmr"
    Options: ClassVar[type[Config]] = MMROptions

    def __init__(self, diversity: float, vectors_ND: npt.NDArray[np.float16]) -> None:
        self.diversity, self.vectors_ND = diversity, vectors_ND

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        return cls(options.diversity, unit_vectors(options.by, catalogue, "mmr"))

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        order_BM = np.empty(pool.items_BK.shape, np.int64)
        vectors_BMD = self.vectors_ND[pool.items_BK].astype(np.float32)
        counts_B = (pool.items_BK >= 0).sum(axis=1)
        mmr_order(relevance(pool), vectors_BMD, counts_B, self.diversity, k, order_BM)
        return reordered(pool, order_BM)

    def config(self) -> dict[str, Any]:
        return {"diversity": self.diversity}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": self.vectors_ND}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        return cls(float(config["diversity"]), checked_vectors(tensors, items))
