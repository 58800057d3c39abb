"""Rankers over features, fitted to lists of candidates of which some were right. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged

__all__ = ["RankingData", "fit_linear"]

_STEPS = 30
_PRECISE = 1e-8

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankingData:
    """Candidates of Q queries end to end. items: Q rows; features_TF; relevant_T: bool, which were right."""

    items: Jagged
    features_TF: F64
    relevant_T: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.integer]) -> RankingData:
        """Some of the queries."""
        at, lengths = self.items.positions(rows)
        return RankingData(
            Jagged.from_lengths(self.items.values[at], lengths), self.features_TF[at], self.relevant_T[at]
        )

    def decided(self) -> RankingData:
        """Only the queries whose candidates are not all right or all wrong: the others teach nothing."""
        right_Q = np.bincount(self.items.row_of(), weights=self.relevant_T, minlength=len(self.items))
        return self.take(np.flatnonzero((right_Q > 0) & (right_Q < self.items.lengths)))


def fit_linear(data: RankingData, l2: float) -> F64:
    """(F,) weights that make the list-wise softmax loss (ListNet's top one, Cao et al. 2007) + l2 / 2 |w|^2 smallest.

    The target of a query is spread evenly over what was right. l2 is on standardised features; by Newton's method.
    """
    data = data.decided()
    spread_F = data.features_TF.std(axis=0)
    scale_F = np.divide(1.0, spread_F, out=np.zeros_like(spread_F), where=spread_F > 1e-12)
    x_TF = (data.features_TF - data.features_TF.mean(axis=0)) * scale_F
    starts, query_T = data.items.offsets[:-1], data.items.row_of()
    target_T = data.relevant_T / np.bincount(query_T, weights=data.relevant_T)[query_T]
    weights_F = np.zeros(x_TF.shape[1])
    for _ in range(_STEPS):
        share_T = _softmax(x_TF @ weights_F, starts, query_T)
        gradient_F = x_TF.T @ (share_T - target_T) + l2 * weights_F
        weighted_TF = x_TF * share_T[:, None]
        means_QF = np.add.reduceat(weighted_TF, starts, axis=0)
        hessian_FF = x_TF.T @ weighted_TF - means_QF.T @ means_QF + l2 * np.eye(len(weights_F))
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        step_F /= max(1.0, float(np.abs(step_F).max()))  # a full step may overshoot far from the minimum
        weights_F -= step_F
        if np.abs(step_F).max() < _PRECISE:
            break
    return np.asarray(weights_F * scale_F)


def _softmax(scores_T: F64, starts: npt.NDArray[np.int64], query_T: npt.NDArray[np.int64]) -> F64:
    power_T = np.exp(scores_T - np.maximum.reduceat(scores_T, starts)[query_T])
    return np.asarray(power_T / np.add.reduceat(power_T, starts)[query_T])
