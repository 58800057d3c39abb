"""What was done to a recommender before: steps that would otherwise do more each time they are applied ask here."""

from __future__ import annotations

from typing import Any

from leanrec.compression.base import with_source
from leanrec.runtime.recommender import Recommender

__all__ = ["remember", "remembered"]

_KEY = "made_lean_by"


def remembered(model: Recommender, step: str) -> Any:
    """What `remember` was told of this step, here or before the bundle was written; None where it was not applied."""
    for record in model.card.get("compression", ()):
        if record.get("step") == step and record.get("applied"):
            return record
    return model.card.get(_KEY, {}).get(step)


def remember(model: Recommender, step: str, entry: Any) -> Recommender:
    """The recommender with a note of the step in its card."""
    noted = with_source(model, model.source)
    noted.card = {**model.card, _KEY: {**model.card.get(_KEY, {}), step: entry}}
    return noted
