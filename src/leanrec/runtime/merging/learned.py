"""A ranker over what the sources say, how items sell and what the history holds; fitted by training/ranking.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.merging.base import HEAVIEST, Evidence, Merge, weighted_sum
from leanrec.runtime.merging.features import ItemFacts, describe, feature_names

__all__ = ["RANKERS", "Learned", "LinearRanker", "Ranker"]

F64 = npt.NDArray[np.float64]


class Ranker(ABC):
    """Features to scores: a fitted one can be stored."""

    kind: ClassVar[str]

    @abstractmethod
    def score(self, features_TF: F64) -> npt.NDArray[np.float32]:
        """(T,) finite; a row's score depends on that row alone."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """All that `load` needs."""

    @classmethod
    @abstractmethod
    def load(cls, tensors: Mapping[str, npt.NDArray[Any]], features: int) -> Self:
        """The ranker as it was stored; ValueError when it is not one of that many features."""


class LinearRanker(Ranker):
    """A weighted sum of features. weights_F: (F,) float64."""

    kind: ClassVar[str] = "linear"

    def __init__(self, weights_F: F64) -> None:
        self.weights_F = weights_F

    def score(self, features_TF: F64) -> npt.NDArray[np.float32]:
        return weighted_sum(features_TF, self.weights_F)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"weights": self.weights_F}

    @classmethod
    def load(cls, tensors: Mapping[str, npt.NDArray[Any]], features: int) -> Self:
        weights_F = tensors["weights"]
        if weights_F.shape != (features,) or weights_F.dtype != np.float64:
            raise ValueError(f"weights of shape {weights_F.shape} for {features} features")
        if not (np.abs(weights_F) <= HEAVIEST).all():
            raise ValueError(f"a weight is beyond {HEAVIEST:g}")
        return cls(weights_F)


RANKERS: Registry[Ranker] = Registry(
    "ranker",
    {
        "linear": Entry(
            "leanrec.runtime.merging.learned:LinearRanker", "a weighted sum, fitted by a list-wise softmax"
        ),
        "trees": Entry("leanrec.runtime.merging.trees:TreesRanker", "boosted trees, fitted by LambdaMART"),
    },
)


class Learned(Merge):
    """facts: how items sell. names: the features that the ranker was fitted to, in order."""

    kind: ClassVar[str] = "learned"

    def __init__(self, ranker: Ranker, facts: ItemFacts, names: list[str]) -> None:
        self.ranker, self.facts, self.names = ranker, facts, names

    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        return self.ranker.score(describe(evidence, self.facts))

    def config(self) -> dict[str, Any]:
        return {"ranker": self.ranker.kind, "features": self.names}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"facts": self.facts.table_NG, **self.ranker.tensors()}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], sources: int, items: int) -> Self:
        names = list(config["features"])
        if len(names) != len(feature_names(("",) * sources)):
            raise ValueError(f"{len(names)} features of {sources} sources: this leanrec makes others")
        ranker = RANKERS[config["ranker"]].load(tensors, len(names))
        return cls(ranker, ItemFacts.load(tensors, items), names)
