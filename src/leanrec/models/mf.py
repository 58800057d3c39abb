"""Matrix factorisation of explicit ratings with biases (Koren, Bell & Volinsky 2009), by alternating least squares.

    rating(u, i) ~ mean + bias_u + bias_i + p_u . q_i

A half step gives each user, with the items fixed, the exact ridge regression of their ratings on the items' vectors and
a constant; then the reverse. Items are ranked by predicted rating, which says how much someone would like an item they
took, not whether they would take it: for that, `als` and others are better judges. A history without ratings is folded
in as liked by one standard deviation more than expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.data.split import VALID
from leanrec.evaluation.ratings import rmse
from leanrec.index.exact import ExactIndex
from leanrec.kernels.fold import fold_ridge_threaded
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.popular import popular_fallback
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["MF", "MFConfig", "RatingFactors", "Ratings", "alternate"]

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


@dataclass(frozen=True, slots=True)
class Ratings:
    """Who rated what, both ways round, as (rows of the other side, ratings in their layout); mean: of all ratings."""

    users: Jagged
    users_T: F64
    items: Jagged
    items_T: F64
    mean: float

    @classmethod
    def of(cls, data: Dataset, refit: bool) -> Ratings:
        """The training ratings of `data`; InputError when it has none. Events without a rating are left out."""
        values, train = data.train_values(refit), data.train(refit)
        known_T = np.zeros(0, np.bool_) if values is None else np.isfinite(values.values)
        if values is None or not known_T.any():
            raise InputError(
                f"{data.name} has no ratings to train mf on: prepare it with --value-col, or use als, which needs none"
            )
        users, ratings_T = train.where(known_T), values.values[known_T].astype(np.float64)
        order = np.argsort(users.values, kind="stable")
        counts_N = np.bincount(users.values, minlength=len(data.items))
        items = Jagged.from_lengths(users.row_of()[order].astype(np.int32), counts_N)
        return cls(users, ratings_T, items, ratings_T[order], float(ratings_T.mean()))


@dataclass(frozen=True, slots=True)
class RatingFactors:
    """mean + biases_U[u] + biases_N[i] + users_UD[u] . items_ND[i] is the predicted rating."""

    users_UD: F32
    biases_U: F64
    items_ND: F32
    biases_N: F64

    def predict(self, mean: float, users_T: npt.NDArray[np.int64], items_T: npt.NDArray[np.int64]) -> F64:
        """(T,) predicted ratings."""
        tastes_T = np.einsum("td,td->t", self.users_UD[users_T], self.items_ND[items_T])
        return np.asarray(mean + self.biases_U[users_T] + self.biases_N[items_T] + tastes_T)


def alternate(ratings: Ratings, config: MFConfig, seed: int) -> Iterator[RatingFactors]:
    """Vectors and biases after each iteration; config: without a None."""
    num_items = len(ratings.items)
    fresh_ND = np.random.default_rng(seed).standard_normal((num_items, config.factors), np.float32)
    items_ND, biases_N = fresh_ND * np.float32(0.1), np.zeros(num_items)
    for _ in range(config.iterations):
        residuals_T = ratings.users_T - ratings.mean - biases_N[ratings.users.values]
        users_UD, biases_U = _half_step(ratings.users, residuals_T, items_ND, config)
        residuals_T = ratings.items_T - ratings.mean - biases_U[ratings.items.values]
        items_ND, biases_N = _half_step(ratings.items, residuals_T, users_UD, config)
        yield RatingFactors(users_UD, biases_U, items_ND, biases_N)


def _half_step(rated: Jagged, residuals_T: F64, table_ND: F32, config: MFConfig) -> tuple[F32, F64]:
    """Vectors and biases of the rows of `rated`: the bias is the coefficient of a constant column of the table."""
    assert config.regularisation is not None
    constant = _constant(config)
    wide_ND = np.append(table_ND, np.full((len(table_ND), 1), constant, np.float32), axis=1)
    weights_B = config.regularisation * np.maximum(rated.lengths, 1.0) ** config.exponent
    none_D = np.zeros(wide_ND.shape[1])
    found_BD = fold_ridge_threaded(rated, residuals_T, wide_ND, none_D, weights_B, numba.get_num_threads())
    return np.ascontiguousarray(found_BD[:, :-1]), constant * found_BD[:, -1].astype(np.float64)


def _constant(config: MFConfig) -> float:
    """The value of the constant column that makes one penalty of both."""
    assert config.regularisation is not None
    return float((config.regularisation / config.bias_regularisation) ** 0.5)


class MF(Model[MFConfig]):
    """Ratings as a mean, biases, and the product of a user's and an item's vector."""

    name: ClassVar[str] = "mf"
    Config = MFConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        ratings = Ratings.of(data, refit=False)
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
            ratings = Ratings.of(data, refit=True)
            *_, factors = alternate(ratings, msgspec.structs.replace(config, iterations=iterations), options.seed)
        chosen = {**to_dict(config), "iterations": iterations}
        fallback = popular_fallback(data, refit=options.refit)
        return assemble(self, self.source(factors, ratings, config), data, options, fallback=fallback, chosen=chosen)

    def source(self, factors: RatingFactors, ratings: Ratings, config: MFConfig) -> EmbeddingSource:
        """What answers with these vectors; its scores are predicted ratings."""
        assert config.regularisation is not None
        constant = _constant(config)
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


def _judged(data: Dataset) -> Judged:
    """Validation ratings of users that tune, with their user and item rows."""
    events, values = data.interactions, data.interactions.values
    assert values is not None
    users_T = events.items.row_of()
    at = np.flatnonzero((events.split == VALID) & ~data.certify[users_T] & np.isfinite(values))
    return values[at].astype(np.float64), users_T[at], events.items.values[at].astype(np.int64)
