"""Sparse least squares: the normal equations and products with them, beside their NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["normal_equations", "normal_product", "ridge_reference"]


@jit
def normal_equations(offsets: Any, rows_T: Any, values_T: Any, labels_B: Any, gram_RR: Any, moment_R: Any) -> None:
    """X^T X and X^T y added to gram (R + 1, R + 1) and moment (R + 1,), float64; the last column of X is all ones."""
    bias = len(moment_R) - 1
    for b in range(len(labels_B)):
        for s in range(offsets[b], offsets[b + 1]):
            i, x = rows_T[s], values_T[s]
            for t in range(offsets[b], offsets[b + 1]):
                gram_RR[i, rows_T[t]] += x * values_T[t]
            gram_RR[i, bias] += x
            gram_RR[bias, i] += x
            moment_R[i] += x * labels_B[b]
        gram_RR[bias, bias] += 1.0
        moment_R[bias] += labels_B[b]


@jit
def normal_product(offsets: Any, rows_T: Any, values_T: Any, w_R: Any, out_R: Any) -> None:
    """out += X^T (X w), with the column of ones last."""
    bias = len(w_R) - 1
    for b in range(len(offsets) - 1):
        said = w_R[bias]
        for t in range(offsets[b], offsets[b + 1]):
            said += values_T[t] * w_R[rows_T[t]]
        for t in range(offsets[b], offsets[b + 1]):
            out_R[rows_T[t]] += values_T[t] * said
        out_R[bias] += said


def ridge_reference(x_BR: npt.NDArray[np.float64], labels_B: npt.NDArray[Any], l2: float) -> npt.NDArray[np.float64]:
    """(R + 1,) argmin |X w + c - y|^2 + l2 |w|^2, by least squares on the rows with sqrt(l2) I below them."""
    rows = np.hstack([x_BR, np.ones((len(x_BR), 1))])
    penalty = np.hstack([np.sqrt(l2) * np.eye(x_BR.shape[1]), np.zeros((x_BR.shape[1], 1))])
    target = np.concatenate([labels_B, np.zeros(x_BR.shape[1])])
    found: npt.NDArray[np.float64] = np.linalg.lstsq(np.vstack([rows, penalty]), target, rcond=None)[0]
    return found
