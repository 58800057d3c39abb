"""New items into a bundle that is there, without training."""

from __future__ import annotations

import msgspec

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.data.attributes import rows_of_new
from leanrec.models import MODELS
from leanrec.models.additions import Additions
from leanrec.runtime.recommender import Recommender

__all__ = ["AddItemsJob", "Added", "add_items"]


class AddItemsJob(Config, frozen=True, kw_only=True):
    """What `leanrec add-items` is told."""

    bundle: str
    items: str
    out: str | None = None
    """The bundle to write; None writes the one that is there anew."""
    item_col: str = "item_id"


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    model: str
    bundle: str
    """Id of the bundle written."""
    path: str
    added: int
    known: int
    """Items of the table that the bundle has already, which stay as they are."""
    items: int
    """Items in all."""


def add_items(job: AddItemsJob) -> Added:
    """Write the bundle with the items of the table that it does not know yet, at the end of its numbering.

    InputError for a model that can say nothing of an item without events, and for a table without new items.
    """
    from leanrec.runtime.bundle import resolve_bundle

    recommender = Recommender.load(job.bundle)
    name = str(recommender.card.get("model"))
    if name not in MODELS:
        raise InputError(f"{job.bundle} is a {name!r}, which is not a model trained by leanrec: items cannot be added")
    fresh, known = rows_of_new(job.items, recommender.items, job.item_col)
    if not len(fresh):
        raise InputError(f"{job.items}: the bundle has all of its {known:,} items already, there is nothing to add")
    model = MODELS[name](**recommender.card["config"])
    grown = model.add_items(recommender, Additions.of(recommender, fresh))
    path = job.out or str(resolve_bundle(job.bundle))
    saved = grown.save(path)
    return Added(model=name, bundle=saved, path=path, added=len(fresh), known=known, items=len(grown.items))
