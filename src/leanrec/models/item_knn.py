"""Item neighbours: items that share users with the history (Sarwar et al. 2001, Deshpande & Karypis 2004).

Similarities are those of kernels/similarity.py: an item is a set of users. A score is the sum over the events of the
history of their similarities to an item, where older events may count less. Asymmetric lists are brought to length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.kernels.neighbours import nearest_items
from leanrec.kernels.similarity import SIMILARITIES, Weighting, asymmetric_norms, asymmetric_weights
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts import neighbour_memory
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.judges import Judges
from leanrec.models.neighbourhood import Incidence, Neighbourhood, Part, spread_items
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.neighbours import NeighbourSource
from leanrec.training.memory import MemoryNeed

__all__ = ["ItemKNN", "ItemKNNConfig"]

DEFAULTS_VERSION = 3
_MANY_ITEMS = 100_000
_NEIGHBOURS = (500, 100, 20)

_KINDS = (*SIMILARITIES, "asymmetric")

Similarity = Literal["cosine", "tf-idf", "bm25", "jaccard", "asymmetric"]


class ItemKNNConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 3), and printed."""

    similarity: Similarity | None = None
    """Of two items as sets of users."""
    neighbours: int | None = None
    """Items kept for each item, the most similar ones."""
    half_life: float | None = None
    """Events after which an event of the history counts half; 0 lets all count alike."""
    user_power: float = 0.75
    """asymmetric: a user of n items adds n^-user_power to what two items share."""
    asymmetry: float = 0.65
    """asymmetric: exponent of the size of the history's item in the denominator; the recommended one's has the rest."""
    normalised: bool = True
    """asymmetric: each item's list has Euclidean length 1, so that all events of the history say as much."""
    shrinkage: float = 0.0
    """Added to the denominator of the similarity, so that a few shared users do not make items similar."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "similarity": Choice(_KINDS),
        "neighbours": Range(10, 1000, log=True),
        "half_life": Range(0.5, 200.0, log=True),
        "user_power": Range(0.0, 1.0),
        "asymmetry": Range(0.0, 1.0),
        "normalised": Choice((True, False)),
        "shrinkage": Range(0.0, 100.0),
    }

    def __post_init__(self) -> None:
        for key, least in (("neighbours", 1), ("half_life", 0), ("user_power", 0), ("shrinkage", 0), ("window", 1)):
            value = getattr(self, key)
            if value is not None and not value >= least:
                raise ValueError(f"{key} must be at least {least}, not {value}")
        if not 0 <= self.asymmetry <= 1:
            raise ValueError(f"asymmetry must be from 0 to 1, not {self.asymmetry}")


class ItemKNN(Model[ItemKNNConfig]):
    """Items that share users with the history; an item is its own nearest neighbour, where items may be repeated."""

    name: ClassVar[str] = "item-knn"
    Config = ItemKNNConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        return neighbour_memory(data, self.config.neighbours or _NEIGHBOURS[0])

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config, size = self.config, len(data.items)
        neighbours, half_life = config.neighbours, config.half_life
        similarity: str = config.similarity or _KINDS[0]
        fitted = None
        if config.similarity is None or neighbours is None or half_life is None:
            similarity, half_life, fitted = self._choose(data, options)
            if neighbours is None:
                judges, sizes = Judges(data, options.metric), [k for k in _NEIGHBOURS if k <= fitted.most]
                some, life = fitted, half_life
                neighbours = judges.best(sizes, lambda k: self._source(some.nearest(k), life, similarity))
                neighbours = neighbours if len(judges) else _NEIGHBOURS[1]
            say(
                f"{self.name} (defaults {DEFAULTS_VERSION}): similarity={similarity} neighbours={neighbours} "
                f"half_life={half_life:g}"
            )
        events = data.train(options.refit)
        if fitted is None or options.refit:
            fitted = _fit(events, size, neighbours, similarity, config)
        fitted = fitted.nearest(neighbours)
        chosen = {"similarity": similarity, "neighbours": neighbours, "half_life": half_life}
        fallback = popular_fallback(data, refit=options.refit)
        recommender = assemble(
            self, self._source(fitted, half_life, similarity), data, options, fallback=fallback, chosen=chosen
        )
        recommender.learned = Learned(data.users, events)
        return recommender

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """Exactly a fit on all events with the settings chosen before; only lists that can have changed are made."""
        card, source = recommender.card["config"], recommender.source
        assert isinstance(source, NeighbourSource)
        before = Learned.of(recommender)
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        learned, size = growth.learned(before), len(growth.items)
        old = Neighbourhood(source.neighbours, source.similarities, source.selves_N, card["neighbours"])
        stale_n = np.arange(size)
        if card["similarity"] in ("cosine", "jaccard"):
            stale_n = _stale(before.events.last(self.config.window), learned.events.last(self.config.window), size)
        part, selves_N = _measure(learned.events, size, old.most, card["similarity"], self.config, stale_n)
        fitted = old.replaced(stale_n, part, selves_N)
        updated = grow(recommender, self._source(fitted, card["half_life"], card["similarity"]), growth, data)
        updated.learned = learned
        return updated

    def _source(self, fitted: Neighbourhood, half_life: float, similarity: str) -> NeighbourSource:
        if similarity == "asymmetric" and self.config.normalised:
            fitted = fitted.normalised()
        return NeighbourSource(
            self.name, fitted.lists, fitted.similarities, fitted.selves_N,
            window=self.config.window, half_life=half_life or None,
        )  # fmt: skip

    def _choose(self, data: Dataset, options: FitOptions) -> tuple[str, float, Neighbourhood]:
        """The similarity and its half-life with the best score, and what was fitted with them on train alone."""
        config, size, judges = self.config, len(data.items), Judges(data, options.metric)
        most = config.neighbours or _NEIGHBOURS[size > _MANY_ITEMS]
        kinds = (config.similarity,) if config.similarity else _KINDS if len(judges) else _KINDS[:1]
        best: tuple[float, str, float, Neighbourhood] | None = None
        for kind in kinds:
            fitted = _fit(data.train(), size, most, kind, config)
            half_life = config.half_life
            if half_life is None:
                half_life = judges.half_life(
                    lambda life, some=fitted, kind=kind: self._source(some, life, kind)  # type: ignore[misc]
                )
            score = judges.score(self._source(fitted, half_life, kind)) if len(kinds) > 1 else 0.0
            if best is None or score > best[0]:
                best = (score, kind, half_life, fitted)
        assert best is not None
        return best[1:]


def _fit(train: Jagged, num_items: int, k: int, similarity: str, config: ItemKNNConfig) -> Neighbourhood:
    """Every item's nearest; the result does not depend on the number of threads."""
    part, selves_N = _measure(train, num_items, k, similarity, config, np.arange(num_items))
    return Neighbourhood(Jagged.from_lengths(part[1], part[0]), part[2], selves_N, k)


def _measure(
    events: Jagged, num_items: int, k: int, similarity: str, config: ItemKNNConfig, items_n: npt.NDArray[np.int64]
) -> tuple[Part, npt.NDArray[np.float32]]:
    """The k nearest of some items, and the similarity of every item to itself."""
    had = Incidence.of(events.last(config.window), num_items)
    by_user, by_item = had.by_user, had.by_item
    if similarity == "asymmetric":
        weights_T = asymmetric_weights(by_item, len(by_user), config.user_power)
        norms_N, other_norms_N = asymmetric_norms(by_item, config.asymmetry)
    else:
        weighting = Weighting.learn(similarity, by_item, had.counts_T[had.from_T], len(by_user))
        weights_T, norms_N = weighting.weights(by_item, had.counts_T[had.from_T])
        other_norms_N = norms_N
    user_weights_T = np.empty_like(weights_T)
    user_weights_T[had.from_T] = weights_T

    def part(items: npt.NDArray[np.int64]) -> Part:
        counts_n, rows_nK, similarities_nK = nearest_items(
            items, by_user.offsets, by_user.values, user_weights_T, by_item.offsets, by_item.values, weights_T, norms_N,
            other_norms_N, k, config.shrinkage, similarity == "jaccard",
        )  # fmt: skip
        kept_nK = np.arange(rows_nK.shape[1]) < counts_n[:, None]
        return counts_n, rows_nK[kept_nK], similarities_nK[kept_nK]

    own_N = np.bincount(by_item.row_of(), weights=weights_T.astype(np.float64) ** 2, minlength=num_items)
    base_N = np.sqrt(norms_N * other_norms_N) + config.shrinkage
    selves_N = np.divide(own_N, base_N, out=np.zeros(num_items), where=base_N > 0)
    return spread_items("item neighbours", items_n, part), selves_N.astype(np.float32)


def _stale(before: Jagged, after: Jagged, num_items: int) -> npt.NDArray[np.int64]:
    """Items whose lists may differ: those that share a user with an item that other users have now."""
    old = np.unique(before.row_of() * num_items + before.values)
    new = np.unique(after.row_of() * num_items + after.values)
    changed_N = np.zeros(num_items, np.bool_)
    changed_N[np.setxor1d(old, new, assume_unique=True) % num_items] = True
    stale_N = changed_N.copy()
    for events in (before, after):
        touched_U = np.bincount(events.row_of(), weights=changed_N[events.values], minlength=len(events)) > 0
        stale_N[events.values[touched_U[events.row_of()]]] = True
    return np.flatnonzero(stale_N)
