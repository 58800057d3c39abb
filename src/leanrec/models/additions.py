"""Items added to a recommender that is there: what the models that can do it have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.features.items import ItemAttributes
from leanrec.runtime.base import Engine, Source
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.sources.popular import PopularSource
from leanrec.runtime.ways.base import DrivenEngine, drive

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Additions", "grown_source", "kept_newcomers", "with_items"]


@dataclass(frozen=True, slots=True)
class Additions:
    """items: all ids, the new ones at the end. attributes: a row for each of all, with the columns known before."""

    items: Vocabulary
    attributes: pl.DataFrame
    count: int

    @property
    def fresh(self) -> pl.DataFrame:
        """(M) the rows of the new items."""
        return self.attributes.tail(self.count)

    @classmethod
    def of(cls, recommender: Recommender, fresh: pl.DataFrame) -> Additions:
        """fresh: rows of items that are new, distinct, their ids in the first column, `item_id`.

        Columns that the recommender does not know are left out; values take its types, or are missing.
        """
        import polars as pl

        if recommender.attributes is None:
            raise InputError(
                f"this {recommender.card.get('model')} was made without attributes of items, so nothing can be said of "
                "new ones: prepare its data with --items FILE and train again"
            )
        known = recommender.attributes.frame
        items = recommender.items.extended(fresh["item_id"].to_list())
        same = [pl.col(name).cast(known.schema[name], strict=False) for name in fresh.columns if name in known.columns]
        rows = fresh.select(same)
        return cls(items, pl.concat([known, rows], how="diagonal"), len(fresh))


def with_items(recommender: Recommender, source: Source, added: Additions) -> Recommender:
    """The recommender with another source over more items; nobody has had the new ones: popularity leaves them last."""
    fallback = recommender.fallback
    if isinstance(fallback, PopularSource):
        fallback = PopularSource(fallback.name, np.append(fallback.scores_N, np.zeros(added.count, np.float32)))
    elif fallback is not None:
        raise InputError(f"items cannot be added below the fallback {fallback.name!r}: train again with them")
    return Recommender(
        source,
        added.items,
        repeats=recommender.repeats,
        fallback=fallback,
        users=recommender.users,
        attributes=ItemAttributes.from_frame(added.attributes),
        histories=recommender.histories,
        card=recommender.card,
        lineage={**recommender.lineage, "items_added_to": recommender.id},
        newcomers=recommender.newcomers,
        answering=recommender.answering,
    )


def grown_source(source: Source, fresh_MD: npt.NDArray[np.float32]) -> EmbeddingSource:
    """The source with more rows in its item table; the old ones stay bit for bit."""
    if not isinstance(source, EmbeddingSource) or not source.index.exact:
        raise InputError(
            "items are added to the bundle that training wrote, not to a compressed one: add them there, then compress"
        )
    engine, index = source.engine, source.index.add(fresh_MD.astype(np.float32))
    grown: Engine = ENGINES[engine.kind].load(engine.config(), engine.tensors(), index.vectors)
    way = engine.way if isinstance(engine, DrivenEngine) else None
    return EmbeddingSource(source.name, drive(grown, way), index)


def kept_newcomers(recommender: Recommender, why: str = "") -> Newcomers:
    """What training left for new items; InputError where it left nothing."""
    if recommender.newcomers is None:
        raise InputError(
            f"this {recommender.card.get('model')} keeps nothing that makes vectors of new items"
            f"{why or ' (it is of an older leanrec, or was compressed)'}: train again"
        )
    return recommender.newcomers
