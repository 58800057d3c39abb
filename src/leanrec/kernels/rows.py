"""Loops over the rows of a table that a batch touches: distinct rows, gathering, and optimisers row by row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = [
    "adagrad_rows",
    "adagrad_rows_reference",
    "adam_rows",
    "adam_rows_reference",
    "add_rows",
    "add_rows_reference",
    "average_rows",
    "average_rows_reference",
    "distinct_rows",
    "distinct_rows_reference",
    "gather_rows",
    "kept_share",
    "sgd_rows",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


@jit
def distinct_rows(rows_S: I32, slots_N: I32) -> tuple[I32, npt.NDArray[np.int64]]:
    """The distinct values of `rows_S` in order of first appearance, and where each of `rows_S` is among them.

    slots_N: scratch of one int32 a table row, -1 throughout before and after: the cost is that of the batch alone.
    """
    distinct = np.empty(len(rows_S), np.int32)
    inverse = np.empty(len(rows_S), np.int64)
    count = 0
    for s in range(len(rows_S)):
        row = rows_S[s]
        slot = slots_N[row]
        if slot < 0:
            slot = np.int32(count)
            slots_N[row] = slot
            distinct[count] = row
            count += 1
        inverse[s] = slot
    for u in range(count):
        slots_N[distinct[u]] = -1
    return distinct[:count].copy(), inverse


def distinct_rows_reference(rows_S: I32, slots_N: I32) -> tuple[I32, npt.NDArray[np.int64]]:
    ordered, first, inverse = np.unique(rows_S, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return ordered[order], rank[inverse].astype(np.int64)


@jit
def gather_rows(table_ND: F32, rows_U: I32, out_UD: F32) -> None:
    """out[u] = table[rows[u]]."""
    for u in range(len(rows_U)):
        for d in range(table_ND.shape[1]):
            out_UD[u, d] = table_ND[rows_U[u], d]


@jit
def add_rows(piece_VE: F32, place_V: npt.NDArray[np.int64], out_MD: F32) -> None:
    """out_MD[place_V[v]] += the first D columns of piece_VE[v]."""
    for v in range(len(place_V)):
        row_E, out_D = piece_VE[v], out_MD[place_V[v]]
        for d in range(out_MD.shape[1]):
            out_D[d] += row_E[d]


def add_rows_reference(piece_VE: F32, place_V: npt.NDArray[np.int64], out_MD: F32) -> None:
    """`add_rows` in NumPy."""
    np.add.at(out_MD, place_V, piece_VE[: len(place_V), : out_MD.shape[1]])


@jit
def sgd_rows(table_MD: F32, at_U: I32, grad_UD: F32, lr: float) -> None:
    """table[at] -= lr * grad; places distinct."""
    rate = np.float32(lr)
    for u in range(len(at_U)):
        at = at_U[u]
        for d in range(table_MD.shape[1]):
            table_MD[at, d] -= rate * grad_UD[u, d]


@jit
def adagrad_rows(table_MD: F32, at_U: I32, sums_N: F32, rows_U: I32, grad_UD: F32, lr: float, eps: float) -> None:
    """Row-wise Adagrad: one accumulator a row, the mean square of its gradients; values stand at table[at]."""
    dim = table_MD.shape[1]
    for u in range(len(rows_U)):
        at, row = at_U[u], rows_U[u]
        square = np.float32(0.0)
        for d in range(dim):
            square += grad_UD[u, d] * grad_UD[u, d]
        sums_N[row] += square / np.float32(dim)
        rate = np.float32(lr) / (np.sqrt(sums_N[row]) + np.float32(eps))
        for d in range(dim):
            table_MD[at, d] -= rate * grad_UD[u, d]


def adagrad_rows_reference(table_ND: F32, sums_N: F32, rows_U: I32, grad_UD: F32, lr: float, eps: float) -> None:
    sums_N[rows_U] += np.mean(grad_UD**2, axis=1)
    table_ND[rows_U] -= lr / (np.sqrt(sums_N[rows_U]) + eps)[:, None] * grad_UD


@jit
def adam_rows(
    table_MD: F32, at_U: I32, mean_ND: F32, square_ND: F32, rows_U: I32, grad_UD: F32,
    lr: float, beta1: float, beta2: float, eps: float, step: int,
) -> None:  # fmt: skip
    """Adam on the touched rows only, bias corrected by the global step; values stand at table[at]."""
    b1, b2 = np.float32(beta1), np.float32(beta2)
    c1, c2 = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    rate = np.float32(lr * np.sqrt(1.0 - beta2**step) / (1.0 - beta1**step))
    small = np.float32(eps)
    for u in range(len(rows_U)):
        at, row = at_U[u], rows_U[u]
        for d in range(table_MD.shape[1]):
            g = grad_UD[u, d]
            m = b1 * mean_ND[row, d] + c1 * g
            v = b2 * square_ND[row, d] + c2 * g * g
            mean_ND[row, d] = m
            square_ND[row, d] = v
            table_MD[at, d] -= rate * m / (np.sqrt(v) + small)


def adam_rows_reference(
    table_ND: F32, mean_ND: F32, square_ND: F32, rows_U: I32, grad_UD: F32,
    lr: float, beta1: float, beta2: float, eps: float, step: int,
) -> None:  # fmt: skip
    mean_ND[rows_U] = beta1 * mean_ND[rows_U] + (1 - beta1) * grad_UD
    square_ND[rows_U] = beta2 * square_ND[rows_U] + (1 - beta2) * grad_UD**2
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    table_ND[rows_U] -= rate * mean_ND[rows_U] / (np.sqrt(square_ND[rows_U]) + eps)


@jit
def kept_share(decay: float, since: int, until: int) -> float:
    """What is left at step `until` of an average's weight at step `since`: the product of the steps' decays.

    Step t decays by (1 + t) / (10 + t) until that exceeds `decay`, so an average is never older than a ninth of the
    run; the product of those telescopes into nine factors.
    """
    turn = int((10.0 * decay - 1.0) / (1.0 - decay))
    early, late = min(until, turn), max(since, turn)
    kept = 1.0
    if since < early:
        for j in range(2, 11):
            kept *= (since + j) / (early + j)
    result: float = kept * decay ** float(max(until - late, 0))
    return result


@jit
def average_rows(
    average_ND: F32, seen_N: npt.NDArray[np.int64], table_ND: F32, rows_U: I32, decay: float, step: int
) -> None:
    """Moving averages of rows that have kept their value since step seen[row], brought to `step`; seen[row] = step."""
    for u in range(len(rows_U)):
        row = rows_U[u]
        kept = np.float32(kept_share(decay, seen_N[row], step))
        seen_N[row] = step
        for d in range(table_ND.shape[1]):
            average_ND[row, d] = table_ND[row, d] + kept * (average_ND[row, d] - table_ND[row, d])


def average_rows_reference(
    average_ND: F32, seen_N: npt.NDArray[np.int64], table_ND: F32, rows_U: I32, decay: float, step: int
) -> None:
    decays = [1.0, *(min(decay, (1 + t) / (10 + t)) for t in range(1, step + 1))]
    kept_U1 = np.asarray([np.prod(decays[seen + 1 :]) for seen in seen_N[rows_U]], np.float32)[:, None]
    average_ND[rows_U] = table_ND[rows_U] + kept_U1 * (average_ND[rows_U] - table_ND[rows_U])
    seen_N[rows_U] = step
