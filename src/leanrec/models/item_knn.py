"""Item neighbours: items that share users with the history (Sarwar et al. 2001, Deshpande & Karypis 2004).

Similarity is the cosine of the items' sets of users, optionally shrunk towards 0 for items with few users. A score is
the sum of an item's similarities to the events of the history, where older events may count less.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.console import Progress, say
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import parse_metric, per_user
from leanrec.kernels.neighbours import nearest_items
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.neighbours import NeighbourSource

__all__ = ["ItemKNN", "ItemKNNConfig"]

DEFAULTS_VERSION = 1
_MANY_ITEMS = 100_000
_NEIGHBOURS = (500, 100, 20)
_HALF_LIVES = (0.0, 30.0, 10.0, 3.0, 1.0)
_JUDGES = 1000
_CHUNKS = 64


class ItemKNNConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 1), and printed."""

    neighbours: int | None = None
    """Items kept for each item, the most similar ones."""
    half_life: float | None = None
    """Events after which an event of the history counts half; 0 lets all count alike."""
    shrinkage: float = 0.0
    """Added to the denominator of the cosine, so that a few shared users do not make items similar."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "neighbours": Range(10, 1000, log=True),
        "half_life": Range(0.5, 200.0, log=True),
        "shrinkage": Range(0.0, 100.0),
    }

    def __post_init__(self) -> None:
        for key, least in (("neighbours", 1), ("half_life", 0), ("shrinkage", 0), ("window", 1)):
            value = getattr(self, key)
            if value is not None and not value >= least:
                raise ValueError(f"{key} must be at least {least}, not {value}")


class ItemKNN(Model[ItemKNNConfig]):
    """Items that share users with the history; an item is its own nearest neighbour, where items may be repeated."""

    name: ClassVar[str] = "item-knn"
    Config = ItemKNNConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.config
        neighbours, half_life = config.neighbours, config.half_life
        fitted = None
        if neighbours is None or half_life is None:
            most = neighbours or _NEIGHBOURS[len(data.items) > _MANY_ITEMS]
            fitted = _fit(data.train(), len(data.items), most, config)
            neighbours, half_life = self._choose(data, fitted, neighbours, half_life)
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): neighbours={neighbours} half_life={half_life:g}")
        if fitted is None or options.refit:
            fitted = _fit(data.train(options.refit), len(data.items), neighbours, config)
        source = self._source(fitted.nearest(neighbours), half_life)
        fallback = popular_fallback(data, refit=options.refit)
        chosen = {"neighbours": neighbours, "half_life": half_life}
        return assemble(self, source, data, options, fallback=fallback, chosen=chosen)

    def _source(self, fitted: _Neighbourhood, half_life: float) -> NeighbourSource:
        return NeighbourSource(
            self.name, fitted.lists, fitted.similarities, fitted.selves_N,
            window=self.config.window, half_life=half_life or None,
        )  # fmt: skip

    def _choose(
        self, data: Dataset, fitted: _Neighbourhood, neighbours: int | None, half_life: float | None
    ) -> tuple[int, float]:
        """The half-life, then the number of neighbours, with the best NDCG@10; what was given stays."""
        cases = data.cases("valid", "tune")
        judges = np.unique(np.linspace(0, len(cases) - 1, _JUDGES).astype(np.int64)) if len(cases) else np.empty(0, int)
        histories, targets = cases.histories.take(judges), cases.targets.take(judges)
        metric = parse_metric("ndcg@10")
        exclude = None if data.protocol.repeats else histories

        def score(some: _Neighbourhood, life: float) -> float:
            hits = self._source(some, life).search(Queries(histories, metric.k, exclude))
            return float(per_user(hits.items_BK, targets, [metric])[str(metric)].mean())

        if half_life is None:
            tried = _HALF_LIVES if len(judges) and data.protocol.ordered else _HALF_LIVES[:1]
            half_life = max(tried, key=lambda life: score(fitted, life)) if len(tried) > 1 else tried[0]
        if neighbours is None:
            sizes = [k for k in _NEIGHBOURS if k <= fitted.most]
            life = half_life
            neighbours = max(sizes, key=lambda k: score(fitted.nearest(k), life)) if len(judges) else _NEIGHBOURS[1]
        return neighbours, half_life


@dataclass(frozen=True)
class _Neighbourhood:
    """The `most` nearest items of each item by falling similarity; selves_N: the similarity of an item to itself."""

    lists: Jagged
    similarities: npt.NDArray[np.float32]
    selves_N: npt.NDArray[np.float32]
    most: int

    def nearest(self, k: int) -> _Neighbourhood:
        """Only the k nearest of each."""
        if k >= self.most:
            return self
        lists = self.lists
        place_T = np.arange(len(lists.values)) - np.repeat(lists.offsets[:-1], lists.lengths)
        return _Neighbourhood(lists.where(place_T < k), self.similarities[place_T < k], self.selves_N, k)


def _fit(train: Jagged, num_items: int, k: int, config: ItemKNNConfig) -> _Neighbourhood:
    """Count who shares users with whom, many items at a time on all threads; the result does not depend on them."""
    recent = train.last(config.window)
    keys_T = np.unique(recent.row_of() * num_items + recent.values)
    users_T, items_T = keys_T // num_items, (keys_T % num_items).astype(np.int32)
    by_user = Jagged.from_lengths(items_T, np.bincount(users_T, minlength=len(train)))
    users_N = np.bincount(items_T, minlength=num_items)
    by_item = Jagged.from_lengths(users_T[np.argsort(items_T, kind="stable")].astype(np.int32), users_N)

    def part(start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        counts_n, rows_nK, similarities_nK = nearest_items(
            start, stop, by_user.offsets, by_user.values, by_item.offsets, by_item.values, k, config.shrinkage
        )
        kept_nK = np.arange(rows_nK.shape[1]) < counts_n[:, None]
        return counts_n, rows_nK[kept_nK], similarities_nK[kept_nK]

    edges = np.linspace(0, num_items, min(_CHUNKS, num_items) + 1).astype(int).tolist()
    parts = []
    with (
        closing(Progress("item neighbours", num_items)) as progress,
        ThreadPoolExecutor(numba.get_num_threads()) as pool,
    ):
        for (start, stop), done in zip(pairwise(edges), pool.map(part, edges[:-1], edges[1:]), strict=True):
            parts.append(done)
            progress.advance(stop - start)
    counts_N, rows_T, similarities_T = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    selves_N = np.divide(users_N, users_N + config.shrinkage, out=np.zeros(num_items), where=users_N > 0)
    return _Neighbourhood(Jagged.from_lengths(rows_T, counts_N), similarities_T, selves_N.astype(np.float32), k)
