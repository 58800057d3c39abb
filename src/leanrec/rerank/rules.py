"""Rules of the house: boost, bury or pin items by attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.nouns import Hits, Queries
from leanrec.rerank.base import Catalogue, Reranker, relevance, resorted
from leanrec.rerank.categories import matches

__all__ = ["Rule", "Rules", "RulesOptions"]


class Rule(Config, frozen=True, kw_only=True):
    """Items whose attribute has one of the values."""

    column: str
    values: list[str]
    """Compared as text; a column of lists matches when any of its entries does."""
    effect: Literal["boost", "bury", "pin"] = "boost"
    """boost: up by a share of the pool's range of scores; bury: below all others; pin: above all others."""
    by: float = 0.2
    """The share of the range that `boost` adds; negative ones lower."""


class RulesOptions(Config, frozen=True, kw_only=True):
    """Settings of rules."""

    rules: list[Rule] = msgspec.field(default_factory=list)
    """Boosts of several rules add up; where rules disagree on a place, the last one counts."""


class Rules(Reranker):
    """Pinned items of the pool first, buried ones last, each group by relevance + boost.

    boost_N: (N,) float32. place_N: (N,) int8, 1 pinned, -1 buried.
    """

    kind: ClassVar[str] = "rules"
    Options: ClassVar[type[Config]] = RulesOptions

    def __init__(self, boost_N: npt.NDArray[np.float32], place_N: npt.NDArray[np.int8]) -> None:
        self.boost_N, self.place_N = boost_N, place_N
        self._reach = 2.0 + 2 * float(np.abs(boost_N).max(initial=0))

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        items = len(catalogue.items)
        boost_N, place_N = np.zeros(items, np.float32), np.zeros(items, np.int8)
        for rule in options.rules:
            hit_N = matches(catalogue.column(rule.column, "rules"), rule.values)
            if rule.effect == "boost":
                boost_N[hit_N] += np.float32(rule.by)
            else:
                place_N[hit_N] = 1 if rule.effect == "pin" else -1
        return cls(boost_N, place_N)

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        items_BM = np.maximum(pool.items_BK, 0)
        return resorted(pool, relevance(pool) + self.boost_N[items_BM] + self._reach * self.place_N[items_BM])

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"boost": self.boost_N, "place": self.place_N}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        boost_N, place_N = tensors["boost"], tensors["place"]
        if boost_N.shape != (items,) or place_N.shape != (items,):
            raise ValueError(f"rules for another number than {items} items")
        if boost_N.dtype != np.float32 or place_N.dtype != np.int8:
            raise ValueError("rules of other types")
        return cls(boost_N, place_N)
