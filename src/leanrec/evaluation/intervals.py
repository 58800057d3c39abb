"""How sure a mean over users is: bootstrap intervals (BCa) from one fixed set of draws, the normal one for many users.

BCa is the bias-corrected and accelerated bootstrap of Efron 1987: intervals that respect the range of the metric and
its skew, which matters for metrics that are zero for most users. Beyond `MOST_RESAMPLED` users both agree to more
digits than anyone reads, and the normal interval costs nothing.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["DRAWS", "MOST_RESAMPLED", "Resampled", "method_for"]

DRAWS = 2000
MOST_RESAMPLED = 50_000
_TOGETHER = 40
_NORMAL = NormalDist()

Values = npt.NDArray[np.float64]


def method_for(users: int) -> str:
    """The kind of interval that is given for a mean over that many users."""
    return f"bootstrap over users (BCa, {DRAWS} draws)" if users <= MOST_RESAMPLED else "normal over users"


class Resampled:
    """Means of several values per user, with the draws to judge any of them or a contrast of two.

    values_BM: (B, M) M values of each of B users. The same users are drawn for all M, so that contrasts are paired.
    """

    def __init__(self, values_BM: Values, *, seed: int = 0, level: float = 0.95) -> None:
        self.values_BM = np.ascontiguousarray(values_BM, dtype=np.float64)
        self.means_M = self.values_BM.mean(axis=0)
        self.level = level
        self._draws_RM = _draw(self.values_BM, seed) if 1 < len(values_BM) <= MOST_RESAMPLED else None

    def mean(self, column: int) -> tuple[float, float]:
        """The interval of one mean; infinite when there is one user, who says nothing about spread."""
        draws_R = None if self._draws_RM is None else self._draws_RM[:, column]
        return self._interval(float(self.means_M[column]), self.values_BM[:, column], draws_R)

    def difference(self, new: int, old: int) -> tuple[float, float]:
        """The interval of mean(new) - mean(old) on the same users."""
        draws_R = None if self._draws_RM is None else self._draws_RM[:, new] - self._draws_RM[:, old]
        influence_B = self.values_BM[:, new] - self.values_BM[:, old]
        return self._interval(float(self.means_M[new] - self.means_M[old]), influence_B, draws_R)

    def ratio(self, new: int, old: int) -> tuple[float, float] | None:
        """The interval of mean(new) / mean(old); None when the old mean is, or may well be, zero."""
        base = float(self.means_M[old])
        if len(self.values_BM) < 2 or base <= 0 or (self._draws_RM is not None and self._draws_RM[:, old].min() <= 0):
            return None
        point = float(self.means_M[new]) / base
        draws_R = None if self._draws_RM is None else self._draws_RM[:, new] / self._draws_RM[:, old]
        influence_B = (self.values_BM[:, new] - point * self.values_BM[:, old]) / base
        return self._interval(point, influence_B, draws_R)

    def _interval(self, point: float, influence_B: Values, draws_R: Values | None) -> tuple[float, float]:
        users = len(influence_B)
        if users < 2:
            return (-math.inf, math.inf)
        if draws_R is not None:
            return _bca(point, influence_B, draws_R, self.level)
        reach = _NORMAL.inv_cdf(0.5 + self.level / 2) * float(influence_B.std(ddof=1)) / math.sqrt(users)
        return (point - reach, point + reach)


def _draw(values_BM: Values, seed: int) -> Values:
    """(R, M) means over users drawn with replacement."""
    rng = np.random.default_rng(seed)
    users = len(values_BM)
    means_RM = np.empty((DRAWS, values_BM.shape[1]))
    for start in range(0, DRAWS, _TOGETHER):
        drawn = [np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(_TOGETHER)]
        means_RM[start : start + _TOGETHER] = np.stack(drawn).astype(np.float64) @ values_BM
    return means_RM / users


def _bca(point: float, influence_B: Values, draws_R: Values, level: float) -> tuple[float, float]:
    """BCa interval; the acceleration is the skewness of the influence values over 6 sqrt(users)."""
    centred_B = influence_B - influence_B.mean()
    spread = float((centred_B**2).sum())
    if spread == 0:
        return (point, point)
    acceleration = float((centred_B**3).sum()) / (6 * spread**1.5)
    count = len(draws_R)
    below = (np.count_nonzero(draws_R < point) + np.count_nonzero(draws_R == point) / 2) / count
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / count), 1 - 0.5 / count))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(draws_R, ends)
    return (float(low), float(high))
