"""Losses of whole users against shared negatives: all positives of a user beside one row of scores.

A user's vector meets every negative once, not once for each positive, so an epoch costs users x negatives products
instead of positives x negatives. Vectors come gathered: V distinct item rows of a batch, which positives and negatives
name by slot. Legend: B users, T positives of all of them end to end, n negatives, V gathered items, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast, jit_fast_inline
from leanrec.kernels.softmax import exp_inline

__all__ = [
    "hinge_negatives", "hinge_negatives_reference", "logistic_negatives", "logistic_negatives_reference",
    "pull", "pull_reference", "softmax_users", "softmax_users_reference",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@jit_fast_inline
def log1p_inline(t: Any) -> Any:
    """log(1 + t) for 0 <= t <= 1 to 1e-5 (Abramowitz & Stegun 4.1.43); the compiler makes vectors of it."""
    p = np.float32(0.03215845)
    p = p * t - np.float32(0.13606275)
    p = p * t + np.float32(0.28947478)
    p = p * t - np.float32(0.49190896)
    p = p * t + np.float32(0.99949556)
    return p * t


@jit_fast
def pull(
    queries_BD: F32, items_VD: F32, offsets: I64, slots_T: I64, weights_T: F32, logistic: bool,
    grad_queries_BD: F32, grad_items_VD: F32,
) -> float:  # fmt: skip
    """Sum of weight x -log sigmoid(q.x) over the positives, or of weight x (1 - q.x); adds its gradients."""
    dim = queries_BD.shape[1]
    total = 0.0
    for b in range(len(queries_BD)):
        for t in range(offsets[b], offsets[b + 1]):
            v = slots_T[t]
            score = np.float32(0.0)
            for d in range(dim):
                score += queries_BD[b, d] * items_VD[v, d]
            g = -weights_T[t]
            if logistic:
                small = exp_inline(-abs(score))
                total += weights_T[t] * (max(-score, np.float32(0.0)) + log1p_inline(small))
                g *= (small if score > 0 else np.float32(1.0)) / (np.float32(1.0) + small)
            else:
                total += weights_T[t] * (np.float32(1.0) - score)
            for d in range(dim):
                grad_queries_BD[b, d] += g * items_VD[v, d]
                grad_items_VD[v, d] += g * queries_BD[b, d]
    return total


def pull_reference(
    queries_BD: F32, items_VD: F32, offsets: I64, slots_T: I64, weights_T: F32, logistic: bool,
    grad_queries_BD: F32, grad_items_VD: F32,
) -> float:  # fmt: skip
    rows_T = np.repeat(np.arange(len(queries_BD)), np.diff(offsets))
    scores_T = (queries_BD[rows_T].astype(np.float64) * items_VD[slots_T]).sum(axis=1)
    grad_T = -weights_T / (1 + np.exp(scores_T)) if logistic else -weights_T.astype(np.float64)
    np.add.at(grad_queries_BD, rows_T, (grad_T[:, None] * items_VD[slots_T]).astype(np.float32))
    np.add.at(grad_items_VD, slots_T, (grad_T[:, None] * queries_BD[rows_T]).astype(np.float32))
    return float((weights_T * (np.logaddexp(0, -scores_T) if logistic else 1 - scores_T)).sum())


@jit_fast
def logistic_negatives(scores_Bn: F32, base_B: F32, slope_B: F32, factor_n: F32) -> float:
    """Scores to gradients in place; the sum of (base + slope x factor) x -log sigmoid(-score)."""
    total = 0.0
    for b in range(scores_Bn.shape[0]):
        part: Any = np.float32(0.0)
        for j in range(scores_Bn.shape[1]):
            s = scores_Bn[b, j]
            weight = base_B[b] + slope_B[b] * factor_n[j]
            small = exp_inline(-abs(s))
            part += weight * (max(s, np.float32(0.0)) + log1p_inline(small))
            scores_Bn[b, j] = weight * (np.float32(1.0) if s > 0 else small) / (np.float32(1.0) + small)
        total += part
    return total


def logistic_negatives_reference(scores_Bn: F32, base_B: F32, slope_B: F32, factor_n: F32) -> float:
    scores = scores_Bn.astype(np.float64)
    weights_Bn = base_B[:, None] + slope_B[:, None] * factor_n
    scores_Bn[:] = weights_Bn / (1 + np.exp(-scores))
    return float((weights_Bn * np.logaddexp(0, scores)).sum())


@jit_fast
def hinge_negatives(scores_Bn: F32, share_B: F32, margin: float) -> float:
    """Scores to gradients in place; the sum of share x max(0, score - margin)."""
    least = np.float32(margin)
    total = 0.0
    for b in range(scores_Bn.shape[0]):
        part = np.float32(0.0)
        for j in range(scores_Bn.shape[1]):
            above = scores_Bn[b, j] - least
            part += max(above, np.float32(0.0))
            scores_Bn[b, j] = share_B[b] if above > 0 else np.float32(0.0)
        total += part * share_B[b]
    return total


def hinge_negatives_reference(scores_Bn: F32, share_B: F32, margin: float) -> float:
    above = scores_Bn.astype(np.float64) - margin
    scores_Bn[:] = np.where(above > 0, share_B[:, None], 0)
    return float((share_B[:, None] * np.maximum(above, 0)).sum())


@jit_fast
def softmax_users(
    queries_BD: F32, items_VD: F32, offsets: I64, slots_T: I64, share_B: F32, scores_Bn: F32,
    grad_queries_BD: F32, grad_items_VD: F32,
) -> float:  # fmt: skip
    """Sum over users of share x -log(e^positive / (e^positive + sum of e^negative)), summed over their positives.

    scores_Bn: of the negatives, to gradients in place. The gradients of the positives are added to the two others.
    """
    dim, count = queries_BD.shape[1], scores_Bn.shape[1]
    total = 0.0
    for b in range(len(queries_BD)):
        top = np.float32(-np.inf)
        for j in range(count):
            top = max(top, scores_Bn[b, j])
        mass = np.float32(0.0)
        for j in range(count):
            e = exp_inline(scores_Bn[b, j] - top)
            scores_Bn[b, j] = e
            mass += e
        pushed = np.float32(0.0)
        for t in range(offsets[b], offsets[b + 1]):
            v = slots_T[t]
            score = np.float32(0.0)
            for d in range(dim):
                score += queries_BD[b, d] * items_VD[v, d]
            above = max(score, top)
            rest = mass * np.exp(top - above)
            whole = np.exp(score - above) + rest
            total += share_B[b] * (above + np.log(whole) - score)
            g = -share_B[b] * rest / whole
            pushed += share_B[b] * np.exp(top - above) / whole
            for d in range(dim):
                grad_queries_BD[b, d] += g * items_VD[v, d]
                grad_items_VD[v, d] += g * queries_BD[b, d]
        for j in range(count):
            scores_Bn[b, j] *= pushed
    return total


def softmax_users_reference(
    queries_BD: F32, items_VD: F32, offsets: I64, slots_T: I64, share_B: F32, scores_Bn: F32,
    grad_queries_BD: F32, grad_items_VD: F32,
) -> float:  # fmt: skip
    rows_T = np.repeat(np.arange(len(queries_BD)), np.diff(offsets))
    positive_T = (queries_BD[rows_T].astype(np.float64) * items_VD[slots_T]).sum(axis=1)
    mass_B = np.exp(scores_Bn.astype(np.float64)).sum(axis=1)
    whole_T, share_T = np.exp(positive_T) + mass_B[rows_T], share_B[rows_T]
    grad_T = -share_T * mass_B[rows_T] / whole_T
    np.add.at(grad_queries_BD, rows_T, (grad_T[:, None] * items_VD[slots_T]).astype(np.float32))
    np.add.at(grad_items_VD, slots_T, (grad_T[:, None] * queries_BD[rows_T]).astype(np.float32))
    pushed_B = np.bincount(rows_T, share_T / whole_T, minlength=len(queries_BD))
    scores_Bn[:] = pushed_B[:, None] * np.exp(scores_Bn.astype(np.float64))
    return float((share_T * (np.log(whole_T) - positive_T)).sum())
