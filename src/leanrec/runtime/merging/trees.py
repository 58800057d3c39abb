"""A ranker of boosted trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.kernels.boosting import score_trees
from leanrec.runtime.merging.learned import Ranker

__all__ = ["TreesRanker"]


class TreesRanker(Ranker):
    """R complete trees. feature_RH: int32, threshold_RH: float64, +inf sends all to the left; leaf_RL: float64."""

    kind: ClassVar[str] = "trees"

    def __init__(
        self, feature_RH: npt.NDArray[np.int32], threshold_RH: npt.NDArray[np.float64], leaf_RL: npt.NDArray[np.float64]
    ) -> None:
        self.feature_RH, self.threshold_RH, self.leaf_RL = feature_RH, threshold_RH, leaf_RL

    def first(self, rounds: int) -> TreesRanker:
        """The ranker as it was after so many rounds."""
        return TreesRanker(self.feature_RH[:rounds], self.threshold_RH[:rounds], self.leaf_RL[:rounds])

    def score(self, features_TF: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        scores_T = np.empty(len(features_TF), np.float32)
        score_trees(features_TF, self.feature_RH, self.threshold_RH, self.leaf_RL, scores_T)
        return scores_T

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        largest = np.finfo(np.float64).max  # bundles hold finite numbers only
        return {"feature": self.feature_RH, "threshold": np.minimum(self.threshold_RH, largest), "leaf": self.leaf_RL}

    @classmethod
    def load(cls, tensors: Mapping[str, npt.NDArray[Any]], features: int) -> Self:
        feature_RH, threshold_RH, leaf_RL = (tensors[name] for name in ("feature", "threshold", "leaf"))
        if [array.dtype.str for array in (feature_RH, threshold_RH, leaf_RL)] != ["<i4", "<f8", "<f8"]:
            raise ValueError("trees of other types")
        if feature_RH.ndim != 2 or threshold_RH.shape != feature_RH.shape:
            raise ValueError("trees without a shape")
        rounds, inner = feature_RH.shape
        if leaf_RL.shape != (rounds, inner + 1) or inner & (inner + 1):
            raise ValueError("trees that are not complete")
        if feature_RH.size and not 0 <= feature_RH.min() <= feature_RH.max() < features:
            raise ValueError(f"trees over more than {features} features")
        return cls(feature_RH, threshold_RH, leaf_RL)
