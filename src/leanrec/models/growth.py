"""What `partial_fit` has in common: old and new ids in one numbering, and a Recommender of the same kind over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Dataset
from leanrec.features.items import ItemAttributes
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.popular import PopularSource

__all__ = ["Growth", "Learned", "grow", "grown_attributes"]


@dataclass(frozen=True)
class Learned:
    """What a model that counts keeps in `Recommender.learned`: all it was trained on, users by row, oldest first."""

    users: Vocabulary
    events: Jagged

    @classmethod
    def of(cls, recommender: Recommender) -> Learned:
        """ConfigError when it is not there: a recommender from a bundle knows no user's events."""
        if not isinstance(recommender.learned, Learned):
            raise ConfigError(
                f"this {recommender.card.get('model')} was loaded, and bundles do not hold the events that it goes on "
                "from: keep the recommender that fit gave, or fit it anew on old and new events together"
            )
        return recommender.learned


@dataclass(frozen=True)
class Growth:
    """Ids with the new ones at the end, and the new training events in rows of them.

    user_rows: the row in `users` of each user of the new data, in the order of `fresh`.
    """

    users: Vocabulary
    items: Vocabulary
    user_rows: npt.NDArray[np.int32]
    fresh: Jagged

    @classmethod
    def of(cls, users: Vocabulary, items: Vocabulary, data: Dataset, *, refit: bool) -> Growth:
        all_users, all_items = users.extended(data.users.ids()), items.extended(data.items.ids())
        train = data.train(refit)
        fresh = Jagged(all_items.rows(data.items.ids())[train.values], train.offsets)
        return cls(all_users, all_items, all_users.rows(data.users.ids()), fresh)

    def learned(self, before: Learned) -> Learned:
        """Old and new events together."""
        events = before.events.appended(self.fresh, self.user_rows)
        missing = len(self.users) - len(events)
        return Learned(self.users, events.appended(Jagged.empty(missing), np.arange(len(events), len(self.users))))


def grow(recommender: Recommender, source: Source, growth: Growth, data: Dataset) -> Recommender:
    """The recommender with another source over more items; a popular fallback counts the new events too."""
    size, fallback = len(growth.items), recommender.fallback
    if isinstance(fallback, PopularSource):
        scores_N = np.bincount(growth.fresh.values, minlength=size).astype(np.float32)
        scores_N[: fallback.num_items] += fallback.scores_N
        fallback = PopularSource(fallback.name, scores_N)
    return Recommender(
        source,
        growth.items,
        repeats=recommender.repeats,
        fallback=fallback,
        users=growth.users if source.personal else None,
        attributes=grown_attributes(recommender, growth.items, data),
        card=recommender.card,
        lineage={**recommender.lineage, "learned_since": data.fingerprint},
    )


def grown_attributes(recommender: Recommender, items: Vocabulary, data: Dataset) -> ItemAttributes | None:
    """Old rows as they are, and those that the new data has for new items."""
    old, new = recommender.attributes, data.attributes
    if old is None:
        return None
    import polars as pl

    fresh = pl.Series("item_id", items.ids()[len(old) :], dtype=old.frame["item_id"].dtype).to_frame()
    if new is not None and len(fresh):
        known = new.select(name for name in new.columns if name in old.columns)
        fresh = fresh.join(known, on="item_id", how="left", maintain_order="left")
    return ItemAttributes.from_frame(pl.concat([old.frame, fresh], how="diagonal_relaxed"))
