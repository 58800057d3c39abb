"""Logistic regression learnt row by row with FTRL-proximal (McMahan et al. 2013): L1 makes weights exactly zero.

One pass is the online form, and `partial_fit` goes on from it; more passes come close to the optimum of the penalised
likelihood. Rows come in an order drawn anew for each pass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.console import say
from leanrec.core.errors import ConfigError
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.data.examples.events import examples_of
from leanrec.data.examples.renumbered import Renumbered
from leanrec.data.scratch import Scratch
from leanrec.features.stacked import Stacked
from leanrec.kernels.ftrl import ftrl, ftrl_weights
from leanrec.models.base import FitOptions
from leanrec.models.growth import Growth, grow
from leanrec.models.linear import linear_engine
from leanrec.models.scoring import Learned, Learning, ScoringModel
from leanrec.runtime.engines.ctr import PlanEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.scorer import ScoringSource
from leanrec.training.judging import Watch, judge
from leanrec.training.labelled import Labelled, RowsConfig, balanced, encode
from leanrec.training.shuffling import shuffled

__all__ = ["FTRLState", "Logistic", "LogisticConfig"]

_PATH = (1.0, 3.0, 10.0, 30.0)
_TOGETHER = 1 << 14
"""Rows that are laid out for the kernel at a time."""


class LogisticConfig(RowsConfig, frozen=True, kw_only=True):
    """What is None is chosen from the data (defaults version 1)."""

    alpha: float = 0.1
    """Learning rate of a weight, divided by the root of what its gradients have added up to."""
    beta: float = 1.0
    l1: float = 0.0
    l2: float | None = None
    """None: the best of a path on validation."""
    passes: int = 20
    """Over the rows at most; validation says when to stop. 1 is the online form."""
    patience: int = 2
    watch: Watch = "log_loss"
    """What validation decides by."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "alpha": Range(0.01, 1.0, log=True),
        "l1": Range(0.001, 10.0, log=True),
        "l2": Range(0.01, 100.0, log=True),
    }

    def __post_init__(self) -> None:
        for key in ("alpha", "beta", "passes", "patience"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} must be above 0, not {getattr(self, key)}")
        if self.l1 < 0 or (self.l2 is not None and self.l2 < 0):
            raise ValueError("l1 and l2 must not be negative")


@dataclass(frozen=True)
class FTRLState:
    """z, n: (R + 1,) float64, the constant last; what the algorithm keeps of all rows it has seen."""

    z_R: npt.NDArray[np.float64]
    n_R: npt.NDArray[np.float64]

    @classmethod
    def fresh(cls, total: int) -> FTRLState:
        return cls(np.zeros(total + 1), np.zeros(total + 1))

    def copy(self) -> FTRLState:
        return FTRLState(self.z_R.copy(), self.n_R.copy())


class Logistic(ScoringModel[LogisticConfig]):
    """Online logistic regression."""

    name: ClassVar[str] = "logistic"
    Config = LogisticConfig

    def learn(self, train: Labelled, valid: Labelled, learning: Learning) -> Learned:
        path = _PATH if self.config.l2 is None else (self.config.l2,)
        if learning.length is not None:
            l2 = path[learning.length // self.config.passes]
            state = self._passes(train, None, l2, learning, learning.length % self.config.passes + 1)[0]
            return Learned(self._engine(state, l2, train), learning.length, state=state)
        found = [(l2, *self._passes(train, valid, l2, learning)) for l2 in (path if len(valid) else path[:1])]
        place = max(range(len(found)), key=lambda one: found[one][2])
        l2, state, _, passes = found[place]
        engine = self._engine(state, l2, train)
        zero = float(np.mean(engine.table_RE == 0))
        say(f"{self.name}: l2={l2:g}, {passes} passes, {zero:.0%} of the weights are zero")
        facts = {"l2": l2, "passes": passes, "zero_weights": zero}
        return Learned(engine, place * self.config.passes + passes - 1, facts=facts, state=state)

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """One more pass, over the new rows alone. Features and calibration stay as they are: users, items and other
        categories that only `data` knows count as unknown ones until the model is fitted anew.
        """
        state, source = recommender.learned, recommender.source
        if not isinstance(state, FTRLState) or not isinstance(source, ScoringSource) or recommender.users is None:
            raise ConfigError(
                f"this {self.name} was loaded, and bundles do not hold what it goes on from: keep the recommender that "
                "fit gave, or fit it anew on old and new events together"
            )
        growth = Growth.of(recommender.users, recommender.items, data, refit=options.refit)
        config, facts = self.config, recommender.card
        plain = examples_of(
            data, facts["config"]["label"], negatives=config.negatives, history=config.history, seed=options.seed,
            refit=options.refit,
        )  # fmt: skip
        rows = Renumbered(plain, growth.user_rows, growth.items.rows(data.items.ids()))
        with Scratch(options.run) as scratch:
            train = encode(source.tables.space, rows, "train", scratch)
            train, _ = balanced(train, config.balance, options.seed, scratch)
        state = state.copy()
        self.absorb(state, train, facts["l2"], [options.seed])
        tables = source.tables.grown(rows, len(growth.users), len(growth.items))
        engine = self._engine(state, facts["l2"], train)
        updated = grow(
            recommender, ScoringSource(self.name, len(growth.items), tables, engine, source.calibrator), growth, data
        )
        updated.learned = state
        return updated

    def _passes(
        self, train: Labelled, valid: Labelled | None, l2: float, learning: Learning, passes: int | None = None
    ) -> tuple[FTRLState, float, int]:
        """The state after the best number of passes, its score (0 without validation) and that number."""
        config = self.config
        state, best = FTRLState.fresh(Stacked.of(train.batch.layout).total), (-np.inf, 0)
        kept = state
        for number in range(1, (passes or config.passes) + 1):
            self.absorb(state, train, l2, [learning.seed, number])
            score = 0.0
            if valid is not None and len(valid):
                score = judge(self._engine(state, l2, train), valid, config.watch)
                if learning.on_score is not None and config.l2 is not None:
                    learning.on_score(number, score)
            if score > best[0] or valid is None or not len(valid):
                best, kept = (score, number), state.copy()
            late = learning.deadline is not None and time.monotonic() > learning.deadline
            if late or number - best[1] >= config.patience:
                break
        return kept, best[0], best[1]

    def absorb(self, state: FTRLState, train: Labelled, l2: float, seed: list[int]) -> None:
        """One pass over the rows, shuffled by the seed; the state moves in place."""
        config, stacked = self.config, Stacked.of(train.batch.layout)
        for order in shuffled(len(train), config.shuffle, seed):
            for start in range(0, len(order), _TOGETHER):
                some = train.take(order[start : start + _TOGETHER])
                rows, values_T = stacked.sparse(some.batch)
                weights = np.ones(len(some)) if some.weights_B is None else some.weights_B.astype(np.float64)
                ftrl(
                    rows.offsets, rows.values, values_T, some.labels_BT[:, 0], weights, np.arange(len(some)),
                    state.z_R, state.n_R, config.alpha, config.beta, config.l1, l2,
                )  # fmt: skip

    def _engine(self, state: FTRLState, l2: float, train: Labelled) -> PlanEngine:
        config = self.config
        weights = ftrl_weights(state.z_R, state.n_R, config.alpha, config.beta, config.l1, l2)
        return linear_engine(weights, train.batch.layout)
