"""What another policy would have earned, from a log of what this one showed, with what chance, and what came of it.

T logged rounds: an action was drawn with a known chance (its propensity) and brought a reward, such as a click. With
w = target's chance of the logged action / its propensity, r the reward and q a model of rewards:

| name   | estimate of the mean reward under the target policy                         | source                      |
|--------|-----------------------------------------------------------------------------|-----------------------------|
| replay | mean r of the rounds where a deterministic target agrees with the log       | Li et al. 2011              |
| ips    | mean w r                                                                    | Horvitz & Thompson 1952     |
| snips  | sum w r / sum w                                                             | Swaminathan & Joachims 2015 |
| dm     | mean of q under the target: no better than the model                        | Dudík et al. 2014           |
| dr     | mean of (q under the target + w (r - q of the logged action))               | Dudík et al. 2014           |
| sndr   | the same with weights w / mean w                                            | Thomas & Brunskill 2016     |

An estimate rests on the rewards it could see, which are few: each says how many, and how many rounds its weights are
worth. Intervals are bootstrap intervals over rounds, or over groups of rounds such as users or days.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.evaluation.intervals import Resampled, method_for

__all__ = ["Estimate", "estimate", "under_target"]

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One estimator's value of a policy.

    rewarded: rounds with a reward above 0 that carry weight (for `dm`, which looks at none, 0). effective: the number
    of equally weighted rounds that would vary as much, (sum w)^2 / sum w^2. interval: 95 %; None where too little is
    known for one. value: None when no round agrees with the target.
    """

    estimator: str
    value: float | None
    interval: tuple[float, float] | None
    rounds: int
    rewarded: int
    effective: float
    method: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.estimator}: nothing in {self.rounds:,} rounds agrees with the policy"
        ends = "no interval" if self.interval is None else f"[{self.interval[0]:.6f}, {self.interval[1]:.6f}]"
        return (
            f"{self.estimator}: {self.value:.6f} {ends}, {self.rewarded:,} rewarded of {self.rounds:,} rounds, worth "
            f"{self.effective:,.0f} unweighted ones"
        )


def estimate(
    rewards_T: Numbers,
    propensities_T: Numbers,
    chosen_T: Numbers,
    *,
    predicted_T: Numbers | None = None,
    expected_T: Numbers | None = None,
    groups_T: Numbers | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every estimate that the arguments allow, by name.

    rewards_T: (T,) what came of each round. propensities_T: (T,) the chance with which the log drew its action.
    chosen_T: (T,) the chance with which the target policy would draw that action. predicted_T, expected_T: (T,) the
    modelled reward of the logged action, and of the target's draw (`under_target`); both or neither. groups_T: (T,)
    what is resampled together, by default each round alone. InputError when a chance is not one.
    """
    rewards, chosen = np.asarray(rewards_T, np.float64), np.asarray(chosen_T, np.float64)
    propensities = np.asarray(propensities_T, np.float64)
    _check(rewards, propensities, chosen)
    weights = chosen / propensities
    agrees = (chosen == 1).astype(np.float64)
    always = np.ones(len(rewards))
    # Each estimate is the sum of one column over the sum of another, and the bootstrap draws both together; sndr is
    # one column that has the value exactly and the spread to first order.
    parts = {"replay": (agrees * rewards, agrees), "ips": (weights * rewards, always),
             "snips": (weights * rewards, weights)}  # fmt: skip
    if (predicted_T is None) != (expected_T is None):
        raise InputError("a doubly robust estimate needs both predicted_T and expected_T: give both or neither")
    if predicted_T is not None and expected_T is not None:
        modelled, misses = np.asarray(expected_T, np.float64), weights * (rewards - np.asarray(predicted_T, np.float64))
        mean_weight = weights.mean()
        parts |= {"dm": (modelled, always), "dr": (modelled + misses, always)}
        if mean_weight > 0:
            # d(m / w) = (dm - (m / w) dw) / w
            ratio = misses.mean() / mean_weight
            parts["sndr"] = (modelled + ratio + (misses - ratio * weights) / mean_weight, always)
    used = {"replay": agrees, "dm": 0 * always}
    columns = np.stack([column for pair in parts.values() for column in pair], axis=1)
    if groups_T is not None:
        _, group_T = np.unique(groups_T, return_inverse=True)
        columns = np.stack([np.bincount(group_T, column) for column in columns.T], axis=1)
    resampled = Resampled(columns, seed=seed)
    unit = "rounds" if groups_T is None else "groups"
    return {
        name: _estimate(name, resampled, 2 * place, rewards, used.get(name, weights), unit)
        for place, name in enumerate(parts)
    }


def under_target(target_TN: Numbers, predicted_TN: Numbers, actions_T: Numbers) -> Mapping[str, Values]:
    """The per-round arguments of `estimate` from whole policies: chosen_T, predicted_T and expected_T.

    target_TN: (T, N) chances of each of N actions, rows sum to 1. predicted_TN: (T, N) modelled rewards. actions_T:
    (T,) the logged actions.
    """
    target, predicted = np.asarray(target_TN, np.float64), np.asarray(predicted_TN, np.float64)
    if target.shape != predicted.shape or not np.allclose(target.sum(axis=1), 1):
        raise InputError("a policy gives each round chances over the actions that sum to 1, one modelled reward each")
    rows = np.arange(len(target))
    return {
        "chosen_T": target[rows, actions_T],
        "predicted_T": predicted[rows, actions_T],
        "expected_T": (target * predicted).sum(axis=1),
    }


def _estimate(name: str, resampled: Resampled, column: int, rewards_T: Values, used_T: Values, unit: str) -> Estimate:
    """The ratio of a column to the one after it. used_T: (T,) the weight of each reward."""
    over, under = resampled.means_M[column], resampled.means_M[column + 1]
    squares = float((used_T**2).sum())
    rewarded = int(np.count_nonzero((rewards_T > 0) & (used_T > 0)))
    # Without a reward among them, rounds drawn again hold none either, and say nothing of how rare rewards are.
    silent = name != "dm" and not rewarded
    return Estimate(
        estimator=name,
        value=float(over / under) if under > 0 else None,
        interval=None if silent else resampled.ratio(column, column + 1),
        rounds=len(rewards_T),
        rewarded=rewarded,
        effective=float(used_T.sum()) ** 2 / squares if squares > 0 else 0.0,
        method=method_for(len(resampled.values_BM)).replace("users", unit),
    )


def _check(rewards_T: Values, propensities_T: Values, chosen_T: Values) -> None:
    if not len(rewards_T) or not rewards_T.shape == propensities_T.shape == chosen_T.shape:
        raise InputError(
            "rewards, propensities and the target's chances must be as many, and at least one: "
            f"{len(rewards_T)}, {len(propensities_T)}, {len(chosen_T)}"
        )
    if not (np.isfinite(rewards_T).all() and np.isfinite(chosen_T).all() and np.isfinite(propensities_T).all()):
        raise InputError("rewards, propensities and the target's chances must be finite: leave broken rounds out")
    if not ((propensities_T > 0) & (propensities_T <= 1)).all():
        raise InputError("a propensity is a chance in (0, 1]: what was shown had one above 0")
    if not ((chosen_T >= 0) & (chosen_T <= 1)).all():
        raise InputError("the target's chance of the logged action must lie in [0, 1]")
