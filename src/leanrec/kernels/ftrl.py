"""FTRL-proximal for logistic regression (McMahan et al. 2013, algorithm 1), beside its NumPy reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_inline

__all__ = ["ftrl", "ftrl_reference", "ftrl_weights"]


@jit_inline
def _weight(z: float, n: float, alpha: float, beta: float, l1: float, l2: float) -> float:
    if abs(z) <= l1:
        return 0.0
    return -(z - math.copysign(l1, z)) / ((beta + math.sqrt(n)) / alpha + l2)


@jit
def ftrl(
    offsets: Any, rows_T: Any, values_T: Any, labels_B: Any, weights_B: Any, order: Any,
    z_R: Any, n_R: Any, alpha: float, beta: float, l1: float, l2: float,
) -> float:  # fmt: skip
    """Learn from the rows in `order`, one after the other; the mean loss, each row judged before it is learnt from.

    offsets, rows_T, values_T: sparse rows. labels_B: 0 or 1. weights_B: how much each row counts. z_R, n_R: (R + 1,)
    float64 state, changed in place; the last is the bias, which is not penalised.
    """
    bias = len(z_R) - 1
    loss = 0.0
    for row in order:
        logit = _weight(z_R[bias], n_R[bias], alpha, beta, 0.0, 0.0)
        for t in range(offsets[row], offsets[row + 1]):
            at = rows_T[t]
            logit += values_T[t] * _weight(z_R[at], n_R[at], alpha, beta, l1, l2)
        p = 1.0 / (1.0 + math.exp(-min(max(logit, -35.0), 35.0)))
        loss -= math.log(p if labels_B[row] else 1.0 - p)
        error = (p - labels_B[row]) * weights_B[row]
        for t in range(offsets[row], offsets[row + 1] + 1):
            last = t == offsets[row + 1]
            at = bias if last else rows_T[t]
            gradient = error if last else error * values_T[t]
            w = _weight(z_R[at], n_R[at], alpha, beta, 0.0 if last else l1, 0.0 if last else l2)
            sigma = (math.sqrt(n_R[at] + gradient * gradient) - math.sqrt(n_R[at])) / alpha
            z_R[at] += gradient - sigma * w
            n_R[at] += gradient * gradient
    return loss / max(len(order), 1)


def ftrl_weights(
    z_R: npt.NDArray[np.float64], n_R: npt.NDArray[np.float64], alpha: float, beta: float, l1: float, l2: float
) -> npt.NDArray[np.float64]:
    """(R + 1,) the weights that a state stands for, the bias last."""
    l1_R, l2_R = np.full(len(z_R), l1), np.full(len(z_R), l2)
    l1_R[-1] = l2_R[-1] = 0.0
    weights = -(z_R - np.sign(z_R) * l1_R) / ((beta + np.sqrt(n_R)) / alpha + l2_R)
    return np.where(np.abs(z_R) <= l1_R, 0.0, weights)


def ftrl_reference(
    x_BR: npt.NDArray[np.float64], labels_B: npt.NDArray[Any], alpha: float, beta: float, l1: float, l2: float
) -> npt.NDArray[np.float64]:
    """(R + 1,) the weights after one pass over dense rows in order, as the paper writes it."""
    rows = np.hstack([x_BR, np.ones((len(x_BR), 1))])
    z_R, n_R = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for x_R, label in zip(rows, labels_B, strict=True):
        w_R = ftrl_weights(z_R, n_R, alpha, beta, l1, l2)
        g_R = (1 / (1 + np.exp(-x_R @ w_R)) - label) * x_R
        z_R += g_R - (np.sqrt(n_R + g_R**2) - np.sqrt(n_R)) / alpha * w_R
        n_R += g_R**2
    return ftrl_weights(z_R, n_R, alpha, beta, l1, l2)
