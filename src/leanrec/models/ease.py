"""EASE: every item predicted from all others by ridge regression, in closed form (Steck 2019, arXiv:1905.03375).

Weights are -P[i, j] / P[j, j] of P = (X'X + regularisation I)^-1, X who had what. With fewer users than items, P comes
from the inverse of a users x users matrix (Woodbury): the same weights for less. A score is the sum of the weights of
the events of the history, where older events may count less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leanrec.core.config import Config
from leanrec.core.errors import MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.machine import free_memory, human
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.neighbourhood import Incidence, Neighbourhood
from leanrec.models.popular import popular_fallback
from leanrec.models.ridge import LinearSettings, choose_linear, closed_form, linear_source
from leanrec.runtime.recommender import Recommender

__all__ = ["EASE", "EASEConfig"]


class EASEConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (models/ridge.py), and printed."""

    regularisation: float | None = None
    """Added to the diagonal of the Gram matrix: more of it, smaller weights."""
    neighbours: int = 1000
    """Weights kept for each item, the largest by size; those of up to so many items are kept whole."""
    half_life: float | None = None
    """Events after which an event of the history counts half; 0 lets all count alike."""
    own: float | None = None
    """Weight of an item for itself, where items may be repeated."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "regularisation": Range(1.0, 5000.0, log=True),
        "half_life": Range(0.5, 200.0, log=True),
    }

    def __post_init__(self) -> None:
        for key, least in (("neighbours", 1), ("half_life", 0), ("own", 0), ("window", 1)):
            value = getattr(self, key)
            if value is not None and not value >= least:
                raise ValueError(f"{key} must be at least {least}, not {value}")
        if self.regularisation is not None and not self.regularisation > 0:
            raise ValueError(f"regularisation must be above 0, not {self.regularisation}")


class EASE(Model[EASEConfig]):
    """Every item predicted from all others by ridge regression, in closed form."""

    name: ClassVar[str] = "ease"
    Config = EASEConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.config
        self._check_memory(data)
        given = LinearSettings(config.regularisation, config.half_life, config.own)
        chosen = choose_linear(self.name, given, data, config.window, options.metric)
        events = data.train(options.refit)
        source = linear_source(self.name, self._weights(events, len(data.items), chosen), chosen, config.window)
        fallback = popular_fallback(data, refit=options.refit)
        recommender = assemble(self, source, data, options, fallback=fallback, chosen=chosen.plain())
        recommender.learned = Learned(data.users, events)
        return recommender

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """Exactly a fit on all events with the settings chosen before: one more inverse, no search."""
        before, card = Learned.of(recommender), recommender.card["config"]
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        learned = growth.learned(before)
        chosen = LinearSettings(card["regularisation"], card["half_life"], card["own"])
        fitted = self._weights(learned.events, len(growth.items), chosen)
        updated = grow(recommender, linear_source(self.name, fitted, chosen, self.config.window), growth, data)
        updated.learned = learned
        return updated

    def _weights(self, events: Jagged, num_items: int, chosen: LinearSettings) -> Neighbourhood:
        assert chosen.regularisation is not None
        had = Incidence.of(events.last(self.config.window), num_items)
        return closed_form(had, chosen.regularisation, self.config.neighbours)

    def _check_memory(self, data: Dataset) -> None:
        """MachineError when the inverse and the weights do not fit."""
        size, users = len(data.items), len(data.users)
        side = min(size, users)
        kept = size * min(self.config.neighbours, size) * 16
        needed, free = int(side * side * 4 * 1.1) + 4 * 1024 * 4 * max(side, size) + kept, free_memory()
        if needed > free:
            raise MachineError(
                f"ease needs {human(needed)} of memory for an inverse of {side:,} x {side:,} and "
                f"{human(kept)} of weights, and {human(free)} are free: use the sparse model slim instead"
            )
