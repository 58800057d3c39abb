"""What an evaluation found: values per user, means with intervals, models paired on the same users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.console import format_table
from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.evaluation.intervals import Resampled, method_for
from leanrec.evaluation.paired import Paired, compare_columns, corrected
from leanrec.evaluation.slices import SliceResult

__all__ = ["Result", "Results"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model. users_B: user rows; values: per-user metric -> (B,); metrics: every metric's mean or value.

    notes: what had to be said about its answers, one sentence each. slices: its metrics for parts of users and items.
    """

    model: str
    on: str
    users_B: npt.NDArray[np.int32]
    values: Mapping[str, npt.NDArray[np.float64]]
    metrics: Mapping[str, float]
    notes: Sequence[str] = field(default_factory=tuple)
    slices: Sequence[SliceResult] = field(default_factory=tuple)


class Results:
    """The results of models on the same users, in the order they were given.

    Intervals are 95 % over users; all draws are shared, so that every difference is paired.
    """

    def __init__(self, rows: Sequence[Result], *, seed: int = 0) -> None:
        assert rows and all(np.array_equal(row.users_B, rows[0].users_B) for row in rows), "the same users"
        self.rows = list(rows)
        self._seed = seed
        self._names = list(rows[0].values)

    def __getitem__(self, model: str) -> Result:
        return self.rows[self._place(model)]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def method(self) -> str:
        """The kind of interval."""
        return method_for(len(self.rows[0].users_B))

    def interval(self, model: str, metric: str) -> tuple[float, float]:
        """The 95 % interval of a per-user metric's mean, within [0, 1]."""
        low, high = self._resampled.mean(self._column(self._place(model), metric))
        return max(low, 0.0), min(high, 1.0)

    def paired(self, baseline: str | None = None, metrics: Sequence[str] | None = None) -> list[Paired]:
        """Every other model against the baseline (by default the first), on each per-user metric or those named.

        p values are corrected for the number of models (`Paired.p_holm`, `Paired.p_bh`).
        """
        base = 0 if baseline is None else self._place(baseline)
        return corrected([
            compare_columns(
                self._resampled, self._column(base, metric), self._column(place, metric),
                metric=metric, baseline=self.rows[base].model, model=row.model,
            )
            for place, row in enumerate(self.rows) if place != base
            for metric in (self._names if metrics is None else metrics)
        ])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the shape of `leanrec evaluate --json`."""
        results = [
            {
                "model": row.model,
                "on": row.on,
                "users": len(row.users_B),
                "metrics": dict(row.metrics),
                "interval": {name: list(self.interval(row.model, name)) for name in self._names},
                "notes": list(row.notes),
                **({"slices": msgspec.to_builtins(list(row.slices))} if row.slices else {}),
            }
            for row in self.rows
        ]
        return {"results": results, "paired": msgspec.to_builtins(self.paired()), "intervals": self.method}

    def __str__(self) -> str:
        """A table for a person: recall, NDCG with its interval and coverage at every k; pairs; notes."""
        ks = [name.partition("@")[2] for name in self._names if name.startswith("ndcg@")]
        shown = [f"{metric}@{k}" for k in ks for metric in ("recall", "ndcg", "coverage")]
        table = format_table(
            ["model", *shown], [[row.model, *(self._cell(row, m) for m in shown)] for row in self.rows]
        )
        about = f"{len(self.rows[0].users_B):,} users, {self.rows[0].on}; 95 % intervals: {self.method}"
        pairs = [str(pair) for pair in self.paired(metrics=[f"ndcg@{k}" for k in ks])]
        notes = [f"{row.model}: {note}" for row in self.rows for note in row.notes]
        return "\n".join([table, about, *pairs, *self._sliced(), *notes])

    def _sliced(self) -> list[str]:
        """One line a slice: the last NDCG of every model with its interval."""
        shown = next((name for name in reversed(self._names) if name.startswith("ndcg@")), self._names[-1])
        cells: dict[str, dict[str, str]] = {}
        for row in self.rows:
            for part in row.slices:
                low, high = part.interval[shown]
                line = cells.setdefault(part.slice, {"users": f"{part.users:,}"})
                line[row.model] = f"{part.metrics[shown]:.4f} [{low:.4f}, {high:.4f}]"
        if not cells:
            return []
        headers = [f"{shown} of", "users", *(row.model for row in self.rows)]
        lines = [[name, *(line.get(header, "-") for header in headers[1:])] for name, line in cells.items()]
        return [format_table(headers, lines)]

    def _cell(self, row: Result, metric: str) -> str:
        text = f"{row.metrics[metric]:.4f}"
        if not metric.startswith("ndcg@"):
            return text
        low, high = self.interval(row.model, metric)
        return f"{text} [{low:.4f}, {high:.4f}]"

    @cached_property
    def _resampled(self) -> Resampled:
        columns = [row.values[name] for row in self.rows for name in self._names]
        return Resampled(np.stack(columns, axis=1), seed=self._seed)

    def _place(self, model: str) -> int:
        names = [row.model for row in self.rows]
        if model not in names:
            raise InputError(f"no model {model!r} was evaluated{nearest(model, names)}; there are: {', '.join(names)}")
        return names.index(model)

    def _column(self, place: int, metric: str) -> int:
        if metric not in self._names:
            hint = nearest(metric, self._names)
            raise InputError(f"no values per user of {metric!r}{hint}; there are: {', '.join(self._names)}")
        return place * len(self._names) + self._names.index(metric)
