"""A model that learns nothing and says whatever scores its settings ask for: for the searches over models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leanrec.core.config import Config
from leanrec.core.errors import InputError, MachineError
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender

__all__ = ["Fake"]

EPOCHS = 10


class FakeConfig(Config, frozen=True, kw_only=True):
    """`level`: the score after every epoch."""

    level: float = 0.5
    fails_below: float = 0.0
    lacks: bool = False
    interrupt_below: float = 0.0
    space: ClassVar[Mapping[str, Dimension]] = {"level": Range(0.0, 1.0)}


class Fake(Model[FakeConfig]):
    """Popularity, after ten epochs of nothing."""

    name: ClassVar[str] = "fake"
    Config = FakeConfig
    epochs_run: ClassVar[list[int]] = []

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        if self.config.level < self.config.fails_below:
            raise MachineError("too little of it") if self.config.lacks else InputError("too low")
        self.epochs_run.append(0)
        for epoch in range(1, EPOCHS + 1):
            self.epochs_run[-1] = epoch
            if options.on_score is not None:
                options.on_score(epoch, self.config.level)
        return assemble(self, popular_fallback(data), data, options)
