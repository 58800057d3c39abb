"""Dropout whose mask is a hash of position and seed: nothing to store, nothing to draw, the same on every run.

torch draws its masks one number at a time, over a quarter of a small transformer's step on a CPU (docs/log.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["drop", "drop_reference"]

F32 = npt.NDArray[np.float32]


@jit
def drop(x_E: F32, share: float, seed: int, out_E: F32) -> None:
    """out = x / (1 - share) where the hash of (position, seed) keeps it, else 0. Hash: lowbias32 (Wellons 2018)."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    start = np.uint32(seed)
    for i in range(x_E.size):
        h = np.uint32(np.uint32(i) * np.uint32(0x9E3779B9) + start)
        h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
        h = np.uint32(np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
        h = np.uint32(h ^ (h >> np.uint32(16)))
        out_E[i] = x_E[i] * scale if h >= limit else np.float32(0.0)


def drop_reference(x_E: F32, share: float, seed: int, out_E: F32) -> None:
    h: npt.NDArray[np.uint32] = np.arange(x_E.size, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    out_E[:] = np.where(h >= np.uint32(share * 4294967296.0), x_E * np.float32(1.0 / (1.0 - share)), 0)
