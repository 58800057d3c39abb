"""User neighbours: what the training users most like a history had (Herlocker et al. 1999; top-N as in Aiolli 2013).

Similarities are those of kernels/similarity.py: a user is a set of items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.kernels.similarity import SIMILARITIES, Weighting, distinct_counts
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts import tables_memory
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.judges import Judges
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.similar_users import SimilarUsersSource
from leanrec.training.memory import MemoryNeed

__all__ = ["UserKNN", "UserKNNConfig"]

DEFAULTS_VERSION = 1
_USERS = (500, 200, 50)


class UserKNNConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 1), and printed."""

    similarity: Literal["cosine", "tf-idf", "bm25", "jaccard"] | None = None
    """Of two users as sets of items."""
    users: int | None = None
    """Training users that answer a question, those most like its history."""
    shrinkage: float = 0.0
    """Added to the denominator of the similarity, so that a few shared items do not make users similar."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "similarity": Choice(SIMILARITIES),
        "users": Range(10, 2000, log=True),
        "shrinkage": Range(0.0, 100.0),
    }

    def __post_init__(self) -> None:
        for key, least in (("users", 1), ("shrinkage", 0), ("window", 1)):
            value = getattr(self, key)
            if value is not None and not value >= least:
                raise ValueError(f"{key} must be at least {least}, not {value}")


class UserKNN(Model[UserKNNConfig]):
    """What similar users had; a new history is compared like a known one, so nobody has to be trained."""

    name: ClassVar[str] = "user-knn"
    Config = UserKNNConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        return tables_memory(data)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config, size = self.config, len(data.items)
        similarity: str = config.similarity or SIMILARITIES[0]
        users = config.users or _USERS[-1]
        if config.similarity is None or config.users is None:
            judges, train = Judges(data, options.metric), data.train()
            kinds = SIMILARITIES if config.similarity is None else (similarity,)
            similarity = judges.best(kinds, lambda kind: self._source(train, size, kind, users))
            sizes = (config.users,) if config.users else _USERS[::-1]
            users = judges.best(sizes, lambda count: self._source(train, size, similarity, count))
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): similarity={similarity} users={users}")
        events = data.train(options.refit)
        fallback = popular_fallback(data, refit=options.refit)
        chosen: dict[str, Any] = {"similarity": similarity, "users": users}
        source = self._source(events, size, similarity, users)
        recommender = assemble(self, source, data, options, fallback=fallback, chosen=chosen)
        recommender.learned = Learned(data.users, events)
        return recommender

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """Exactly a fit on all events with the settings chosen before."""
        card, before = recommender.card["config"], Learned.of(recommender)
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        learned = growth.learned(before)
        source = self._source(learned.events, len(growth.items), card["similarity"], card["users"])
        updated = grow(recommender, source, growth, data)
        updated.learned = learned
        return updated

    def _source(self, events: Jagged, num_items: int, similarity: str, users: int) -> SimilarUsersSource:
        """Over the users that had anything."""
        had, counts_T = distinct_counts(events.last(self.config.window), num_items)
        had = had.take(np.flatnonzero(had.lengths))
        return SimilarUsersSource(
            self.name, had, counts_T.astype(np.int32), Weighting.learn(similarity, had, counts_T, num_items),
            users=users, shrinkage=self.config.shrinkage, window=self.config.window,
        )  # fmt: skip
