"""Certificates of quality: "loses at most x of the mean, with 95 % confidence, on users nobody tuned on".

The bound is the upper end of a time-uniform confidence sequence built by betting (Waudby-Smith & Ramdas 2024, Howard et
al. 2021): it assumes nothing but that users are exchangeable and values lie in [0, 1].

With before_i and after_i the values of user i and r = 1 / (1 - x), a loss of x or more means
E[r * after - before] <= 0. A gambler who believes the loss is smaller starts with wealth 1, stakes the share c_i in
[0, 0.9] on user i and ends the round with (1 + c_i (r * after_i - before_i)) times the wealth. If the loss were x or
more, the wealth would reach 1 / alpha with probability at most alpha, however long one plays (Ville's inequality), so
once it does, "the loss is below x" is certified.

The stakes look only at users already seen and never at x: c_i = sqrt(2 log(1 / alpha) / (n v_i)), with v_i the running
mean of (after - before)^2, the best stake for the loss that n users can just decide. So the wealth grows with x, the
certified losses form an interval, and its lower end is found by bisection. Users are taken in a fixed pseudo-random
order. Only additions, products, divisions and square roots of float64 in a fixed order are used: the bound is the
same to the last bit wherever it is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = ["Certificate", "certify_loss"]

METHOD = "betting confidence sequence v1"
_LARGEST_STAKE = 0.9
_FIRST_VARIANCE = 0.25
_HALVINGS = 50
_LOWEST = -1.0
"""A gain of more than 100 % is certified as one of 100 %."""

Values = npt.NDArray[np.float64]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """How much one model loses against another on a metric, relative to the first one's mean.

    loss: measured, 1 - after / before, negative for a gain. upper, lower: each is wrong with probability at most
    alpha: the loss is at most `upper`, and at least `lower`. before, after: means over `users`.
    second_moments: means of before^2, before * after and after^2.
    """

    metric: str
    users: int
    before: float
    after: float
    loss: float
    upper: float
    lower: float
    alpha: float
    seed: int
    method: str
    second_moments: tuple[float, float, float]

    def holds(self, x: float) -> bool:
        """Whether a loss of at most x is certified."""
        return self.upper <= x

    def broken(self, x: float) -> bool:
        """Whether a loss of more than x is certified."""
        return self.lower > x

    def users_needed(self, x: float) -> int | None:
        """About how many such users would certify a loss of at most x; None when the measured loss is not below x.

        Extrapolated from how fast the gambler's wealth grows on the users at hand.
        """
        rate, known = self._growth(x), self._growth(self.upper)
        if rate <= 0:
            return None
        needed = self.users * known / rate if known > 0 else math.log(1 / self.alpha) / rate
        unit = 10 ** max(int(math.log10(max(needed, 1))) - 1, 0)
        return int(math.ceil(needed / unit) * unit)

    def _growth(self, x: float) -> float:
        """Mean log wealth a user brings under the best constant stake, to second order."""
        if x >= 1:
            return math.inf
        r = 1 / (1 - x)
        mean = r * self.after - self.before
        bb, ba, aa = self.second_moments
        square = bb - 2 * r * ba + r * r * aa
        if mean <= 0:
            return 0.0
        stake = min(_LARGEST_STAKE, mean / square)
        return stake * mean - stake**2 * square / 2

    def verdict(self, x: float) -> str:
        """One sentence: certified, broken, or inconclusive with the number of users that would decide."""
        sure = f"{100 * (1 - self.alpha):g} % confidence"
        seen = f"measured {_percent(self.loss)} on {self.users:,} users"
        if self.holds(x):
            return f"certified: {self.metric} loses at most {_percent(self.upper)} with {sure} ({seen})"
        if self.broken(x):
            return f"broken: {self.metric} loses at least {_percent(self.lower)} with {sure} ({seen})"
        needed = self.users_needed(x)
        more = f"about {needed:,} users would decide" if needed else f"the measured loss is not below {_percent(x)}"
        return (
            f"inconclusive: {self.metric} loses at most {_percent(self.upper)} with {sure}, "
            f"not {_percent(x)} ({seen}; {more})"
        )


def certify_loss(
    before: npt.NDArray[Any], after: npt.NDArray[Any], *, metric: str = "", alpha: float = 0.05, seed: int = 0
) -> Certificate:
    """Bound the relative loss of mean(after) against mean(before) from (B,) paired values in [0, 1].

    The users must not have been used to choose anything. Where all of `before` is zero there is nothing to lose from
    and nothing is certified (upper = 1). InputError for values outside [0, 1], arrays of other shapes, or no users.
    """
    before_B, after_B = _checked(before, "before"), _checked(after, "after")
    if before_B.shape != after_B.shape:
        raise InputError(f"a certificate compares the same users: {len(before_B)} before, {len(after_B)} after")
    if not 0 < alpha < 1:
        raise InputError(f"alpha is a probability of error between 0 and 1, not {alpha}")
    order = _order(len(before_B), seed)
    before_B, after_B = before_B[order], after_B[order]
    mean_before, mean_after = _mean(before_B), _mean(after_B)
    loss = 1 - mean_after / mean_before if mean_before > 0 else 0.0
    upper, lower = 1.0, _LOWEST
    if mean_before > 0:
        grows, falls = _gambler(before_B, after_B, alpha), _gambler(after_B, before_B, alpha)
        # A bound reached half-way may lie beyond the loss measured on all users; then the weaker statement is made.
        upper = max(_least(lambda x: grows(1 / (1 - x)), _LOWEST, 1.0), loss)
        lower = min(1 - _least(falls, 0.0, 1 - _LOWEST), loss)
    return Certificate(
        metric=metric,
        users=len(before_B),
        before=mean_before,
        after=mean_after,
        loss=loss,
        upper=upper,
        lower=lower,
        alpha=alpha,
        seed=seed,
        method=METHOD,
        second_moments=(_mean(before_B**2), _mean(before_B * after_B), _mean(after_B**2)),
    )


def _checked(values: npt.NDArray[Any], what: str) -> Values:
    result = np.asarray(values, dtype=np.float64)
    if result.ndim != 1 or not len(result):
        raise InputError(f"a certificate needs one {what} value for each of at least one user")
    if not bool(((result >= 0) & (result <= 1)).all()):
        raise InputError(f"a certificate needs values between 0 and 1; {what} has others: choose a per-user metric")
    return result


def _order(users: int, seed: int) -> npt.NDArray[np.int64]:
    """A permutation that depends on `users` and `seed` alone, on every machine: positions sorted by SplitMix64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, users + 1, dtype=np.uint64) + np.uint64(seed % 2**64) * np.uint64(users)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")


def _mean(values_B: Values) -> float:
    return float(np.cumsum(values_B)[-1]) / len(values_B)


def _gambler(base_B: Values, other_B: Values, alpha: float) -> Callable[[float], bool]:
    """Ratio -> whether betting on mean(ratio * other) > mean(base) ever brings 1 / alpha times the stake.

    The wealth never falls as the ratio grows, in exact arithmetic and in float64.
    """
    users = len(base_B)
    change_B = np.cumsum((other_B - base_B) ** 2)
    variance_B = (_FIRST_VARIANCE + np.concatenate([[0.0], change_B[:-1]])) / np.arange(1, users + 1)
    stake_B = np.minimum(_LARGEST_STAKE, np.sqrt(2 * math.log(1 / alpha) / (users * variance_B)))

    def wins(ratio: float) -> bool:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            wealth_B = np.cumprod(1 + stake_B * (ratio * other_B - base_B))
            return bool((wealth_B >= 1 / alpha).any())

    return wins


def _least(certified: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number in [low, high] that is certified, from above, to within 2^-49; `high` when none is."""
    if certified(low):
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if certified(middle) else (middle, high)
    return high


def _percent(x: float) -> str:
    return f"{100 * x:.2f} %"
