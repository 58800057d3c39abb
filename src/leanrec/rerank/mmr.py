"""Maximal marginal relevance (Carbonell & Goldstein 1998)."""

from __future__ import annotations

from typing import Any, ClassVar

from leanrec.core.config import Config
from leanrec.kernels.diversity import mmr_order
from leanrec.rerank.diverse import DiverseReranker

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


class MaximalMarginalRelevance(DiverseReranker):
    """Next comes what has the most (1 - diversity) relevance - diversity * cosine to the most alike item above it."""

    kind: ClassVar[str] = "mmr"
    Options: ClassVar[type[Config]] = MMROptions

    def fill(self, relevance_BM: Any, vectors_BMD: Any, counts_B: Any, k: int, order_BM: Any) -> None:
        mmr_order(relevance_BM, vectors_BMD, counts_B, self.diversity, k, order_BM)
