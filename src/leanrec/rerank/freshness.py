"""New items higher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.core.nouns import Hits, Queries
from leanrec.rerank.base import Catalogue, Reranker, relevance, resorted

__all__ = ["Freshness", "FreshnessOptions"]

_DAY = 86_400.0


class FreshnessOptions(Config, frozen=True, kw_only=True):
    """Settings of freshness."""

    weight: float = 0.2
    """What being new counts for, beside relevance: 0 to 1."""
    half_life: float = 30.0
    """Days after which an item is half as fresh, counted back from the last training event."""
    column: str | None = None
    """The attribute that says since when an item is there, in Unix seconds; by default its first event does."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, not {self.weight}")
        if not self.half_life > 0:
            raise ValueError(f"half_life must be above 0, not {self.half_life}")


class Freshness(Reranker):
    """By (1 - weight) relevance + weight fresh, where fresh halves with every half-life of age.

    fresh_N: (N,) float32. An item that nothing is known of is as fresh as can be: it has yet to be seen.
    """

    kind: ClassVar[str] = "freshness"
    Options: ClassVar[type[Config]] = FreshnessOptions

    def __init__(self, weight: float, fresh_N: npt.NDArray[np.float32]) -> None:
        self.weight, self.fresh_N = weight, fresh_N

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        times = catalogue.times
        if times is None:
            raise ConfigError("freshness needs the time of events, and there is none: leave it out")
        now = float(np.nanmax(times.values)) if np.isfinite(times.values).any() else 0.0
        if options.column is None:
            since_N = np.full(len(catalogue.items), np.inf)
            np.fmin.at(since_N, catalogue.events.values, times.values)
        else:
            since_N = _numbers(catalogue, options.column)
        age_N = np.clip(now - np.where(np.isfinite(since_N), since_N, now), 0, None) / _DAY
        return cls(options.weight, (0.5 ** (age_N / options.half_life)).astype(np.float32))

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        fresh_BM = self.fresh_N[np.maximum(pool.items_BK, 0)]
        return resorted(pool, (1 - self.weight) * relevance(pool) + self.weight * fresh_BM)

    def config(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"fresh": self.fresh_N}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        fresh_N = tensors["fresh"]
        if fresh_N.shape != (items,) or fresh_N.dtype != np.float32:
            raise ValueError(f"freshness of {fresh_N.shape} for {items} items")
        return cls(float(config["weight"]), fresh_N)


def _numbers(catalogue: Catalogue, name: str) -> npt.NDArray[np.float64]:
    import polars as pl

    column = catalogue.column(name, "freshness")
    if not column.dtype.is_numeric():
        raise ConfigError(f"freshness: {name!r} is {column.dtype}, not a number of Unix seconds: convert it first")
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
