"""Ridge regression of every item on others: Gram matrices of sets, their inverse in place, small systems side by side.

Arrays `x_offsets, x_values` are the two halves of a Jagged; `rows` of a set matrix hold the places of its ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["dual_diagonal", "dual_rows", "gram_rows", "invert_positive", "local_grams", "weights_reference"]

_BLOCK, _STRIP = 512, 1024


def invert_positive(matrix_NN: npt.NDArray[Any], advance: Callable[[int], object] = int) -> None:
    """Invert a symmetric positive definite matrix in place: N^3 operations, scratch of 2 x 1,024 x N numbers at most.

    Blocks are swept one after the other (Gauss-Jordan with the symmetry used, as in Goodnight 1979); only the lower
    half is read. advance: told after each block how many rows it had.
    """
    size, kind = len(matrix_NN), matrix_NN.dtype
    buffer = np.empty((min(_STRIP, size), size), kind)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        pivot = matrix_NN[start:stop, start:stop]
        column_Nb = np.concatenate([matrix_NN[start:stop, :start].T, pivot, matrix_NN[stop:, start:stop]])
        lower = np.tril(pivot).astype(np.float64)
        inverse = np.linalg.inv(lower + np.tril(lower, -1).T).astype(kind)
        column_Nb[start:stop] = 0
        swept_Nb = column_Nb @ inverse
        for low in range(0, size, _STRIP):
            high = min(low + _STRIP, size)
            product = np.matmul(swept_Nb[low:high], column_Nb[:high].T, out=buffer[: high - low, :high])
            matrix_NN[low:high, :high] -= product
        matrix_NN[start:stop, :start] = swept_Nb[:start].T
        matrix_NN[stop:, start:stop] = swept_Nb[stop:]
        matrix_NN[start:stop, start:stop] = -inverse
        advance(stop - start)
    for low in range(0, size, _STRIP):
        high = min(low + _STRIP, size)
        matrix_NN[low:high, :high] *= -1
        matrix_NN[:low, low:high] = matrix_NN[low:high, :low].T
        square = np.tril(matrix_NN[low:high, low:high])
        matrix_NN[low:high, low:high] = square + np.tril(square, -1).T


@jit
def gram_rows(
    start: Any, stop: Any, by_row_offsets: Any, by_row_values: Any, by_place_offsets: Any, by_place_values: Any,
    out: Any,
) -> None:  # fmt: skip
    """Fill rows start..stop of a zero matrix with how many rows of a set matrix hold both places.

    by_row_*: the places in each row; by_place_*: the transpose.
    """
    for place in range(start, stop):
        for at in range(by_place_offsets[place], by_place_offsets[place + 1]):
            row = by_place_values[at]
            for other in range(by_row_offsets[row], by_row_offsets[row + 1]):
                out[place, by_row_values[other]] += 1


@jit
def dual_diagonal(offsets: Any, users: Any, kernel_UU: Any, diagonal_N: Any) -> None:
    """Fill diagonal_N with x' K x for each item's set x of users."""
    for item in range(len(offsets) - 1):
        mine = users[offsets[item] : offsets[item + 1]]
        total = 0.0
        for user in mine:
            for other in mine:
                total += kernel_UU[user, other]
        diagonal_N[item] = total


@jit
def dual_rows(start: Any, stop: Any, offsets: Any, users: Any, kernel_UU: Any, out_nN: Any) -> None:
    """Fill out_nN with x_i' K x_j for the items i from start to stop and every item j; x: an item's set of users."""
    sums_U = np.empty(len(kernel_UU), kernel_UU.dtype)
    for item in range(start, stop):
        sums_U[:] = 0
        for at in range(offsets[item], offsets[item + 1]):
            row = kernel_UU[users[at]]
            for user in range(len(sums_U)):
                sums_U[user] += row[user]
        for other in range(len(offsets) - 1):
            total = np.float64(0)
            for at in range(offsets[other], offsets[other + 1]):
                total += sums_U[users[at]]
            out_nN[item - start, other] = total


@jit
def local_grams(
    items_n: Any, near_offsets: Any, near_items: Any, item_offsets: Any, item_users: Any, num_users: Any, ridge: Any,
    gram_nMM: Any, target_nM: Any,
) -> None:  # fmt: skip
    """For each item, the Gram matrix of its near items plus `ridge` on the diagonal, and their row for the item itself.

    near_*: at most M other items of every item. gram_nMM and target_nM come as zeros; where there are fewer than M near
    items, the rest is the identity and zero. Cost: pairs of near items that users share; nothing of size N x N.
    """
    first_U = np.full(num_users, -1, np.int64)
    for n, item in enumerate(items_n):
        near = near_items[near_offsets[item] : near_offsets[item + 1]]
        total = 0
        for one in near:
            total += item_offsets[one + 1] - item_offsets[one]
        following, places = np.empty(total, np.int64), np.empty(total, np.int64)
        at = 0
        for place, one in enumerate(near):
            for user in item_users[item_offsets[one] : item_offsets[one + 1]]:
                following[at], places[at] = first_U[user], place
                first_U[user] = at
                link = following[at]
                while link >= 0:
                    gram_nMM[n, place, places[link]] += 1
                    gram_nMM[n, places[link], place] += 1
                    link = following[link]
                at += 1
            gram_nMM[n, place, place] = item_offsets[one + 1] - item_offsets[one] + ridge
        for user in item_users[item_offsets[item] : item_offsets[item + 1]]:
            link = first_U[user]
            while link >= 0:
                target_nM[n, places[link]] += 1
                link = following[link]
        for one in near:
            for user in item_users[item_offsets[one] : item_offsets[one + 1]]:
                first_U[user] = -1
        for place in range(len(near), gram_nMM.shape[1]):
            gram_nMM[n, place, place] = 1


def weights_reference(had_UN: npt.NDArray[Any], ridge: float) -> npt.NDArray[np.float64]:
    """(N, N) weights of the linear model that predicts each item from all others: EASE by its closed form.

    Steck 2019 (arXiv:1905.03375), equation 8: column j is -P[:, j] / P[j, j] of P = (X'X + ridge I)^-1, 0 at j.
    """
    had_UN = had_UN.astype(np.float64)
    inverse_NN = np.linalg.inv(had_UN.T @ had_UN + ridge * np.eye(had_UN.shape[1]))
    weights_NN: npt.NDArray[np.float64] = -inverse_NN / np.diag(inverse_NN)
    np.fill_diagonal(weights_NN, 0)
    return weights_NN
