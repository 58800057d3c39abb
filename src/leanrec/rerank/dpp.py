"""A determinantal point process, greedily maximised (Chen et al. 2018, arXiv:1709.05135)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from leanrec.core.config import Config
from leanrec.kernels.diversity import dpp_order
from leanrec.rerank.diverse import DiverseReranker

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


class DeterminantalPointProcess(DiverseReranker):
    """Next comes what adds most to log det of the chosen items' kernel: relevance and volume at once.

    Qualities are exp(relevance (1 - diversity) / (2 diversity)), the paper's eq. 12 in its theta = 1 - diversity.
    """

    kind: ClassVar[str] = "dpp"
    Options: ClassVar[type[Config]] = DPPOptions

    def fill(self, relevance_BM: Any, vectors_BMD: Any, counts_B: Any, k: int, order_BM: Any) -> None:
        # Below 1, so that no choice of diversity overflows; a common factor changes no choice.
        steepness = min((1 - self.diversity) / (2 * self.diversity), 300.0)
        quality_BM = np.exp(steepness * (relevance_BM - 1))
        dpp_order(quality_BM, vectors_BMD, counts_B, k, _FLOOR * quality_BM.max(initial=0) ** 2, order_BM)
