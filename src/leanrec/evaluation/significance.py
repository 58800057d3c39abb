"""How surprising a paired difference would be if there were none, and what remains after looking many times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["benjamini_hochberg", "holm", "p_value"]

_FEW = 200
_FLIPS = 10_000


def p_value(differences_B: npt.NDArray[np.float64], *, seed: int = 0) -> float:
    """Two-sided p of a zero mean difference of (B,) paired values.

    Up to 200 users by flipping signs at random (Fisher's randomisation test, 10,000 draws), beyond by the normal law,
    which then agrees with it (Smucker, Allan & Carterette 2007). 1 where nothing differs or one user says it all.
    """
    users = len(differences_B)
    total = abs(float(differences_B.sum()))
    spread = float(np.sqrt((differences_B**2).sum()))
    if users < 2 or spread == 0:
        return 1.0
    if users > _FEW:
        deviation = float(differences_B.std(ddof=1))
        z = math.inf if deviation == 0 else abs(float(differences_B.mean())) * math.sqrt(users) / deviation
        return math.erfc(z / math.sqrt(2))
    signs_RB = np.random.default_rng(seed).integers(0, 2, (_FLIPS, users), dtype=np.int8) * 2 - 1
    as_far = int(np.count_nonzero(np.abs(signs_RB @ differences_B) >= total * (1 - 1e-12)))
    return (1 + as_far) / (1 + _FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: rejecting those at most .05 makes any false claim with chance at most .05 (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: of those at most .05 a share of at most .05 is expected to be false (1995)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    adjusted, lowest = [1.0] * len(p_values), 1.0
    for rank, place in enumerate(order):
        lowest = min(lowest, len(order) / (len(order) - rank) * p_values[place])
        adjusted[place] = lowest
    return adjusted
