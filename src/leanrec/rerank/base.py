"""The contract of a re-ranker: a pool of ranked candidates to a better list of some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.core.registry import nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Catalogue", "Reranker", "relevance", "reordered", "resorted"]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a re-ranker may be made from. events: the users' training events, oldest first; times beside them or None.

    vectors_ND: what a source knows of how items are alike, or None. attributes: a row per item, or None.
    """

    items: Vocabulary
    events: Jagged
    times: Jagged | None = None
    vectors_ND: npt.NDArray[np.float32] | None = None
    attributes: pl.DataFrame | None = None

    def column(self, name: str, where: str) -> pl.Series:
        """An attribute of the items; a ConfigError names what there is."""
        if self.attributes is None:
            raise ConfigError(f"{where}: there are no item attributes, so no {name!r}: prepare the data with --items")
        known = [column for column in self.attributes.columns if column != "item_id"]
        if name not in known:
            raise ConfigError(f"{where}: items have no {name!r}{nearest(name, known)}; columns: {', '.join(known)}")
        return self.attributes[name]


class Reranker(ABC):
    """Reorders a pool, or leaves some of it out.

    Every promise of `Hits` holds before and after, so re-rankers can follow each other: scores fall, and where the new
    order asks for it they are lowered by as little as float32 can. What was made from the catalogue is stored; nothing
    else is needed to serve.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[Config]]
    allowed_N: npt.NDArray[np.bool_] | None = None
    """The only items that may be candidates at all; None for any."""

    @classmethod
    @abstractmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        """From its `Options`; a ConfigError names what the catalogue lacks."""

    @abstractmethod
    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        """(B, M) pools, best first, to (B, M) lists of which the first k places matter. Deterministic; a longer list
        begins with a shorter one; of equal candidates the one that stands higher in the pool comes first.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors`, all that `load` needs."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name."""

    @classmethod
    @abstractmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        """As it was stored, for that many items; ValueError where the arrays do not fit."""


def relevance(pool: Hits) -> npt.NDArray[np.float64]:
    """(B, M) scores of a pool from 0, its last, to 1, its first; all 1 when they are equal; 0 in empty places."""
    found_BM = pool.items_BK >= 0
    high_B1 = np.where(found_BM, pool.scores_BK, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    low_B1 = np.where(found_BM, pool.scores_BK, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    with np.errstate(invalid="ignore"):
        range_B1 = np.where(high_B1 > low_B1, high_B1.astype(np.float64) - low_B1, 1.0)
        share_BM = 1 - (high_B1.astype(np.float64) - pool.scores_BK) / range_B1
    return np.where(found_BM, share_BM, 0.0)


def reordered(pool: Hits, order_BM: npt.NDArray[np.integer[Any]]) -> Hits:
    """The places of the pool in another order, -1 for nothing, with scores lowered where they would rise."""
    at_BM = np.maximum(order_BM, 0)
    filled_BM = order_BM >= 0
    items_BM = np.where(filled_BM, np.take_along_axis(pool.items_BK, at_BM, axis=1), np.int32(-1))
    scores_BM = np.where(items_BM >= 0, np.take_along_axis(pool.scores_BK, at_BM, axis=1), np.float32(-np.inf))
    for place in range(1, scores_BM.shape[1]):
        above_B = np.nextafter(scores_BM[:, place - 1], np.float32(-np.inf))
        behind_B = items_BM[:, place] < items_BM[:, place - 1]  # equal scores go by rising row
        most_B = np.where(behind_B, above_B, scores_BM[:, place - 1])
        scores_BM[:, place] = np.minimum(scores_BM[:, place], most_B)
    brought = None if pool.brought_BK is None else np.take_along_axis(pool.brought_BK, at_BM, axis=1)
    return Hits(items_BM.astype(np.int32), scores_BM.astype(np.float32), brought)


def resorted(pool: Hits, keys_BM: npt.NDArray[np.float64]) -> Hits:
    """The pool by falling key, of equal ones the higher place first; empty places stay last."""
    keys_BM = np.where(pool.items_BK >= 0, keys_BM, -np.inf)
    return reordered(pool, np.argsort(-keys_BM, axis=1, kind="stable"))
