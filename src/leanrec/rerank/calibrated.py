"""Calibrated recommendations (Steck 2018): the categories of a list in proportion to those of the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.diversity import calibrated_order
from leanrec.rerank.base import Catalogue, Reranker, relevance, reordered
from leanrec.rerank.categories import categories_of, checked_categories

__all__ = ["Calibrated", "CalibratedOptions"]

_SMOOTH = 0.01
"""Of the wanted shares that every list is taken to have, so that no category costs infinitely much (Steck's alpha)."""


class CalibratedOptions(Config, frozen=True, kw_only=True):
    """Settings of calibration."""

    column: str
    """The attribute that holds the categories: text, or lists of it."""
    weight: float = 0.5
    """What the proportions count for, beside relevance: 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, not {self.weight}")


class Calibrated(Reranker):
    """Next comes what makes (1 - weight) sum of relevance - weight KL(history || list) largest.

    An item belongs to its categories in equal parts. A history without any leaves the pool as it is.
    """

    kind: ClassVar[str] = "calibrated"
    Options: ClassVar[type[Config]] = CalibratedOptions

    def __init__(self, weight: float, categories: Jagged) -> None:
        self.weight, self.categories = weight, categories
        self._count = int(categories.values.max(initial=-1)) + 1

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        return cls(options.weight, categories_of(catalogue.column(options.column, "calibrated"))[0])

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        order_BM = np.empty(pool.items_BK.shape, np.int64)
        counts_B = (pool.items_BK >= 0).sum(axis=1)
        calibrated_order(
            relevance(pool), pool.items_BK, counts_B, self._wanted(queries.histories), self.categories.offsets,
            self.categories.values, self.weight, _SMOOTH, k, order_BM,
        )  # fmt: skip
        return reordered(pool, order_BM)

    def _wanted(self, histories: Jagged) -> npt.NDArray[np.float64]:
        """(B, G) shares of the categories in each history."""
        at_E, lengths_T = self.categories.positions(histories.values)
        query_E = np.repeat(histories.row_of(), lengths_T)
        part_E = np.repeat(1.0 / np.maximum(lengths_T, 1), lengths_T)
        keys_E = query_E * self._count + self.categories.values[at_E]
        sums_BG = np.bincount(keys_E, weights=part_E, minlength=len(histories) * self._count)
        sums_BG = sums_BG.reshape(len(histories), self._count)
        total_B1 = sums_BG.sum(axis=1, keepdims=True)
        return np.asarray(sums_BG / np.where(total_B1 > 0, total_B1, 1))

    def config(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"offsets": self.categories.offsets, "categories": self.categories.values}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        return cls(float(config["weight"]), checked_categories(tensors, items))
