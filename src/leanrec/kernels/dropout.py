"""Dropout whose mask is a hash of position and seed: nothing to store, nothing to draw, the same on every run.

torch draws its masks one number at a time, over a quarter of a small transformer's step on a CPU (docs/log.md). What
stands before or after the dropout in a network is done in the same pass over memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_inline

__all__ = [
    "add_dropped", "add_dropped_reference", "drop", "drop_reference", "hashed", "relu_drop", "relu_drop_grad",
    "relu_drop_reference",
]  # fmt: skip

F32 = npt.NDArray[np.float32]


@jit_inline
def hashed(i: int, seed: int) -> int:
    """lowbias32 (Wellons 2018) of position and seed."""
    h = np.uint32(np.uint32(i) * np.uint32(0x9E3779B9) + np.uint32(seed))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))  # type: ignore[return-value]


@jit
def drop(x_E: F32, share: float, seed: int, out_E: F32, low: int, high: int) -> None:
    """out = x / (1 - share) where the hash of (position, seed) keeps it, else 0, from `low` to `high`."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        out_E[i] = x_E[i] * scale if hashed(i, seed) >= limit else np.float32(0.0)


@jit
def relu_drop(x_E: F32, share: float, seed: int, out_E: F32, low: int, high: int) -> None:
    """out = drop(max(x, 0))."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        out_E[i] = max(x_E[i], np.float32(0.0)) * scale if hashed(i, seed) >= limit else np.float32(0.0)


@jit
def add_dropped(x_E: F32, update_E: F32, share: float, seed: int, out_E: F32, low: int, high: int) -> None:
    """out = x + drop(update)."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        out_E[i] = x_E[i] + (update_E[i] * scale if hashed(i, seed) >= limit else np.float32(0.0))


@jit
def relu_drop_grad(grad_E: F32, out_E: F32, share: float, result_E: F32, low: int, high: int) -> None:
    """The gradient of relu_drop's input: what came through is positive, so its output is the mask."""
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        result_E[i] = grad_E[i] * scale if out_E[i] > np.float32(0.0) else np.float32(0.0)


def drop_reference(x_E: F32, share: float, seed: int, out_E: F32) -> None:
    h: npt.NDArray[np.uint32] = np.arange(x_E.size, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    out_E[:] = np.where(h >= np.uint32(share * 4294967296.0), x_E * np.float32(1.0 / (1.0 - share)), 0)


def relu_drop_reference(x_E: F32, share: float, seed: int, out_E: F32) -> None:
    drop_reference(np.maximum(x_E, np.float32(0)), share, seed, out_E)


def add_dropped_reference(x_E: F32, update_E: F32, share: float, seed: int, out_E: F32) -> None:
    drop_reference(update_E, share, seed, out_E)
    out_E += x_E
