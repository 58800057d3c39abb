"""The contract of a merge: what several sources say of the candidates of a query, as one score each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries

__all__ = ["HEAVIEST", "Evidence", "Merge", "weighted_sum"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What S sources say of T candidates, those of B queries end to end.

    candidates: B rows of distinct int32 item rows. ranks_TS: float32, 1 + how many answers of the source's own list of
    `depth` have a higher score, so depth + 1 for what it did not find. shares_TS: float32 in [0, 1], how far the score
    stands from the end of that list towards its head; 0 for what is below it or has no score.
    """

    queries: Queries
    candidates: Jagged
    ranks_TS: npt.NDArray[np.float32]
    shares_TS: npt.NDArray[np.float32]
    depth: int


class Merge(ABC):
    """A way to make one score of the evidence; a candidate's score depends on nothing but its own row and the query."""

    kind: ClassVar[str]

    @abstractmethod
    def score(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        """(T,) finite, more is better."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors`, all that `load` needs."""

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], sources: int, items: int) -> Self:
        """The merge as it was stored, for that many sources and items; a BundleError or ValueError where it does not
        fit them.
        """


HEAVIEST = 1e30
"""Weights beyond it are refused, so that no sum of votes or features overflows float32."""


def weighted_sum(columns_TF: npt.NDArray[np.float64], weights_F: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(T,) column by column: unlike a product of matrices, the same for a row whatever stands beside it."""
    total_T = np.zeros(len(columns_TF))
    for column, weight in enumerate(weights_F.tolist()):
        total_T += weight * columns_TF[:, column]
    return total_T.astype(np.float32)
