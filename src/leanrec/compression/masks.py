"""Which weights stay: by themselves, two of every four, or in blocks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "KINDS", "Pattern", "mask_of"]

Pattern = Literal["free", "2:4", "block"]
KINDS: dict[Pattern, str] = {"free": "sparse-csr", "2:4": "sparse-2:4", "block": "sparse-block"}
"""How weights of each pattern are kept."""
BLOCK = 8
F64 = npt.NDArray[np.float64]


def mask_of(worth_OD: F64, pattern: Pattern, sparsity: float) -> npt.NDArray[np.bool_]:
    """(O, D) what stays when this share of the weights, those worth least, goes; ties go by place.

    For `2:4` only the two worth least of every four can go, at most half of all. For `block` whole blocks of 8 by 8 go.
    """
    outputs, dim = worth_OD.shape
    if pattern == "free":
        return _keep(worth_OD.ravel(), np.ones(worth_OD.size, np.bool_), sparsity).reshape(outputs, dim)
    if pattern == "2:4":
        quads = np.pad(worth_OD, ((0, 0), (0, -dim % 4))).reshape(outputs, -1, 4)
        rank = np.argsort(np.argsort(-quads, axis=2, kind="stable"), axis=2)
        # the last quad may be cut off: what is beyond the matrix is worth nothing and goes first
        free = (rank >= 2).reshape(outputs, -1)
        kept = _keep(quads.reshape(outputs, -1).ravel(), free.ravel(), min(sparsity, 0.5))
        return np.ascontiguousarray(kept.reshape(outputs, -1)[:, :dim])
    grid = np.pad(worth_OD, ((0, -outputs % BLOCK), (0, -dim % BLOCK)))
    rows, columns = grid.shape[0] // BLOCK, grid.shape[1] // BLOCK
    blocks = grid.reshape(rows, BLOCK, columns, BLOCK).sum(axis=(1, 3))
    kept = _keep(blocks.ravel(), np.ones(blocks.size, np.bool_), sparsity).reshape(rows, columns)
    return np.ascontiguousarray(np.kron(kept, np.ones((BLOCK, BLOCK), np.bool_))[:outputs, :dim])


def _keep(worth: F64, free: npt.NDArray[np.bool_], sparsity: float) -> npt.NDArray[np.bool_]:
    """All but the share `sparsity` of everything that is worth least, as far as it is free to go."""
    going = min(round(sparsity * len(worth)), int(free.sum()))
    order = np.argsort(np.where(free, worth, np.inf), kind="stable")
    kept = np.ones(len(worth), np.bool_)
    kept[order[:going]] = False
    return kept
