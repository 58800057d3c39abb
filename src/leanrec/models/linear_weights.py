"""What models of linear item-to-item weights share: settings, how they are chosen, and a fit on more events."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.neighbourhood import Incidence, Neighbourhood
from leanrec.models.popular import popular_fallback
from leanrec.models.ridge import LinearSettings, choose_linear, linear_source
from leanrec.runtime.recommender import Recommender

__all__ = ["LinearConfig", "LinearModel"]


class LinearConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (models/ridge.py), and printed."""

    neighbours: int
    regularisation: float | None = None
    """Added to the diagonal of the Gram matrix: more of it, smaller weights."""
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


C = TypeVar("C", bound=LinearConfig)


class LinearModel(Model[C]):
    """A score is the sum of the weights of the events of the history; a subclass says how weights come about."""

    @abstractmethod
    def weights(self, had: Incidence, regularisation: float) -> Neighbourhood:
        """The weights i -> j over what i says for j, by falling size."""

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.config
        self.check(data)
        given = LinearSettings(config.regularisation, config.half_life, config.own)
        chosen = choose_linear(self.name, given, data, config.window, options.metric)
        events = data.train(options.refit)
        source = linear_source(self.name, self._fitted(events, len(data.items), chosen), chosen, config.window)
        fallback = popular_fallback(data, refit=options.refit)
        recommender = assemble(self, source, data, options, fallback=fallback, chosen=chosen.plain())
        recommender.learned = Learned(data.users, events)
        return recommender

    def check(self, data: Dataset) -> None:
        """MachineError, before anything is tried, where this data is too much for this machine."""
        del data

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """Exactly a fit on all events with the settings chosen before, no search."""
        before, card = Learned.of(recommender), recommender.card["config"]
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        learned = growth.learned(before)
        chosen = LinearSettings(card["regularisation"], card["half_life"], card["own"])
        fitted = self._fitted(learned.events, len(growth.items), chosen)
        updated = grow(recommender, linear_source(self.name, fitted, chosen, self.config.window), growth, data)
        updated.learned = learned
        return updated

    def _fitted(self, events: Jagged, num_items: int, chosen: LinearSettings) -> Neighbourhood:
        assert chosen.regularisation is not None
        return self.weights(Incidence.of(events.last(self.config.window), num_items), chosen.regularisation)
