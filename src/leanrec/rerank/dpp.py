"""A determinantal point process, greedily maximised (Chen et al. 2018, arXiv:1709.05135)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.diversity import dpp_order
from leanrec.rerank.alike import checked_vectors, unit_vectors
from leanrec.rerank.base import Catalogue, Reranker, relevance, reordered

__all__ = ["DPPOptions", "DeterminantalPointProcess"]

_FLOOR = 1e-10
"""Volume below which rounding would choose."""


class DPPOptions(Config, frozen=True, kw_only=True):
    """Settings of the determinantal point process."""

    diversity: float = 0.2
    """What being unlike each other counts for, beside relevance: above 0, at most 1."""
    by: str | None = None
    """What makes items alike: `vectors`, `users`, or an attribute; see rerank.alike."""

    def __post_init__(self) -> None:
        if not 0 < self.diversity <= 1:
            raise ValueError(f"diversity must be above 0 and at most 1, not {self.diversity}")


class DeterminantalPointProcess(Reranker):
    """Next comes what adds most to log det of the chosen items' kernel: relevance and volume at once.

    Qualities are exp(relevance (1 - diversity) / (2 diversity)), the paper's eq. 12 in its theta = 1 - diversity.
    """

    kind: ClassVar[str] = "dpp"
    Options: ClassVar[type[Config]] = DPPOptions

    def __init__(self, diversity: float, vectors_ND: npt.NDArray[np.float16]) -> None:
        self.diversity, self.vectors_ND = diversity, vectors_ND

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        return cls(options.diversity, unit_vectors(options.by, catalogue, "dpp"))

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        order_BM = np.empty(pool.items_BK.shape, np.int64)
        vectors_BMD = self.vectors_ND[pool.items_BK].astype(np.float32)
        counts_B = (pool.items_BK >= 0).sum(axis=1)
        # Below 1, so that no choice of diversity overflows; a common factor changes no choice.
        steepness = min((1 - self.diversity) / (2 * self.diversity), 300.0)
        quality_BM = np.exp(steepness * (relevance(pool) - 1))
        dpp_order(quality_BM, vectors_BMD, counts_B, k, _FLOOR * quality_BM.max(initial=0) ** 2, order_BM)
        return reordered(pool, order_BM)

    def config(self) -> dict[str, Any]:
        return {"diversity": self.diversity}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": self.vectors_ND}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        return cls(float(config["diversity"]), checked_vectors(tensors, items))
