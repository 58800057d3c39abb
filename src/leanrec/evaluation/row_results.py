"""What was found about predictions of single events: metrics, intervals over users, pairs and curves.

Users are drawn with all their rows; the draws are shared by all models, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.console import format_table
from leanrec.core.errors import InputError
from leanrec.evaluation.binary import BINARY, LESS_IS_BETTER, check_binary, pr_curve, reliability, roc_curve
from leanrec.evaluation.paired import Paired, corrected
from leanrec.evaluation.ratings import RATINGS

__all__ = ["Judged", "RowResults", "Task"]

Task = Literal["ctr", "rating"]
Values = npt.NDArray[np.float64]

DRAWS = 500
_FEWEST_DRAWS = 100
_WORK = 25_000_000
"""Rows drawn for one model in all; many rows are sure of themselves with fewer draws."""
_CURVE = 200
METRICS: Mapping[str, Mapping[str, Callable[[Any, Any, Any], float]]] = {"ctr": BINARY, "rating": RATINGS}


@dataclass(frozen=True, slots=True)
class Judged:
    """One model. said_T: its predictions."""

    model: str
    said_T: Values
    metrics: Mapping[str, float]


class RowResults:
    """What was found, in the order of the models; the first is the baseline of pairs."""

    def __init__(
        self, task: Task, on: str, truth_T: Values, groups_T: npt.NDArray[Any], said: Mapping[str, Values], *,
        notes: Mapping[str, str] | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.task, self.on, self.truth_T = task, on, truth_T
        self._metrics, self._seed, self.notes = METRICS[task], seed, dict(notes or {})
        _, self._group_T = np.unique(groups_T, return_inverse=True)
        self._groups = int(self._group_T.max()) + 1 if len(self._group_T) else 0
        for said_T in said.values():
            if task == "ctr":
                check_binary(truth_T, said_T)
            elif not len(said_T) or not np.isfinite(said_T).all():
                raise InputError("predictions of ratings must be finite numbers, one a row")
        self.rows = [
            Judged(name, said_T, {metric: of(truth_T, said_T, None) for metric, of in self._metrics.items()})
            for name, said_T in said.items()
        ]

    def __getitem__(self, model: str) -> Judged:
        return next(row for row in self.rows if row.model == model)

    def __iter__(self) -> Iterator[Judged]:
        return iter(self.rows)

    def interval(self, model: str, metric: str) -> tuple[float, float]:
        """The 95 % percentile interval; infinite with one user."""
        return _ends(self._draws[self._names.index(model), list(self._metrics).index(metric)])

    def paired(self, baseline: str | None = None) -> list[Paired]:
        """Every other model against the baseline on each metric; `better` says less where less is better."""
        base = self._names.index(baseline) if baseline is not None else 0
        return corrected([self._pair(base, place, metric) for place in range(len(self.rows)) if place != base
                          for metric in self._metrics])  # fmt: skip

    def _pair(self, base: int, place: int, metric: str) -> Paired:
        column = list(self._metrics).index(metric)
        old, new = self.rows[base], self.rows[place]
        draws = self._draws[place, column] - self._draws[base, column]
        low, high = _ends(draws)
        before, after = old.metrics[metric], new.metrics[metric]
        sign = -1 if metric in LESS_IS_BETTER else 1
        # Twice the smaller share of draws on either side of zero: the test that the percentile interval inverts.
        sides = [(1 + np.count_nonzero(side)) / (1 + len(draws)) for side in (draws <= 0, draws >= 0)]
        p = float(min(1.0, 2 * min(sides)))
        return Paired(
            metric=metric, model=new.model, baseline=old.model, users=self._groups,
            difference=after - before, interval=(low, high), relative=after / before - 1 if before > 0 else None,
            relative_interval=None, p=p, p_holm=p, p_bh=p, method=self.method,
            verdict="better" if min(sign * low, sign * high) > 0 else "worse" if max(sign * low, sign * high) < 0
            else "undecided",
        )  # fmt: skip

    @property
    def method(self) -> str:
        return f"bootstrap over {self._unit} (percentile, {self._count} draws)"

    @property
    def _unit(self) -> str:
        alone = self._groups == len(self.truth_T)
        return "rows" if alone else "users with all their rows"

    @property
    def _count(self) -> int:
        return min(DRAWS, max(_FEWEST_DRAWS, _WORK // len(self.truth_T)))

    def curves(self) -> dict[str, dict[str, Any]]:
        """Model -> roc, pr and reliability, at most 200 points each; nothing for ratings."""
        if self.task != "ctr":
            return {}
        return {row.model: _curves(self.truth_T, row.said_T) for row in self.rows}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the shape of `leanrec evaluate --json`."""
        results = [
            {
                "model": row.model, "on": self.on, "task": self.task, "rows": len(self.truth_T),
                "users": self._groups, "metrics": {name: _known(v) for name, v in row.metrics.items()},
                "interval": {name: [_known(end) for end in self.interval(row.model, name)] for name in self._metrics},
                "notes": [self.notes[row.model]] if row.model in self.notes else [],
            }
            for row in self.rows
        ]  # fmt: skip
        pairs = msgspec.to_builtins(self.paired())
        return {"results": results, "paired": pairs, "intervals": self.method, "curves": self.curves()}

    def __str__(self) -> str:
        shown = [name for name in ("auc", "log_loss", "ece", "brier", "f1", "rmse", "mae") if name in self._metrics]
        cells = [[row.model, *(self._cell(row, name) for name in shown)] for row in self.rows]
        about = f"{len(self.truth_T):,} rows of {self._groups:,} users, {self.on}; 95 %: {self.method}"
        pairs = [str(pair) for pair in self.paired() if pair.metric in shown[:2]]
        notes = [f"{model}: {note}" for model, note in self.notes.items()]
        return "\n".join([format_table(["model", *shown], cells), about, *pairs, *notes])

    def _cell(self, row: Judged, metric: str) -> str:
        low, high = self.interval(row.model, metric)
        return f"{row.metrics[metric]:.4f} [{low:.4f}, {high:.4f}]"

    @property
    def _names(self) -> list[str]:
        return [row.model for row in self.rows]

    @cached_property
    def _draws(self) -> Values:
        """(models, metrics, draws)."""
        users, draws = self._groups, self._count
        found = np.full((len(self.rows), len(self._metrics), draws), np.nan)
        rng = np.random.default_rng(self._seed)
        # Sorted once by prediction, so that metrics that sort find them sorted.
        orders = [np.argsort(-row.said_T, kind="stable") for row in self.rows]
        for draw in range(draws if users > 1 else 0):
            weights_T = np.bincount(rng.integers(0, users, users), minlength=users)[self._group_T]
            for place, (row, order) in enumerate(zip(self.rows, orders, strict=True)):
                truth_T, said_T, weight_T = self.truth_T[order], row.said_T[order], weights_T[order]
                for column, of in enumerate(self._metrics.values()):
                    found[place, column, draw] = of(truth_T, said_T, weight_T)
        return found


def _curves(truth_T: Values, said_T: Values) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, curve in (("roc", roc_curve(truth_T, said_T)), ("pr", pr_curve(truth_T, said_T))):
        at = np.unique(np.linspace(0, len(curve.x) - 1, min(_CURVE, len(curve.x))).astype(int))
        found[name] = {"x": curve.x[at].tolist(), "y": curve.y[at].tolist()}
    bins = reliability(truth_T, said_T, by="mass")
    found["reliability"] = {"x": bins.said.tolist(), "y": bins.came.tolist(), "count": bins.count.tolist()}
    return found


def _ends(draws_R: Values) -> tuple[float, float]:
    known = draws_R[~np.isnan(draws_R)]
    if not len(known):
        return (-np.inf, np.inf)
    low, high = np.quantile(known, [0.025, 0.975])
    return (float(low), float(high))


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
