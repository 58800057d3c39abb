"""Popularity: the baselines every model must beat, and the fallback behind all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts import counting_memory
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.popular import PopularSource
from leanrec.training.memory import MemoryNeed

__all__ = ["Popular", "PopularRecent", "popular_fallback"]

_DAY = 86_400.0


def popular_fallback(data: Dataset, *, refit: bool = False) -> PopularSource:
    """Items by number of training events (and validation events when `refit`): what every Recommender falls back on."""
    return PopularSource("popular", _events(data, refit).astype(np.float32))


def _events(data: Dataset, refit: bool) -> npt.NDArray[np.int64]:
    return np.bincount(data.train(refit).values, minlength=len(data.items))


class PopularConfig(Config, frozen=True, kw_only=True):
    """Nothing to set."""


class Popular(Model[PopularConfig]):
    """Most interactions of all time."""

    name: ClassVar[str] = "popular"
    Config = PopularConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        return counting_memory(data)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        return assemble(self, popular_fallback(data, refit=options.refit), data, options)


class PopularRecentConfig(Config, frozen=True, kw_only=True):
    """What counts as recent."""

    days: float = 7.0
    """Length of the window that ends with the last training event."""

    space: ClassVar[Mapping[str, Dimension]] = {"days": Range(0.5, 365.0, log=True)}

    def __post_init__(self) -> None:
        if not self.days > 0:
            raise ValueError(f"days must be above 0, not {self.days}")


class PopularRecent(Model[PopularRecentConfig]):
    """Most interactions in the last days before the end of training; all-time popularity decides between equals."""

    name: ClassVar[str] = "popular-recent"
    Config = PopularRecentConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        return counting_memory(data)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        times = data.train_times(options.refit)
        if times is None:
            raise ConfigError(f"popular-recent needs the time of events, and {data.name} has none: use popular")
        rows = data.train(options.refit).values
        known = np.nan_to_num(times.values, nan=-np.inf)
        recent = known > known.max(initial=-np.inf) - self.config.days * _DAY
        recent_N = np.bincount(rows[recent], minlength=len(data.items))
        all_N = _events(data, options.refit)
        scores_N = (recent_N + all_N / (all_N.sum() + 1.0)).astype(np.float32)
        return assemble(self, PopularSource(self.name, scores_N), data, options)
