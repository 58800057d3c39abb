"""Centroids of a table by k-means (Lloyd), in float32 products of tiles that stay in the second cache."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from leanrec.kernels.blas import blas_threads
from leanrec.kernels.threads import spread

__all__ = ["assign", "centroids_of"]

_SAMPLE = 64  # rows a centroid that k-means looks at
_TILE = 512  # rows, and centroids, of a product


def assign(items_ND: npt.NDArray[np.float32], centroids_LD: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """(N,) the centroid nearest to each row, by Euclidean distance."""
    halves_L = np.square(centroids_LD).sum(axis=1) / 2
    nearest_N = np.zeros(len(items_ND), np.int32)

    def nearest_of(low: int, high: int) -> None:
        for start in range(low * _TILE, min(high * _TILE, len(items_ND)), _TILE):
            rows_nD = items_ND[start : start + _TILE]
            best_n = np.full(len(rows_nD), -np.inf, np.float32)
            nearest_n = nearest_N[start : start + len(rows_nD)]
            for first in range(0, len(centroids_LD), _TILE):
                scores_nl = rows_nD @ centroids_LD[first : first + _TILE].T
                scores_nl -= halves_L[first : first + _TILE]
                winner_n = scores_nl.argmax(axis=1)
                score_n = scores_nl[np.arange(len(rows_nD)), winner_n]
                better_n = score_n > best_n
                nearest_n[better_n] = winner_n[better_n] + first
                best_n[better_n] = score_n[better_n]

    with blas_threads(1):  # each thread has its own products
        spread(nearest_of, -(-len(items_ND) // _TILE), numba.get_num_threads(), 1)
    return nearest_N


def centroids_of(items_ND: npt.NDArray[np.float32], lists: int, iterations: int, seed: int) -> npt.NDArray[np.float32]:
    """(L, D) centroids of a sample of the rows; an empty list takes over a random row."""
    rng = np.random.default_rng(seed)
    size = len(items_ND)
    if size == 0:
        return np.zeros((lists, items_ND.shape[1]), np.float32)
    sample_nD = items_ND[np.sort(rng.permutation(size)[: _SAMPLE * lists])]
    centroids_LD: npt.NDArray[np.float32] = sample_nD[rng.permutation(len(sample_nD))[:lists]]
    for _ in range(iterations):
        list_n = assign(sample_nD, centroids_LD)
        counts_L = np.bincount(list_n, minlength=lists)
        order = np.argsort(list_n, kind="stable")
        full = np.flatnonzero(counts_L)
        starts = (counts_L.cumsum() - counts_L)[full]
        centroids_LD = sample_nD[rng.integers(0, len(sample_nD), lists)]
        centroids_LD[full] = np.add.reduceat(sample_nD[order], starts, axis=0) / counts_L[full, None]
    return centroids_LD
