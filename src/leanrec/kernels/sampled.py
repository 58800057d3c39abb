"""Softmax over a target and shared negatives: probabilities in place, a row of scores while it is in cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast
from leanrec.kernels.softmax import exp_inline

__all__ = ["sampled_softmax", "sampled_softmax_reference"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


@jit_fast
def sampled_softmax(
    scores_Tn: F32, log_expected_n: F32, targets_T: I32, negatives_n: I32, positive_T: F32, share_T: F32
) -> tuple[F32, F32]:
    """scores = share x probability of each negative, in place; the (T,) losses and gradients by the positive score.

    A negative's score is lowered by log_expected; one that is the target does not count.
    """
    tokens, count = scores_Tn.shape
    loss_T, grad_T = np.empty(tokens, np.float32), np.empty(tokens, np.float32)
    for t in range(tokens):
        target, top = targets_T[t], positive_T[t]
        for j in range(count):
            s = scores_Tn[t, j] - log_expected_n[j]
            s = np.float32(-np.inf) if negatives_n[j] == target else s
            scores_Tn[t, j] = s
            top = max(top, s)
        total = np.float32(0.0)
        for j in range(count):
            e = exp_inline(scores_Tn[t, j] - top)
            scores_Tn[t, j] = e
            total += e
        rest = total
        total += np.exp(positive_T[t] - top)
        scale = share_T[t] / total
        for j in range(count):
            scores_Tn[t, j] *= scale
        loss_T[t] = top + np.log(total) - positive_T[t]
        grad_T[t] = -rest * scale
    return loss_T, grad_T


def sampled_softmax_reference(
    scores_Tn: F32, log_expected_n: F32, targets_T: I32, negatives_n: I32, positive_T: F32, share_T: F32
) -> tuple[F32, F32]:
    scores = np.where(negatives_n == targets_T[:, None], -np.inf, scores_Tn.astype(np.float64) - log_expected_n)
    total_T = np.log(np.exp(scores).sum(axis=1) + np.exp(positive_T.astype(np.float64)))
    scores_Tn[:] = share_T[:, None] * np.exp(scores - total_T[:, None])
    loss_T = total_T - positive_T
    return loss_T.astype(np.float32), (share_T * np.expm1(-loss_T)).astype(np.float32)
