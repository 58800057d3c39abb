"""A vector for a history from the vectors of its items: weighted sums and ridge regressions, row by row in float64."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.jit import jit_fast, jit_fast_inline

__all__ = [
    "fold_mean", "fold_mean_reference", "fold_ridge", "fold_ridge_reference", "fold_ridge_threaded", "solve_positive",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
_PARTS = 32
"""Shares of the rows that threads take, even in events."""


@jit_fast
def fold_mean(offsets: I64, items_T: I32, table_ND: F32, power: float, out_BD: F32) -> None:
    """out = n^-power * sum of the rows of the table for the n items of each history; zeros for an empty one."""
    dim = table_ND.shape[1]
    sum_D = np.empty(dim, np.float64)
    for b in range(len(out_BD)):
        low, high = offsets[b], offsets[b + 1]
        sum_D[:] = 0.0
        for t in range(low, high):
            row = items_T[t]
            for d in range(dim):
                sum_D[d] += table_ND[row, d]
        scale = float(max(high - low, 1)) ** -power
        for d in range(dim):
            out_BD[b, d] = np.float32(scale * sum_D[d])


def fold_mean_reference(offsets: I64, items_T: I32, table_ND: F32, power: float, out_BD: F32) -> None:
    for b, (low, high) in enumerate(itertools.pairwise(offsets)):
        rows_nD = table_ND[items_T[low:high]].astype(np.float64)
        out_BD[b] = rows_nD.sum(axis=0) * max(high - low, 1) ** -power


@jit_fast
def solve_positive(matrix_nn: F64, right_n: F64) -> None:
    """right = matrix^-1 right by Cholesky; a positive definite matrix by its lower triangle, both overwritten."""
    n = len(right_n)
    for i in range(n):
        for j in range(i):
            rest = matrix_nn[i, j]
            for m in range(j):
                rest -= matrix_nn[i, m] * matrix_nn[j, m]
            matrix_nn[i, j] = rest / matrix_nn[j, j]
        rest = matrix_nn[i, i]
        for m in range(i):
            rest -= matrix_nn[i, m] * matrix_nn[i, m]
        matrix_nn[i, i] = np.sqrt(rest)
    for i in range(n):
        rest = right_n[i]
        for m in range(i):
            rest -= matrix_nn[i, m] * right_n[m]
        right_n[i] = rest / matrix_nn[i, i]
    for i in range(n - 1, -1, -1):
        right_n[i] /= matrix_nn[i, i]
        for m in range(i):
            right_n[m] -= matrix_nn[i, m] * right_n[i]


@jit_fast_inline
def _by_items(rows_nD: F64, diagonal_D: F64, targets_n: F64, out_D: F32) -> None:
    """The dual form: (diag + X^T X)^-1 X^T y = diag^-1 X^T (I + X diag^-1 X^T)^-1 y, in n^2 D."""
    n, dim = rows_nD.shape
    for i in range(n):
        for d in range(dim):
            rows_nD[i, d] /= np.sqrt(diagonal_D[d])
    kernel_nn = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            dot = 0.0
            for d in range(dim):
                dot += rows_nD[i, d] * rows_nD[j, d]
            kernel_nn[i, j] = dot
        kernel_nn[i, i] += 1.0
    solve_positive(kernel_nn, targets_n)
    sum_D = np.zeros(dim)
    for i in range(n):
        for d in range(dim):
            sum_D[d] += targets_n[i] * rows_nD[i, d]
    for d in range(dim):
        out_D[d] = np.float32(sum_D[d] / np.sqrt(diagonal_D[d]))


@jit_fast_inline
def _by_dimensions(rows_nD: F64, diagonal_D: F64, targets_n: F64, out_D: F32) -> None:
    """The normal equations, in n D^2: for histories longer than D."""
    n, dim = rows_nD.shape
    normal_DD = np.zeros((dim, dim))
    right_D = np.zeros(dim)
    for i in range(n):
        for d in range(dim):
            value = rows_nD[i, d]
            right_D[d] += targets_n[i] * value
            for e in range(d + 1):
                normal_DD[d, e] += value * rows_nD[i, e]
    for d in range(dim):
        normal_DD[d, d] += diagonal_D[d]
    solve_positive(normal_DD, right_D)
    for d in range(dim):
        out_D[d] = np.float32(right_D[d])


@jit_fast
def fold_ridge(
    offsets: I64, items_T: I32, targets_T: F64, table_ND: F32, spectrum_D: F64, regularisation_B: F64, out_BD: F32
) -> None:
    """out = argmin_u sum over the history of (u.x_t - target_t)^2 + sum_d (spectrum_d + regularisation_b) u_d^2."""
    dim = table_ND.shape[1]
    diagonal_D = np.empty(dim)
    for b in range(len(out_BD)):
        low, high = offsets[b], offsets[b + 1]
        rows_nD = np.empty((high - low, dim))
        for t in range(low, high):
            for d in range(dim):
                rows_nD[t - low, d] = table_ND[items_T[t], d]
        for d in range(dim):
            diagonal_D[d] = spectrum_D[d] + regularisation_B[b]
        targets_n = targets_T[low:high].copy()
        if high - low <= dim:
            _by_items(rows_nD, diagonal_D, targets_n, out_BD[b])
        else:
            _by_dimensions(rows_nD, diagonal_D, targets_n, out_BD[b])


def fold_ridge_threaded(
    observed: Jagged, targets_T: F64, table_ND: F32, spectrum_D: F64, regularisation_B: F64, threads: int
) -> F32:
    """(B, D) `fold_ridge` of the rows of `observed`, by several threads; the result does not depend on them."""
    result_BD = np.empty((len(observed), table_ND.shape[1]), np.float32)
    edges = np.searchsorted(observed.offsets, np.linspace(0, observed.offsets[-1], _PARTS + 1))
    edges[0], edges[-1] = 0, len(observed)

    def part(ends: tuple[int, int]) -> None:
        rows = slice(*ends)
        fold_ridge(
            observed.offsets[ends[0] : ends[1] + 1], observed.values, targets_T, table_ND, spectrum_D,
            regularisation_B[rows], result_BD[rows],
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, itertools.pairwise(edges.tolist())))
    return result_BD


def fold_ridge_reference(
    offsets: I64, items_T: I32, targets_T: F64, table_ND: F32, spectrum_D: F64, regularisation_B: F64, out_BD: F32
) -> None:
    for b, (low, high) in enumerate(itertools.pairwise(offsets)):
        rows_nD = table_ND[items_T[low:high]].astype(np.float64)
        normal_DD = rows_nD.T @ rows_nD + np.diag(spectrum_D + regularisation_B[b])
        out_BD[b] = np.linalg.solve(normal_DD, rows_nD.T @ targets_T[low:high])
