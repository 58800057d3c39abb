"""At most so many of a category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.rerank.base import Catalogue, Reranker, reordered
from leanrec.rerank.categories import categories_of, checked_categories

__all__ = ["Caps", "CapsOptions"]


class CapsOptions(Config, frozen=True, kw_only=True):
    """Settings of caps."""

    column: str
    """The attribute that holds the categories: text, or lists of it."""
    at_most: int = 3
    """Items of one category in a list."""

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError(f"at_most must be at least 1, not {self.at_most}")


class Caps(Reranker):
    """From the top down, an item stays when none of its categories is full; the others leave the list.

    The cap is kept even where the list gets shorter for it. Items without a category are not counted.
    """

    kind: ClassVar[str] = "caps"
    Options: ClassVar[type[Config]] = CapsOptions

    def __init__(self, at_most: int, categories: Jagged) -> None:
        self.at_most, self.categories = at_most, categories

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        return cls(options.at_most, categories_of(catalogue.column(options.column, "caps"))[0])

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        order_BM = np.full(pool.items_BK.shape, -1, np.int64)
        for row, items_M in enumerate(pool.items_BK):
            kept = self._keep(items_M, k)
            order_BM[row, : len(kept)] = kept
        return reordered(pool, order_BM)

    def _keep(self, items_M: npt.NDArray[np.int32], k: int) -> list[int]:
        full: Counter[int] = Counter()
        kept: list[int] = []
        for place, item in enumerate(items_M.tolist()):
            if item < 0 or len(kept) == k:
                break
            categories = self.categories[item].tolist()
            if all(full[category] < self.at_most for category in categories):
                full.update(categories)
                kept.append(place)
        return kept

    def config(self) -> dict[str, Any]:
        return {"at_most": self.at_most}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"offsets": self.categories.offsets, "categories": self.categories.values}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        return cls(int(config["at_most"]), checked_categories(tensors, items))
