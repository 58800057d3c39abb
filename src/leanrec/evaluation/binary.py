"""What predicted probabilities of a yes are worth: ranking, decisions at a threshold, calibration.

labels_T: (T,) 0 or 1. scores_T: (T,) finite, more means likelier; probabilities_T: the same within [0, 1].
weights_T: (T,) how often each row counts, by default once; a bootstrap draw is nothing else.

| name              | what                                                                              | better |
|-------------------|-----------------------------------------------------------------------------------|--------|
| auc               | chance that a yes is scored above a no, ties count half (Hanley & McNeil 1982)    | more   |
| average_precision | sum over thresholds of (recall gained) x precision, equal scores together         | more   |
| log_loss          | mean of -log p(label) in nats, p kept 2e-16 away from 0 and 1                     | less   |
| brier             | mean of (p - label)^2 (Brier 1950)                                                | less   |
| accuracy, precision, recall, f1 | of the decision p >= threshold; 0 where nothing is to be divided by | more   |
| ece               | mean over bins of equal width, by rows, of |mean p - share of yes|                | less   |
| ece_mass          | the same with bins that hold equally many rows (Nixon et al. 2019)                | less   |

`auc` and `average_precision` are NaN when only one of the labels is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = [
    "BINARY", "LESS_IS_BETTER", "Confusion", "Curve", "Reliability", "auc", "average_precision", "binary_metrics",
    "brier", "calibration_error", "check_binary", "confusion", "log_loss", "pr_curve", "reliability", "roc_curve",
]  # fmt: skip

Numbers = npt.NDArray[Any]
Values = npt.NDArray[np.float64]

BINS = 15
LESS_IS_BETTER = frozenset({"log_loss", "brier", "ece", "ece_mass", "rmse", "mae"})
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve, one for each distinct score, from the strictest threshold on; the first accepts nothing."""

    x: Values
    y: Values
    thresholds: Values


@dataclass(frozen=True, slots=True)
class Reliability:
    """Per bin that holds rows: the mean probability that was said, the share of yes that came, and the weight."""

    said: Values
    came: Values
    count: Values

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al. 2015)."""
        return float(np.average(np.abs(self.said - self.came), weights=self.count))


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weights of right and wrong decisions at one threshold."""

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float

    @property
    def accuracy(self) -> float:
        right = self.true_positive + self.true_negative
        return _share(right, right + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        return _share(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)


def check_binary(labels_T: Numbers, scores_T: Numbers, *, probabilities: bool = True) -> None:
    """InputError unless labels are 0 or 1 and scores are numbers, within [0, 1] when they are probabilities."""
    if labels_T.shape != scores_T.shape or labels_T.ndim != 1:
        raise InputError(f"labels and predictions differ in number: {labels_T.shape} and {scores_T.shape}")
    if not len(labels_T):
        raise InputError("there is nothing to judge: no row has a label")
    if not np.isin(labels_T, (0, 1)).all():
        raise InputError("labels must be 0 or 1: say what counts as yes, for instance with --positive 'value>=4'")
    if not np.isfinite(scores_T).all():
        bad = int((~np.isfinite(scores_T)).sum())
        raise InputError(f"{bad:,} of {len(scores_T):,} predictions are not finite numbers: they cannot be judged")
    if probabilities and (scores_T.min() < 0 or scores_T.max() > 1):
        raise InputError(
            f"predictions lie in [{scores_T.min():.4g}, {scores_T.max():.4g}] and are no probabilities: calibrate them"
        )


def auc(labels_T: Numbers, scores_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Area under the ROC curve, exact with ties; any monotone score will do."""
    yes, no, _ = _cumulative(labels_T, scores_T, weights_T)
    if yes[-1] <= 0 or no[-1] <= 0:
        return float("nan")
    return float(np.sum(np.diff(no, prepend=0.0) * (yes - np.diff(yes, prepend=0.0) / 2)) / (yes[-1] * no[-1]))


def average_precision(labels_T: Numbers, scores_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Area under the precision-recall steps, without interpolation."""
    yes, no, _ = _cumulative(labels_T, scores_T, weights_T)
    if yes[-1] <= 0 or no[-1] <= 0:
        return float("nan")
    precision = yes / np.maximum(yes + no, _TINY)
    return float(np.sum(np.diff(yes, prepend=0.0) * precision) / yes[-1])


def roc_curve(labels_T: Numbers, scores_T: Numbers) -> Curve:
    """x: false positive rate, y: true positive rate."""
    yes, no, thresholds = _cumulative(labels_T, scores_T, None)
    return Curve(
        np.append(0.0, no / max(no[-1], _TINY)),
        np.append(0.0, yes / max(yes[-1], _TINY)),
        np.append(np.inf, thresholds),
    )


def pr_curve(labels_T: Numbers, scores_T: Numbers) -> Curve:
    """x: recall, y: precision; the first point has recall 0 and precision 1."""
    yes, no, thresholds = _cumulative(labels_T, scores_T, None)
    x, y = yes / max(yes[-1], _TINY), yes / (yes + no)
    return Curve(np.append(0.0, x), np.append(1.0, y), np.append(np.inf, thresholds))


def log_loss(labels_T: Numbers, probabilities_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Mean negative log likelihood in nats."""
    p_T = np.clip(np.asarray(probabilities_T, np.float64), _TINY, 1 - _TINY)
    return _mean(-np.where(np.asarray(labels_T) > 0, np.log(p_T), np.log1p(-p_T)), weights_T)


def brier(labels_T: Numbers, probabilities_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Mean squared error of the probability."""
    return _mean((np.asarray(probabilities_T, np.float64) - labels_T) ** 2, weights_T)


def confusion(
    labels_T: Numbers, scores_T: Numbers, weights_T: Numbers | None = None, *, threshold: float = 0.5
) -> Confusion:
    """Decisions `scores >= threshold` against the labels."""
    said, is_yes = np.asarray(scores_T) >= threshold, np.asarray(labels_T) > 0
    weights = np.ones(len(said)) if weights_T is None else np.asarray(weights_T, np.float64)
    cells = np.bincount(2 * said + is_yes, weights, minlength=4)
    return Confusion(float(cells[3]), float(cells[2]), float(cells[0]), float(cells[1]))


def reliability(
    labels_T: Numbers,
    probabilities_T: Numbers,
    weights_T: Numbers | None = None,
    *,
    bins: int = BINS,
    by: Literal["width", "mass"] = "width",
) -> Reliability:
    """The reliability curve. by: bins of equal width over [0, 1], or with equally many rows, equal values together."""
    p_T = np.asarray(probabilities_T, np.float64)
    ends = np.linspace(0, 1, bins + 1)
    edges = ends if by == "width" else np.quantile(p_T, ends)
    bin_T = np.searchsorted(edges[1:-1], p_T)
    weights = np.ones(len(p_T)) if weights_T is None else np.asarray(weights_T, np.float64)
    count, said, came = (
        np.bincount(bin_T, weights * part, bins).astype(np.float64) for part in (1.0, p_T, np.asarray(labels_T))
    )
    held = count > 0
    return Reliability(said[held] / count[held], came[held] / count[held], count[held])


def calibration_error(
    labels_T: Numbers,
    probabilities_T: Numbers,
    weights_T: Numbers | None = None,
    *,
    bins: int = BINS,
    by: Literal["width", "mass"] = "width",
) -> float:
    """`reliability(...).error`."""
    return reliability(labels_T, probabilities_T, weights_T, bins=bins, by=by).error


BINARY: dict[str, Callable[[Numbers, Numbers, Numbers | None], float]] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "accuracy": lambda y, p, w: confusion(y, p, w).accuracy,
    "precision": lambda y, p, w: confusion(y, p, w).precision,
    "recall": lambda y, p, w: confusion(y, p, w).recall,
    "f1": lambda y, p, w: confusion(y, p, w).f1,
    "ece": calibration_error,
    "ece_mass": lambda y, p, w: calibration_error(y, p, w, by="mass"),
}
"""Every metric of predicted probabilities, from (labels, probabilities, weights); decisions are made at 0.5."""


def binary_metrics(
    labels_T: Numbers, probabilities_T: Numbers, weights_T: Numbers | None = None, *, threshold: float = 0.5
) -> dict[str, float]:
    """Every metric by name, with decisions at `threshold`; InputError when labels or probabilities are none."""
    check_binary(labels_T, probabilities_T)
    decided = confusion(labels_T, probabilities_T, weights_T, threshold=threshold)
    found = {name: metric(labels_T, probabilities_T, weights_T) for name, metric in BINARY.items()}
    return found | {name: getattr(decided, name) for name in ("accuracy", "precision", "recall", "f1")}


def _cumulative(labels_T: Numbers, scores_T: Numbers, weights_T: Numbers | None) -> tuple[Values, Values, Values]:
    """Weight of yes and of no at or above each distinct score, falling; and those scores."""
    scores = np.asarray(scores_T)
    order = np.argsort(-scores, kind="stable")  # next to nothing where rows are sorted already, as in a bootstrap
    scores, is_yes = scores[order], np.asarray(labels_T)[order] > 0
    weights = np.ones(len(order)) if weights_T is None else np.asarray(weights_T, np.float64)[order]
    last = np.append(scores[1:] != scores[:-1], True)
    yes, no = np.cumsum(weights * is_yes)[last], np.cumsum(weights * ~is_yes)[last]
    return yes, no, scores[last].astype(np.float64)


def _mean(values_T: Values, weights_T: Numbers | None) -> float:
    return float(np.average(values_T, weights=weights_T))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
