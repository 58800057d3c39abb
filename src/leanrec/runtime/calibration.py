"""Raw scores to probabilities: learnt on validation rows, kept in the bundle.

| way         | p =                                                   | keeps the order |
|-------------|-------------------------------------------------------|-----------------|
| none        | sigmoid(raw), or raw cut to [0, 1] for a regression   | yes             |
| temperature | sigmoid(raw / t) (Guo et al. 2017)                    | yes             |
| platt       | sigmoid(a raw + b) (Platt 1999)                       | yes, a > 0      |
| isotonic    | a rising line through pooled means (Zadrozny 2002)    | up to ties      |

`shift` is added to the raw score before all of them: log of the share of negatives that was kept in training, which
undoes the sampling (He et al. 2014: p = q / (q + (1 - q) / rate)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

__all__ = ["WAYS", "Calibrator", "fit_calibrator", "pooled"]

F64 = npt.NDArray[np.float64]
Way = Literal["none", "temperature", "platt", "isotonic"]
WAYS: tuple[Way, ...] = ("none", "temperature", "platt", "isotonic")
_TINY = 1e-7
_FOLDS = 5
_WORTH = 1e-4
"""Relative gain in held-out log loss below which the simpler way stays."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """scale, bias: of the logit. knots_x, knots_y: of isotonic, rising. link: `sigmoid`, or `identity` for a regression
    whose raw score already is one.
    """

    way: Way = "none"
    link: Literal["sigmoid", "identity"] = "sigmoid"
    scale: float = 1.0
    bias: float = 0.0
    shift: float = 0.0
    knots_x: F64 | None = None
    knots_y: F64 | None = None

    def __call__(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities of any shape."""
        raw = np.asarray(raw, np.float64) + self.shift
        if self.knots_x is not None and self.knots_y is not None:
            return np.interp(raw, self.knots_x, self.knots_y).astype(np.float32)
        if self.link == "identity" and self.way == "none":
            return np.clip(raw, 0, 1).astype(np.float32)
        return _sigmoid(raw * self.scale + self.bias).astype(np.float32)

    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors`, all that `load` needs."""
        return {"way": self.way, "link": self.link, "scale": self.scale, "bias": self.bias, "shift": self.shift}

    def tensors(self) -> dict[str, F64]:
        """The knots, where there are any."""
        return {} if self.knots_x is None or self.knots_y is None else {"x": self.knots_x, "y": self.knots_y}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """ValueError when the values are not those of a calibrator."""
        if config["way"] not in WAYS or config["link"] not in ("sigmoid", "identity"):
            raise ValueError(f"calibration {config['way']!r}")
        numbers = {name: float(config[name]) for name in ("scale", "bias", "shift")}
        if not np.isfinite(list(numbers.values())).all():
            raise ValueError("a calibration that is not finite")
        x, y = tensors.get("x"), tensors.get("y")
        if (config["way"] == "isotonic") != bool(tensors):
            raise ValueError("an isotonic calibration without knots, or knots of another")
        if tensors and (x is None or y is None or not _rising(x, y)):
            raise ValueError("the knots of a calibration do not rise")
        return cls(way=config["way"], link=config["link"], knots_x=x, knots_y=y, **numbers)


def _rising(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> bool:
    """Whether they are the knots of a line from probability to probability."""
    if x.ndim != 1 or x.shape != y.shape or not len(x) or not x.dtype == y.dtype == np.float64:
        return False
    return bool((np.diff(x) >= 0).all() and (np.diff(y) >= 0).all() and y[0] >= 0 and y[-1] <= 1)


def fit_calibrator(
    way: Way | Literal["auto"], raw_T: npt.NDArray[Any], labels_T: npt.NDArray[Any], *,
    link: Literal["sigmoid", "identity"] = "sigmoid", shift: float = 0.0,
) -> Calibrator:  # fmt: skip
    """The calibrator of that way for raw scores and their labels; `auto`: the simplest whose held-out log loss over
    five folds is within a ten-thousandth of the best, isotonic excluded below 1,000 rows of the rarer label.

    With fewer than ten rows of either label nothing is learnt, and the way is `none`.
    """
    raw, labels = np.asarray(raw_T, np.float64) + shift, np.asarray(labels_T, np.float64)
    rarer = min(labels.sum(), len(labels) - labels.sum())
    if rarer < 10 or way == "none":
        return Calibrator(link=link, shift=shift)
    chosen: Way = _choose(raw, labels, link, rarer) if way == "auto" else way
    return _FITS[chosen](raw, labels, link, shift)


def _choose(raw: F64, labels: F64, link: Literal["sigmoid", "identity"], rarer: float) -> Way:
    ways = [way for way in WAYS if way != "isotonic" or rarer >= 1000]
    fold_T = np.arange(len(raw)) * 2_654_435_761 % (1 << 32) % _FOLDS
    losses: dict[Way, float] = {}
    for way in ways:
        said = np.empty(len(raw))
        for fold in range(_FOLDS):
            out = fold_T == fold
            said[out] = _FITS[way](raw[~out], labels[~out], link, 0.0)(raw[out])
        said = np.clip(said, _TINY, 1 - _TINY)
        losses[way] = float(-np.mean(labels * np.log(said) + (1 - labels) * np.log1p(-said)))
    best = min(losses.values())
    return next(way for way in ways if losses[way] <= best * (1 + _WORTH))


def _none(raw: F64, labels: F64, link: Literal["sigmoid", "identity"], shift: float) -> Calibrator:
    return Calibrator(link=link, shift=shift)


def _temperature(raw: F64, labels: F64, link: Literal["sigmoid", "identity"], shift: float) -> Calibrator:
    scale, _ = _newton(raw[:, None], labels)
    return Calibrator("temperature", link, max(float(scale[0]), _TINY), 0.0, shift)


def _platt(raw: F64, labels: F64, link: Literal["sigmoid", "identity"], shift: float) -> Calibrator:
    (scale, bias), _ = _newton(np.stack([raw, np.ones_like(raw)], axis=1), labels)
    if scale <= 0:  # scores that say the opposite are no better than their mean; the order stays
        return _none(raw, labels, link, shift)
    return Calibrator("platt", link, float(scale), float(bias), shift)


def _isotonic(raw: F64, labels: F64, link: Literal["sigmoid", "identity"], shift: float) -> Calibrator:
    x, y = pooled(raw, labels)
    return Calibrator("isotonic", link, 1.0, 0.0, shift, x, np.clip(y, _TINY, 1 - _TINY))


_FITS: Mapping[Way, Callable[[F64, F64, Literal["sigmoid", "identity"], float], Calibrator]] = {
    "none": _none, "temperature": _temperature, "platt": _platt, "isotonic": _isotonic,
}  # fmt: skip


def _newton(x_TP: F64, labels: F64) -> tuple[F64, float]:
    """Logistic regression without penalty by damped Newton steps; the weights and the mean loss."""

    def loss(w_P: F64) -> float:
        logit = x_TP @ w_P
        return float(np.mean(np.logaddexp(0, logit) - labels * logit))

    w_P = np.zeros(x_TP.shape[1])
    before = loss(w_P)
    for _ in range(100):
        p = _sigmoid(x_TP @ w_P)
        gradient = x_TP.T @ (p - labels) / len(labels)
        hessian = (x_TP * (p * (1 - p))[:, None]).T @ x_TP / len(labels) + 1e-9 * np.eye(len(w_P))
        move, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-6 and loss(w_P - size * move) > before:
            size /= 2
        w_P = w_P - size * move
        after = loss(w_P)
        if before - after < 1e-12:
            break
        before = after
    return w_P, before


def pooled(raw: F64, labels: F64) -> tuple[F64, F64]:
    """Isotonic regression by pooling adjacent violators: the mean score and mean label of each block, both rising.

    Between two blocks the calibrator draws a line, so that scores in different blocks stay apart.
    """
    order = np.argsort(raw, kind="stable")
    x, starts = np.unique(raw[order], return_index=True)
    counts = np.diff(np.append(starts, len(raw)))
    sums = np.add.reduceat(labels[order], starts)
    blocks: list[list[float]] = []  # weight, sum of labels, weighted sum of scores
    for score, count, total in zip(x.tolist(), counts.tolist(), sums.tolist(), strict=True):
        blocks.append([count, total, score * count])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    weights, totals, scores = np.asarray(blocks).T
    return scores / weights, totals / weights


def _sigmoid(x: F64) -> F64:
    result: F64 = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return result
