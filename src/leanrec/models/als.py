"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren & Volinsky 2008).

Every pair of a user and an item counts: observed ones should score 1 with weight 1, all others 0 with the small weight
`unobserved`. The penalty of a row grows with how often it occurs (Rendle et al. 2022, "Revisiting the performance of
iALS on item recommendation benchmarks"). Nothing is kept of a user: anybody's vector is the half step of their history,
so new users and new events count without training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import msgspec
import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.cases import distinct
from leanrec.data.dataset import Dataset
from leanrec.index.exact import ExactIndex
from leanrec.kernels.als import eigenbasis, half_step, in_eigenbasis
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts import factors_memory
from leanrec.models.growth import Growth, Learned, grow
from leanrec.models.judges import Judges
from leanrec.models.popular import popular_fallback
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.memory import MemoryNeed

__all__ = ["ALS", "ALSConfig", "Factors", "Pairs", "alternate", "fold_in"]

DEFAULTS_VERSION = 1
_MANY_EVENTS = 300_000
_FACTORS = (64, 256)
_UNOBSERVED = (10.0, 3.0, 30.0)
"""Weight of all that a user has not, over the mean number of items that one has."""
_REGULARISATION = (0.003, 0.001, 0.01, 0.03, 0.1)
_TRIAL = {"factors": 128, "iterations": 3}
_UNJUDGED = 6


class ALSConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 1), and printed."""

    factors: int | None = None
    """Width D of the vectors; 64, or 256 from 300,000 training events."""
    unobserved: float | None = None
    """Weight of a pair that was not observed; an observed one weighs 1."""
    regularisation: float | None = None
    """Weight of a vector's squared length, for each time (to the power `exponent`) that its row occurs."""
    exponent: float = 1.0
    """How the penalty grows with the occurrences, unobserved ones by their weight; 0: alike for all."""
    iterations: int = 16
    """Solutions for all users and all items, at most."""
    patience: int = 2
    """Iterations without a better validation score before training stops."""
    steps: int = 8
    """Conjugate gradient steps for a row, at most."""
    tolerance: float = 0.1
    """Part of a row's residual at which its steps end."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "factors": Choice((64, 128, 256, 512)),
        "unobserved": Range(1e-4, 1.0, log=True),
        "regularisation": Range(1e-4, 1.0, log=True),
        "exponent": Range(0.0, 1.0),
    }

    def __post_init__(self) -> None:
        for key in ("factors", "iterations", "patience", "steps"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} must be at least 1, not {value}")
        for key in ("unobserved", "regularisation", "tolerance"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"{key} must be above 0, not {value}")
        if not self.exponent >= 0:
            raise ValueError(f"exponent must be at least 0, not {self.exponent}")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Who has what, both ways round: rows of distinct int32 items of each user, and of users of each item."""

    users: Jagged
    items: Jagged

    @classmethod
    def of(cls, train: Jagged, num_items: int) -> Pairs:
        users = distinct(train)
        order = np.argsort(users.values, kind="stable")
        counts_N = np.bincount(users.values, minlength=num_items)
        return cls(users, Jagged.from_lengths(users.row_of()[order].astype(np.int32), counts_N))


@dataclass(frozen=True, slots=True)
class Factors:
    """Item vectors in the basis where the rest of a half step is diagonal. items_ND: (N, D). spectrum_D: (D,)."""

    items_ND: npt.NDArray[np.float32]
    spectrum_D: npt.NDArray[np.float32]


def alternate(pairs: Pairs, config: ALSConfig, seed: int) -> Iterator[Factors]:
    """The item vectors after each iteration; config: without a None."""
    assert config.factors is not None and config.unobserved is not None
    num_users, num_items = len(pairs.users), len(pairs.items)
    weights_U = _weights(pairs.users, num_items, config)
    weights_N = _weights(pairs.items, num_users, config)
    solve = _solver(config)
    fresh_ND = np.random.default_rng(seed).standard_normal((num_items, config.factors), np.float32)
    items_ND, spectrum_D = in_eigenbasis(fresh_ND * np.float32(0.1 / config.factors**0.5))
    for _ in range(config.iterations):
        users_UD = solve(pairs.users, items_ND, config.unobserved * spectrum_D, weights_U)
        users_UD, spectrum_D = in_eigenbasis(users_UD)
        items_ND = solve(pairs.items, users_UD, config.unobserved * spectrum_D, weights_N)
        items_ND, spectrum_D = in_eigenbasis(items_ND)
        yield Factors(items_ND, np.float32(config.unobserved) * spectrum_D)


def fold_in(pairs: Pairs, factors: Factors, config: ALSConfig) -> npt.NDArray[np.float32]:
    """(U, D) the vectors of all users for these item vectors, as exact as training takes them."""
    weights_U = _weights(pairs.users, len(pairs.items), config)
    return _solver(config)(pairs.users, factors.items_ND, factors.spectrum_D, weights_U)


def _moved(items_ND: npt.NDArray[np.float32], pairs: Pairs, moved: npt.NDArray[np.int32], config: ALSConfig) -> Factors:
    """A half step for all users, with item vectors that may be fewer than the items, then one for the items `moved`."""
    assert config.unobserved is not None
    num_users, num_items = len(pairs.users), len(pairs.items)
    table_ND = np.zeros((num_items, items_ND.shape[1]), np.float32)
    table_ND[: len(items_ND)] = items_ND
    table_ND, spectrum_D = in_eigenbasis(table_ND)
    weights_U = _weights(pairs.users, num_items, config)
    users_UD = _solver(config)(pairs.users, table_ND, config.unobserved * spectrum_D, weights_U)
    basis_DD, spectrum_D = eigenbasis(users_UD)
    some = pairs.items.take(moved)
    weights_n = _weights(some, num_users, config)
    found_nD = _solver(config)(some, users_UD @ basis_DD, config.unobserved * spectrum_D, weights_n)
    table_ND[moved] = found_nD @ basis_DD.T
    table_ND, spectrum_D = in_eigenbasis(table_ND)
    return Factors(table_ND, np.float32(config.unobserved) * spectrum_D)


def _solver(config: ALSConfig) -> Callable[..., npt.NDArray[np.float32]]:
    return partial(half_step, tolerance=config.tolerance, steps=config.steps, threads=numba.get_num_threads())


def _weights(rows: Jagged, others: int, config: ALSConfig) -> npt.NDArray[np.float64]:
    """Rendle et al. 2022, eq. 6: regularisation * (observed + unobserved weight * all) ^ exponent."""
    assert config.regularisation is not None and config.unobserved is not None
    occurrences_B: npt.NDArray[np.float64] = rows.lengths.astype(np.float64) + config.unobserved * others
    return np.asarray(config.regularisation * occurrences_B**config.exponent)


class ALS(Model[ALSConfig]):
    """Users and items as vectors whose product is close to 1 where they met."""

    name: ClassVar[str] = "als"
    Config = ALSConfig

    def memory(self, data: Dataset) -> MemoryNeed:
        factors = self.config.factors or _FACTORS[len(data.train().values) >= _MANY_EVENTS]
        return factors_memory(data, factors, keeps_users=False)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        start = time.perf_counter()
        pairs = Pairs.of(data.train(), len(data.items))
        if not len(pairs.users.values):
            raise InputError(f"{data.name} has no training events, so als has nothing to learn: prepare more data")
        judges = Judges(data, options.metric)
        config = self._chosen(pairs, judges, options)
        chosen = {key: value for key, value in to_dict(config).items() if getattr(self.config, key) is None}
        if chosen:
            told = " ".join(f"{key}={value:.3g}" for key, value in chosen.items())
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): {told}")
        factors, iterations = self._best(pairs, config, judges, options, start)
        if options.refit:
            fixed = msgspec.structs.replace(config, iterations=iterations)
            *_, factors = alternate(Pairs.of(data.train(True), len(data.items)), fixed, options.seed)
        fallback = popular_fallback(data, refit=options.refit)
        card = {**chosen, "iterations": iterations}
        source = self.source(factors, config)
        recommender = assemble(self, source, data, options, fallback=fallback, chosen=card)
        recommender.learned = Learned(data.users, data.train(options.refit))
        return recommender

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """One half step for the items that have new events, old and new ones, on all of their events.

        All other items stay, so do the settings. Users need nothing: their new events are part of their history.
        """
        assert isinstance(recommender.source, EmbeddingSource)
        config = build(ALSConfig, recommender.card["config"])
        before = Learned.of(recommender)
        growth = Growth.of(before.users, recommender.items, data, refit=options.refit)
        learned = growth.learned(before)
        pairs = Pairs.of(learned.events, len(growth.items))
        factors = _moved(recommender.source.index.items_ND, pairs, np.unique(growth.fresh.values), config)
        updated = grow(recommender, self.source(factors, config), growth, data)
        updated.learned = learned
        return updated

    def source(self, factors: Factors, config: ALSConfig) -> EmbeddingSource:
        """What answers with these item vectors."""
        assert config.unobserved is not None and config.regularisation is not None
        fold = FactorsConfig(
            fold="ridge", regularisation=config.regularisation, exponent=config.exponent,
            spread=config.unobserved * len(factors.items_ND),
        )  # fmt: skip
        engine = FactorsEngine(fold, {"spectrum": factors.spectrum_D}, factors.items_ND)
        return EmbeddingSource(self.name, engine, ExactIndex.build(factors.items_ND))

    def _best(
        self, pairs: Pairs, config: ALSConfig, judges: Judges, options: FitOptions, start: float
    ) -> tuple[Factors, int]:
        """The vectors after the iteration that validation likes best, and its number."""
        best: tuple[float, int, Factors] | None = None
        for number, factors in enumerate(alternate(pairs, config, options.seed), 1):
            late = options.time_limit is not None and time.perf_counter() - start > options.time_limit
            if not len(judges):
                best = 0.0, number, factors
                if number >= min(_UNJUDGED, config.iterations) or late:
                    break
                continue
            score = judges.score(self.source(factors, config))
            if options.on_score is not None:
                options.on_score(number, score)
            if best is None or score > best[0]:
                best = score, number, factors
            if number - best[1] >= config.patience or late:
                break
        assert best is not None
        return best[2], best[1]

    def _chosen(self, pairs: Pairs, judges: Judges, options: FitOptions) -> ALSConfig:
        """The unobserved weight, then the regularisation, with the best score after a few iterations."""
        replace = msgspec.structs.replace
        config, events = self.config, len(pairs.users.values)
        if config.factors is None:
            config = replace(config, factors=_FACTORS[events >= _MANY_EVENTS])
        assert config.factors is not None

        def trial(one: ALSConfig) -> float:
            short = replace(one, factors=min(config.factors or 0, _TRIAL["factors"]), iterations=_TRIAL["iterations"])
            *_, factors = alternate(pairs, short, options.seed)
            return judges.score(self.source(factors, short))

        scale = events / max(1, len(pairs.users)) / len(pairs.items)
        grids = (("unobserved", [scale * times for times in _UNOBSERVED]), ("regularisation", list(_REGULARISATION)))
        for key, grid in grids:
            if getattr(config, key) is not None:
                continue
            plain = {"regularisation": config.regularisation or _REGULARISATION[0], key: grid[0]}
            tried = [replace(config, **{**plain, key: value}) for value in grid]
            best = max(tried, key=trial) if len(judges) else tried[0]
            config = replace(config, **{key: getattr(best, key)})
        return config
