"""Pairs of an item that a user has and one they have not: drawing them, and their loss in BPR (arXiv:1205.2618)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_fast
from leanrec.kernels.softmax import exp_inline
from leanrec.kernels.users import log1p_inline

__all__ = ["bpr_pairs", "bpr_pairs_reference", "draw_others", "hardest_others", "hardest_others_reference"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_TRIES = 100
_MARKED = 16
"""From so many candidates on, a user's items are marked once; for fewer each is looked up."""


@jit
def draw_others(offsets: I64, sorted_T: I32, users_B: I32, num_items: int, seed: int, out_BC: I32) -> None:
    """out[b, c] = an item that user b does not have, evenly drawn; any item when a hundred draws find none.

    sorted_T: the items of each user in rising order. The draw depends on `seed`, b and c alone (splitmix64).
    """
    width = out_BC.shape[1]
    marked = width >= _MARKED
    has_N = np.zeros(num_items if marked else 0, np.bool_)
    for b in range(len(users_B)):
        low, high = offsets[users_B[b]], offsets[users_B[b] + 1]
        if marked:
            for t in range(low, high):
                has_N[sorted_T[t]] = True
        for c in range(width):
            state = np.uint64(seed) * _MIX1 + np.uint64(b * width + c) * _MIX2
            for _ in range(_TRIES):
                state += _GOLDEN
                z = (state ^ (state >> np.uint64(30))) * _MIX1
                z = (z ^ (z >> np.uint64(27))) * _MIX2
                z = z ^ (z >> np.uint64(31))
                item = np.int32(((z >> np.uint64(32)) * np.uint64(num_items)) >> np.uint64(32))
                out_BC[b, c] = item
                if marked:
                    if has_N[item]:
                        continue
                    break
                left, right = low, high
                while left < right:
                    middle = (left + right) >> 1
                    if sorted_T[middle] < item:
                        left = middle + 1
                    else:
                        right = middle
                if left == high or sorted_T[left] != item:
                    break
        if marked:
            for t in range(low, high):
                has_N[sorted_T[t]] = False


@jit_fast
def hardest_others(users_UD: F32, items_ND: F32, users_B: I32, others_BC: I32, out_B: I32) -> None:
    """out[b] = the item of others[b] that scores highest for user b, the first of equal ones."""
    dim, width = users_UD.shape[1], others_BC.shape[1]
    for b in range(len(users_B)):
        u = users_B[b]
        best = np.float32(-np.inf)
        out_B[b] = others_BC[b, 0]  # where no score is a number
        for c in range(width):
            i = others_BC[b, c]
            score = np.float32(0.0)
            for d in range(dim):
                score += users_UD[u, d] * items_ND[i, d]
            if score > best:
                best = score
                out_B[b] = i


def hardest_others_reference(users_UD: F32, items_ND: F32, users_B: I32, others_BC: I32, out_B: I32) -> None:
    scores_BC = np.einsum("bd,bcd->bc", users_UD[users_B].astype(np.float64), items_ND[others_BC])
    out_B[:] = np.take_along_axis(others_BC, scores_BC.argmax(axis=1)[:, None], axis=1)[:, 0]


@jit_fast
def bpr_pairs(vectors_VD: F32, users_B: I64, items_B: I64, others_B: I64, decay: float, grad_VD: F32) -> float:
    """Sum of -log sigmoid(u.i - u.j); adds its gradients, and decay x u, i and j to them. Rows are places in V."""
    dim = vectors_VD.shape[1]
    small_weight = np.float32(decay)
    total = 0.0
    for b in range(len(users_B)):
        u, i, j = users_B[b], items_B[b], others_B[b]
        margin = np.float32(0.0)
        for d in range(dim):
            margin += vectors_VD[u, d] * (vectors_VD[i, d] - vectors_VD[j, d])
        small = exp_inline(-abs(margin))
        total += max(-margin, np.float32(0.0)) + log1p_inline(small)
        g = (small if margin > 0 else np.float32(1.0)) / (np.float32(1.0) + small)
        for d in range(dim):
            x, y, z = vectors_VD[u, d], vectors_VD[i, d], vectors_VD[j, d]
            grad_VD[u, d] += small_weight * x - g * (y - z)
            grad_VD[i, d] += small_weight * y - g * x
            grad_VD[j, d] += small_weight * z + g * x
    return total


def bpr_pairs_reference(
    vectors_VD: F32, users_B: I64, items_B: I64, others_B: I64, decay: float, grad_VD: F32
) -> float:
    u, i, j = (vectors_VD[rows].astype(np.float64) for rows in (users_B, items_B, others_B))
    margin_B = (u * (i - j)).sum(axis=1)
    g_B1 = np.exp(-np.logaddexp(0, margin_B))[:, None]
    for rows, grad in ((users_B, -g_B1 * (i - j)), (items_B, -g_B1 * u), (others_B, g_B1 * u)):
        np.add.at(grad_VD, rows, (grad + decay * vectors_VD[rows]).astype(np.float32))
    return float(np.logaddexp(0, -margin_B).sum())
