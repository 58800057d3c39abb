"""From a fitted source to a Recommender: what models that do not train in epochs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanrec.core.config import to_dict
from leanrec.data.dataset import Dataset
from leanrec.features.items import ItemAttributes
from leanrec.models.base import FitOptions, Model
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender

__all__ = ["assemble"]


def assemble(
    model: Model[Any],
    source: Source,
    data: Dataset,
    options: FitOptions,
    *,
    fallback: Source | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> Recommender:
    """A Recommender over the items of `data`. chosen: settings that were taken from the data, for the card."""
    return Recommender(
        source,
        data.items,
        repeats=data.protocol.repeats,
        fallback=fallback,
        users=data.users if source.personal else None,
        attributes=None if data.attributes is None else ItemAttributes.from_frame(data.attributes),
        card={
            "model": model.name,
            "config": {**to_dict(model.config), **(chosen or {})},
            "seed": options.seed,
            "refit": options.refit,
        },
        lineage={"dataset": data.fingerprint, "name": data.name},
    )
