"""Alternating least squares for implicit feedback: one half step solves all users for fixed items, or the reverse.

For a row b with n observed columns, fixed vectors x and an unobserved weight (Hu, Koren & Volinsky 2008, eq. 4, in the
form of Rendle et al. 2022, "Revisiting the performance of iALS"):

    u_b = argmin  sum over observed (u.x - 1)^2  +  unobserved * sum over all (u.x)^2  +  weight_b |u|^2

The Gram matrix of the fixed vectors costs D^2 a row in every iterative solver, as a matrix-vector product. Here the
fixed vectors are turned once, by a matrix product, into the basis of its eigenvectors. There all but the n observed
columns of the normal matrix is a diagonal, which is also a good preconditioner: conjugate gradients take a few steps of
4 n D operations, and with enough of them the solution is exact.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.jit import jit_fast

__all__ = ["eigenbasis", "half_step", "half_step_reference", "in_eigenbasis", "solve_rows"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Real = TypeVar("Real", bound=np.floating[Any])

_PARTS = 32
"""Shares of the rows that threads take, even in observed pairs."""


def eigenbasis(table_ND: npt.NDArray[Real]) -> tuple[npt.NDArray[Real], npt.NDArray[Real]]:
    """(D, D) the eigenvectors of X^T X as columns, largest eigenvalue first, and the (D,) eigenvalues."""
    values_D, vectors_DD = np.linalg.eigh(table_ND.T @ table_ND)
    return np.ascontiguousarray(vectors_DD[:, ::-1]), np.maximum(values_D[::-1], 0)


def in_eigenbasis(table_ND: npt.NDArray[Real]) -> tuple[npt.NDArray[Real], npt.NDArray[Real]]:
    """The rows in the basis of `eigenbasis`, which leaves inner products as they are, and the (D,) eigenvalues."""
    basis_DD, values_D = eigenbasis(table_ND)
    return table_ND @ basis_DD, values_D


@jit_fast
def solve_rows(
    low: int, high: int, offsets: I64, columns_T: I32, table_ND: Any, spectrum_D: Any, weights_B: Any,
    tolerance: float, steps: int, out_BD: Any,
) -> None:  # fmt: skip
    """Rows low..high of `half_step` by preconditioned conjugate gradients (Hestenes & Stiefel 1952).

    Each row stops after `steps` steps, or when its residual, in the norm of the preconditioner, has fallen by
    `tolerance`. All arrays are of one type.
    """
    dim = table_ND.shape[1]
    diagonal_D = np.empty_like(spectrum_D)
    residual_D = np.empty_like(spectrum_D)
    direction_D = np.empty_like(spectrum_D)
    image_D = np.empty_like(spectrum_D)
    for b in range(low, high):
        first, last = offsets[b], offsets[b + 1]
        u_D = out_BD[b]
        for d in range(dim):
            u_D[d] = 0
            residual_D[d] = 0
            diagonal_D[d] = spectrum_D[d] + weights_B[b]
        for t in range(first, last):
            x_D = table_ND[columns_T[t]]
            for d in range(dim):
                residual_D[d] += x_D[d]
        error = diagonal_D[0] * 0
        for d in range(dim):
            direction_D[d] = residual_D[d] / diagonal_D[d]
            error += residual_D[d] * direction_D[d]
        enough = error * (tolerance * tolerance)
        step = 0
        while step < steps and error > enough:
            step += 1
            for d in range(dim):
                image_D[d] = diagonal_D[d] * direction_D[d]
            for t in range(first, last):
                x_D = table_ND[columns_T[t]]
                dot = diagonal_D[0] * 0
                for d in range(dim):
                    dot += x_D[d] * direction_D[d]
                for d in range(dim):
                    image_D[d] += dot * x_D[d]
            curvature = diagonal_D[0] * 0
            for d in range(dim):
                curvature += direction_D[d] * image_D[d]
            length = error / curvature
            before, error = error, diagonal_D[0] * 0
            for d in range(dim):
                u_D[d] += length * direction_D[d]
                residual_D[d] -= length * image_D[d]
                error += residual_D[d] * residual_D[d] / diagonal_D[d]
            for d in range(dim):
                direction_D[d] = residual_D[d] / diagonal_D[d] + error / before * direction_D[d]


def half_step(
    observed: Jagged, table_ND: npt.NDArray[Real], spectrum_D: npt.NDArray[Real], weights_B: npt.NDArray[Any],
    *, tolerance: float, steps: int, threads: int,
) -> npt.NDArray[Real]:  # fmt: skip
    """(B, D) the solution of each row of `observed`; zeros for a row without any.

    observed: B rows of distinct int32 rows of table_ND, which stands in its eigenbasis. spectrum_D: the unobserved
    weight times its eigenvalues. weights_B: regularisation, above 0. The result does not depend on `threads`.
    """
    kind = table_ND.dtype
    result_BD = np.empty((len(observed), table_ND.shape[1]), kind)
    edges = np.searchsorted(observed.offsets, np.linspace(0, observed.offsets[-1], _PARTS + 1))
    edges[0], edges[-1] = 0, len(observed)
    asked = (observed.offsets, observed.values, table_ND, spectrum_D.astype(kind), weights_B.astype(kind))

    def part(low: int, high: int) -> None:
        solve_rows(low, high, *asked, tolerance, steps, result_BD)

    if threads == 1:
        part(0, len(observed))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda ends: part(*ends), pairwise(edges.tolist())))
    return result_BD


def half_step_reference(
    observed: Jagged, table_ND: npt.NDArray[Any], unobserved: float, weights_B: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """The normal equations of each row as they are written, for a table in any basis."""
    wide_ND = table_ND.astype(np.float64)
    gram_DD = unobserved * wide_ND.T @ wide_ND
    result_BD = np.zeros((len(observed), wide_ND.shape[1]))
    for b, columns in enumerate(observed):
        some_nD = wide_ND[columns]
        normal_DD = gram_DD + some_nD.T @ some_nD + weights_B[b] * np.eye(wide_ND.shape[1])
        result_BD[b] = np.linalg.solve(normal_DD, some_nD.sum(axis=0))
    return result_BD
