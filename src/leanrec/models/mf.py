"""Matrix factorisation of explicit ratings with biases (Koren, Bell & Volinsky 2009), by alternating least squares.

    rating(u, i) ~ mean + bias_u + bias_i + p_u . q_i

A half step gives each user, with the items fixed, the exact ridge regression of their ratings on the items' vectors and
a constant; then the reverse. Items are ranked by predicted rating, which says how much someone would like an item they
took, not whether they would take it: for that, `als` and others are better judges. A history without ratings is folded
in as liked by one standard deviation more than expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.data.split import VALID
from leanrec.evaluation.ratings import rmse
from leanrec.index.exact import ExactIndex
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts import factors_memory
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.mf_factors import RatingFactors, Ratings, alternate, constant_of, move
from leanrec.models.popular import popular_fallback
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.memory import MemoryNeed

__all__ = ["MF", "MFConfig"]

DEFAULTS_VERSION = 1
_REGULARISATION = (10.0, 5.0, 20.0, 40.0)
_UNJUDGED = 8

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Judged = tuple[F64, npt.NDArray[np.int64], npt.NDArray[np.int64]]


class MFConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation ratings of users that tune (defaults version 1), and printed."""

    factors: int = 32
    """Width D of the vectors, biases apart."""
    regularisation: float | None = None
    """Weight of a vector's squared length."""
    bias_regularisation: float = 3.0
    """Weight of a squared bias, in units of ratings: so many ratings more at the mean."""
    exponent: float = 0.0
    """Both weights grow with the number of ratings to this power; 1 is the weighted penalty of Zhou et al. 2008."""
    iterations: int = 20
    """Solutions for all users and all items, at most."""
    patience: int = 2
    """Iterations without a smaller validation error before training stops."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "factors": Choice((8, 16, 32, 64)),
        "regularisation": Range(0.5, 100.0, log=True),
        "bias_regularisation": Range(0.1, 30.0, log=True),
    }

    def __post_init__(self) -> None:
        for key in ("factors", "iterations", "patience"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("regularisation", "bias_regularisation"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"{key} must be above 0, not {value}")
        if not self.exponent >= 0:
            raise ValueError(f"exponent must be at least 0, not {self.exponent}")


@dataclass(frozen=True)
class LearnedRatings(Learned):
    """What `partial_fit` goes on from; ratings_T: in the layout of the events."""

    ratings_T: F64
    factors: RatingFactors
    mean: float


class MF(Model[MFConfig]):
    """Ratings as a mean, biases, and the product of a user's and an item's vector."""

    name: ClassVar[str] = "mf"
    Config = MFConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        return factors_memory(data, self.config.factors, keeps_users=True)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        size = len(data.items)
        ratings = Ratings.of(*_rated(data, refit=False), size)
        judged = _judged(data)
        config = self.config
        if config.regularisation is None:
            tried = [msgspec.structs.replace(config, regularisation=value) for value in _REGULARISATION]
            if len(judged[0]):
                config = min(tried, key=lambda one: self._best(ratings, one, judged, options.seed)[0])
            else:
                config = tried[0]
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): regularisation={config.regularisation:g}")
        _, iterations, factors = self._best(ratings, config, judged, options.seed)
        if options.refit:
            ratings = Ratings.of(*_rated(data, refit=True), size)
            *_, factors = alternate(ratings, msgspec.structs.replace(config, iterations=iterations), options.seed)
        chosen = {**to_dict(config), "iterations": iterations}
        fallback = popular_fallback(data, refit=options.refit)
        source = self.source(factors, ratings, config)
        recommender = assemble(self, source, data, options, fallback=fallback, chosen=chosen)
        recommender.learned = LearnedRatings(data.users, ratings.users, ratings.users_T, factors, ratings.mean)
        return recommender

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """One half step for the users that have new ratings, old and new ones, then one for such items.

        Both on all of their ratings; all others stay, so do the settings and the mean rating.
        """
        before = Learned.of(recommender)
        assert isinstance(before, LearnedRatings)
        config = build(MFConfig, recommender.card["config"])
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        fresh, fresh_T = _rated(data, refit=options.refit)
        growth = replace(growth, fresh=Jagged(growth.items.rows(data.items.ids())[fresh.values], fresh.offsets))
        events = growth.learned(before).events
        values = Jagged(before.ratings_T, before.events.offsets).appended(
            Jagged(fresh_T, fresh.offsets), growth.user_rows
        )
        ratings = Ratings.of(events, values.values, len(growth.items), before.mean)
        factors = before.factors.grown(len(growth.users), len(growth.items))
        factors = move(factors, ratings, growth.user_rows[fresh.lengths > 0], np.unique(growth.fresh.values), config)
        updated = grow(recommender, self.source(factors, ratings, config), growth, data)
        updated.learned = LearnedRatings(growth.users, events, ratings.users_T, factors, before.mean)
        return updated

    def source(self, factors: RatingFactors, ratings: Ratings, config: MFConfig) -> EmbeddingSource:
        """What answers with these vectors; its scores are predicted ratings."""
        assert config.regularisation is not None
        constant = constant_of(config)
        ones_U1, constants_N1 = np.ones((len(ratings.users), 1)), np.full((len(ratings.items), 1), constant)
        base_U1 = (ratings.mean + factors.biases_U[:, None]) / constant
        users_UD = np.hstack([factors.users_UD, ones_U1, base_U1]).astype(np.float32)
        users_UD[ratings.users.lengths == 0] = 0
        items_ND = np.hstack([factors.items_ND, factors.biases_N[:, None], constants_N1]).astype(np.float32)
        fold = FactorsConfig(
            fold="ratings", regularisation=config.regularisation, exponent=config.exponent,
            liking=float(ratings.users_T.std()), mean=ratings.mean / constant,
        )  # fmt: skip
        engine = FactorsEngine(fold, {"users": users_UD}, items_ND)
        return EmbeddingSource(self.name, engine, ExactIndex.build(items_ND))

    def _best(self, ratings: Ratings, config: MFConfig, judged: Judged, seed: int) -> tuple[float, int, RatingFactors]:
        """The smallest validation error, the number of its iteration and what it came from."""
        best: tuple[float, int, RatingFactors] | None = None
        ratings_T, users_T, items_T = judged
        for number, factors in enumerate(alternate(ratings, config, seed), 1):
            if not len(ratings_T):
                best = 0.0, number, factors
                if number >= _UNJUDGED:
                    break
                continue
            error = rmse(ratings_T, factors.predict(ratings.mean, users_T, items_T))
            if best is None or error < best[0]:
                best = error, number, factors
            if number - best[1] >= config.patience:
                break
        assert best is not None
        return best


def _rated(data: Dataset, refit: bool) -> tuple[Jagged, F64]:
    """The training events of `data` that have a rating, and those; InputError when there are none."""
    values, train = data.train_values(refit), data.train(refit)
    known_T = np.zeros(0, np.bool_) if values is None else np.isfinite(values.values)
    if values is None or not known_T.any():
        raise InputError(
            f"{data.name} has no ratings to train mf on: prepare it with --value-col, or use als, which needs none"
        )
    return train.where(known_T), values.values[known_T].astype(np.float64)


def _judged(data: Dataset) -> Judged:
    """Validation ratings of users that tune, with their user and item rows."""
    events, values = data.interactions, data.interactions.values
    assert values is not None
    users_T = events.items.row_of()
    at = np.flatnonzero((events.split == VALID) & ~data.certify[users_T] & np.isfinite(values))
    return values[at].astype(np.float64), users_T[at], events.items.values[at].astype(np.int64)
