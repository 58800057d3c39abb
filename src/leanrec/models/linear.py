"""Linear regression on the label with an L2 penalty: min |X w + c - y|^2 + l2 |w|^2, solved in two ways that agree.

Closed: the normal equations, by Cholesky. Gradient: conjugate gradients (Hestenes & Stiefel 1952) on the same
equations, which are never formed; the residual ends a billionth of its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.console import say
from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Dimension, Range
from leanrec.features.batch import Layout
from leanrec.features.stacked import Stacked
from leanrec.kernels.least_squares import normal_equations, normal_product
from leanrec.models.scoring import Learned, Learning, ScoringModel
from leanrec.runtime.engines.ctr import PlanEngine
from leanrec.training.judging import raw_scores
from leanrec.training.labelled import Labelled, RowsConfig

__all__ = ["Linear", "LinearConfig", "linear_engine", "ridge"]

F64 = npt.NDArray[np.float64]
_CLOSED = 6000
"""Weights above which the matrix of the closed form is not worth its memory."""
_TOGETHER = 1 << 14
"""Rows that are laid out for the kernels at a time."""
_PATH = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)


class LinearConfig(RowsConfig, frozen=True, kw_only=True):
    """What is None is chosen from the data (defaults version 1)."""

    l2: float | None = None
    """Penalty on the squares of all weights but the constant; None: the best of a path on validation."""
    solver: Literal["closed", "gradient"] | None = None
    """None: closed up to 6,000 weights."""

    space: ClassVar[Mapping[str, Dimension]] = {"l2": Range(0.1, 1e4, log=True)}

    def __post_init__(self) -> None:
        if self.l2 is not None and not self.l2 > 0:
            raise ValueError(f"l2 must be above 0, not {self.l2}")


class Linear(ScoringModel[LinearConfig]):
    """The label as a weighted sum of features; calibration makes it a probability."""

    name: ClassVar[str] = "linear"
    Config = LinearConfig

    def learn(self, train: Labelled, valid: Labelled, learning: Learning) -> Learned:
        layout = train.batch.layout
        if train.weights_B is not None:
            raise ConfigError(f"{self.name} cannot weigh rows: use balance=undersample or oversample")
        solver = self.config.solver or ("closed" if Stacked.of(layout).total <= _CLOSED else "gradient")
        path = [self.config.l2] if self.config.l2 is not None else [10.0] if not len(valid) else list(_PATH)
        if learning.length is not None and self.config.l2 is None:
            path = [_PATH[learning.length]]
        best: tuple[float, int, PlanEngine] | None = None
        for place, w_R in enumerate(ridge(train, path, solver)):
            engine = linear_engine(w_R, layout)
            score = 0.0
            if len(valid) and len(path) > 1:
                score = -float(np.mean((raw_scores(engine, valid.batch) - valid.labels_BT[:, 0]) ** 2))
                if learning.on_score is not None:
                    learning.on_score(place + 1, score)
            if best is None or score > best[0]:
                best = score, place, engine
        assert best is not None
        l2 = path[best[1]]
        say(f"{self.name}: l2={l2:g}, {solver} form")
        length = _PATH.index(l2) if l2 in _PATH else 0
        return Learned(best[2], length, "identity", {"l2": l2, "solver": solver})


def ridge(train: Labelled, path: list[float], solver: Literal["closed", "gradient"]) -> list[F64]:
    """(R + 1,) weights for each penalty of the path, the constant last. The gradient form starts from the last."""
    total = Stacked.of(train.batch.layout).total
    moment_R = np.zeros(total + 1)
    if solver == "closed":
        gram_RR = np.zeros((total + 1, total + 1))
        for rows, values_T, labels_B in _sparse(train):
            normal_equations(rows.offsets, rows.values, values_T, labels_B, gram_RR, moment_R)
        found = []
        for l2 in path:
            penalised = gram_RR.copy()
            penalised[np.arange(total), np.arange(total)] += l2
            found.append(np.asarray(np.linalg.solve(penalised, moment_R)))
        return found
    squares_R = np.zeros(total + 1)
    for rows, values_T, labels_B in _sparse(train):
        moment_R[:-1] += np.bincount(rows.values, values_T * labels_B[rows.row_of()], total)
        squares_R[:-1] += np.bincount(rows.values, values_T**2, total)
        moment_R[-1] += labels_B.sum()
    w_R, found = np.zeros(total + 1), []
    for l2 in path:
        w_R = _conjugate(train, moment_R, squares_R, w_R, l2)
        found.append(w_R)
    return found


def _sparse(train: Labelled) -> Iterator[tuple[Jagged, F64, F64]]:
    """The rows and their labels, a block at a time."""
    stacked = Stacked.of(train.batch.layout)
    for block in train.blocks(_TOGETHER):
        rows, values_T = stacked.sparse(block.batch)
        yield rows, values_T.astype(np.float64), block.labels_BT[:, 0].astype(np.float64)


def _conjugate(train: Labelled, moment_R: F64, squares_R: F64, start_R: F64, l2: float) -> F64:
    penalty_R = np.full(len(moment_R), l2)
    penalty_R[-1] = 0.0

    def product(w_R: F64) -> F64:
        out_R = penalty_R * w_R
        for rows, values_T, _ in _sparse(train):
            normal_product(rows.offsets, rows.values, values_T, w_R, out_R)
        return out_R

    scale_R = squares_R + penalty_R  # Jacobi: frequent values converge first
    scale_R[-1] = max(len(train), 1)
    w_R = start_R.copy()
    residual_R = moment_R - product(w_R)
    move_R = residual_R / scale_R
    size, end = float(residual_R @ move_R), 1e-18 * float(moment_R @ (moment_R / scale_R))
    for _ in range(10 * len(moment_R)):
        if size <= end:
            break
        along_R = product(move_R)
        alpha = size / float(move_R @ along_R)
        w_R += alpha * move_R
        residual_R -= alpha * along_R
        scaled_R = residual_R / scale_R
        size, before = float(residual_R @ scaled_R), size
        move_R = scaled_R + size / before * move_R
    return w_R


def linear_engine(w_R: F64, layout: Layout) -> PlanEngine:
    """An engine for one weight a value and a constant, which stands last."""
    plan = [{"name": "logit", "op": "sum", "inputs": ("first",), "options": {}}]
    weights = {"logit.bias": w_R[-1:].astype(np.float32)}
    return PlanEngine(plan, layout, w_R[:-1, None].astype(np.float32), weights, history=0)
