"""Two models on the same users: the difference, how sure it is, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.evaluation.intervals import Resampled, method_for
from leanrec.evaluation.significance import benjamini_hochberg, holm, p_value

__all__ = ["Paired", "compare", "compare_columns", "corrected"]


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """`model` against `baseline` on one metric and the same users; differences are model - baseline.

    relative: difference / baseline, None when the baseline is or may well be zero. verdict: `better` or `worse` when
    the 95 % interval leaves out zero, else `undecided`. p: of no difference; p_holm, p_bh: after all models that were
    compared on this metric with this baseline (`significance`).
    """

    metric: str
    model: str
    baseline: str
    users: int
    difference: float
    interval: tuple[float, float]
    relative: float | None
    relative_interval: tuple[float, float] | None
    verdict: str
    method: str
    p: float = 1.0
    p_holm: float = 1.0
    p_bh: float = 1.0
    compared: int = 1

    def __str__(self) -> str:
        low, high = self.interval
        if self.difference == low == high == 0:
            return f"{self.metric}: {self.model} equals {self.baseline} for each of {self.users:,} users"
        share = ""
        if self.relative is not None and self.relative_interval is not None:
            ends = f"{100 * self.relative_interval[0]:+.1f} % to {100 * self.relative_interval[1]:+.1f} %"
            share = f", {100 * self.relative:+.1f} % ({ends})"
        said = {"better": "better than", "worse": "worse than", "undecided": "not told apart from"}[self.verdict]
        change = f"{self.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        looks = f", p {self.p:.2g}, {self.p_holm:.2g} after {self.compared} (Holm)" if self.compared > 1 else ""
        return f"{self.metric}: {self.model} is {said} {self.baseline}: {change}{share}, {self.users:,} users{looks}"


def corrected(pairs: Sequence[Paired]) -> list[Paired]:
    """The comparisons with `p_holm` and `p_bh`; those on one metric with one baseline are one family."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairs):
        families.setdefault((pair.metric, pair.baseline), []).append(place)
    found = list(pairs)
    for places in families.values():
        p_values = [pairs[place].p for place in places]
        adjusted = zip(places, holm(p_values), benjamini_hochberg(p_values), strict=True)
        for place, by_holm, by_bh in adjusted:
            found[place] = msgspec.structs.replace(pairs[place], p_holm=by_holm, p_bh=by_bh, compared=len(places))
    return found


def compare(
    baseline_B: npt.NDArray[np.float64],
    model_B: npt.NDArray[np.float64],
    *,
    metric: str = "",
    baseline: str = "baseline",
    model: str = "model",
    seed: int = 0,
) -> Paired:
    """Paired comparison of (B,) values in [0, 1] of the same users in the same order; more is better."""
    if baseline_B.shape != model_B.shape or baseline_B.ndim != 1 or not len(baseline_B):
        raise InputError(
            f"{model} and {baseline} cannot be paired on {metric or 'this metric'}: they have {len(model_B)} and "
            f"{len(baseline_B)} users; evaluate both on the same users"
        )
    resampled = Resampled(np.stack([baseline_B, model_B], axis=1), seed=seed)
    return compare_columns(resampled, 0, 1, metric=metric, baseline=baseline, model=model)


def compare_columns(resampled: Resampled, old: int, new: int, *, metric: str, baseline: str, model: str) -> Paired:
    """`compare` for two columns of values that were resampled together."""
    before, after = float(resampled.means_M[old]), float(resampled.means_M[new])
    low, high = resampled.difference(new, old)
    ratio = resampled.ratio(new, old)
    users = len(resampled.values_BM)
    p = p_value(resampled.values_BM[:, new] - resampled.values_BM[:, old])
    return Paired(
        metric=metric,
        model=model,
        baseline=baseline,
        users=users,
        difference=after - before,
        interval=(max(low, -1.0), min(high, 1.0)),
        relative=after / before - 1 if before > 0 else None,
        relative_interval=None if ratio is None else (ratio[0] - 1, ratio[1] - 1),
        verdict="better" if low > 0 else "worse" if high < 0 else "undecided",
        method=method_for(users),
        p=p,
        p_holm=p,
        p_bh=p,
    )
