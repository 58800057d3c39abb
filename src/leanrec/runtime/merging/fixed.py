"""Merges that only add up: reciprocal ranks, and scaled scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.runtime.merging.base import HEAVIEST, Evidence, Merge, weighted_sum

__all__ = ["ReciprocalRank", "Weighted"]

_SMOOTH = 60.0
"""Of Cormack et al. 2009, who found that it hardly matters."""


class _Sum(Merge):
    """The sources' votes times their weights. weights: S numbers, not negative, one of them positive."""

    def __init__(self, weights: Sequence[float] | npt.NDArray[np.float64]) -> None:
        self.weights_S = np.asarray(weights, np.float64)
        if self.weights_S.ndim != 1 or not (self.weights_S >= 0).all() or not 0 < self.weights_S.sum() <= HEAVIEST:
            raise ValueError(f"weights {list(weights)}: each is at least 0, one is above, and none is {HEAVIEST:g}")

    def _sum(self, votes_TS: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return weighted_sum(votes_TS, self.weights_S)

    def config(self) -> dict[str, Any]:
        return {"weights": self.weights_S.tolist()}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], sources: int, items: int) -> Self:
        if len(config["weights"]) != sources:
            raise ValueError(f"{len(config['weights'])} weights for {sources} sources")
        return cls(config["weights"])


class ReciprocalRank(_Sum):
    """Sum of weight / (60 + rank) over the sources that found it (reciprocal rank fusion, Cormack et al. 2009)."""

    kind: ClassVar[str] = "rrf"

    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        found_TS = evidence.ranks_TS <= evidence.depth
        return self._sum(found_TS / (_SMOOTH + evidence.ranks_TS.astype(np.float64)))


class Weighted(_Sum):
    """Sum of weight * share over the sources (CombSUM over scaled scores, Fox & Shaw 1994)."""

    kind: ClassVar[str] = "weighted"

    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        return self._sum(evidence.shares_TS.astype(np.float64))
