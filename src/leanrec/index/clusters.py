"""Centroids of a table by k-means (Lloyd), in float32 products of blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["assign", "centroids_of"]

_SAMPLE = 64  # rows a centroid that k-means looks at
_BLOCK = 1 << 14


def assign(items_ND: npt.NDArray[np.float32], centroids_LD: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """(N,) the centroid nearest to each row, by Euclidean distance."""
    halves_L = np.square(centroids_LD).sum(axis=1) / 2
    nearest_N = np.empty(len(items_ND), np.int32)
    for start in range(0, len(items_ND), _BLOCK):
        part = slice(start, start + _BLOCK)
        scores_nL = items_ND[part] @ centroids_LD.T
        scores_nL -= halves_L
        nearest_N[part] = scores_nL.argmax(axis=1)
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
