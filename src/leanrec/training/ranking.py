"""Rankers over features, fitted to lists of candidates of which some were right. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.boosting import grow_tree, lambda_gradients
from leanrec.runtime.merging.trees import TreesRanker

__all__ = ["RankingData", "fit_linear", "fit_trees"]

_STEPS = 30
_PRECISE = 1e-8
_BINS = 64
_LEVEL = 30
"""Places from the top that a pair must have one of to count."""

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


def fit_trees(
    data: RankingData, *, rounds: int, rate: float = 0.1, depth: int = 3, least: int = 100, l2: float = 1.0
) -> TreesRanker:
    """LambdaMART (Burges 2010): each round a tree towards the gradients of NDCG.

    rate: what of each tree is kept. depth: of the trees. least: candidates a leaf has at least. Nothing is random.
    """
    data = data.decided()
    features, inner = data.features_TF.shape[1], (1 << depth) - 1
    edges = [np.unique(np.quantile(column, np.linspace(0, 1, _BINS)[1:-1])) for column in data.features_TF.T]
    bins_FT = np.stack(
        [np.searchsorted(edge, column) for edge, column in zip(edges, data.features_TF.T, strict=True)]
    ).astype(np.uint8)
    above_FB = np.full((features, 256), np.inf)
    for number, edge in enumerate(edges):
        above_FB[number, : len(edge)] = edge
    feature_RH, bin_RH = np.zeros((rounds, inner), np.int32), np.empty((rounds, inner), np.uint8)
    leaf_RL = np.empty((rounds, inner + 1))
    rows = len(data.relevant_T)
    scores_T, gradient_T, hessian_T, node_T = np.zeros(rows), np.empty(rows), np.empty(rows), np.empty(rows, np.int64)
    for number in range(rounds):
        lambda_gradients(scores_T, data.relevant_T, data.items.offsets, _LEVEL, gradient_T, hessian_T)
        grow_tree(
            bins_FT, _BINS, gradient_T, hessian_T, least, l2, feature_RH[number], bin_RH[number], leaf_RL[number],
            node_T,
        )  # fmt: skip
        leaf_RL[number] *= rate
        scores_T += leaf_RL[number][node_T]
    return TreesRanker(feature_RH, above_FB[feature_RH, bin_RH], leaf_RL)
