"""How good predictions of single events are: a click's probability, a rating.

Every model is asked for its score of the same held-out rows: an event, with its user, the user's history before it, and
its moment. Intervals are bootstrap intervals over users, who are drawn with all their rows; the draws are shared by all
models, so that differences are paired.
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
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.dataset import Dataset, Part
from leanrec.data.examples.base import HISTORY, ITEM, TIME, USER, Examples
from leanrec.data.examples.events import examples_of
from leanrec.evaluation.binary import BINARY, LESS_IS_BETTER, check_binary, pr_curve, reliability, roc_curve
from leanrec.evaluation.paired import Paired, corrected
from leanrec.evaluation.ratings import RATINGS
from leanrec.runtime.recommender import Recommender

__all__ = ["Judged", "RowResults", "Rows", "Task", "judge_examples", "judge_rows", "predict", "rows_of"]

Task = Literal["ctr", "rating"]
Values = npt.NDArray[np.float64]

DRAWS = 500
_FEWEST_DRAWS = 100
_WORK = 25_000_000
"""Rows drawn for one model in all; many rows are sure of themselves with fewer draws."""
_BATCH = 4096
_CURVE = 200
_HISTORY = 200
METRICS: Mapping[str, Mapping[str, Callable[[Any, Any, Any], float]]] = {"ctr": BINARY, "rating": RATINGS}


@dataclass(frozen=True, slots=True)
class Rows:
    """Held-out rows. truth_T: labels (0 or 1) or ratings. users_T, items_T: rows of the data set. histories: (T) item
    rows before each, oldest first. times_T: Unix seconds, or None."""

    truth_T: Values
    users_T: npt.NDArray[np.int32]
    items_T: npt.NDArray[np.int32]
    histories: Jagged
    times_T: Values | None

    def __len__(self) -> int:
        return len(self.truth_T)


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


def rows_of(data: Dataset, task: Task, *, on: Part = "test", label: Any = None, seed: int = 0) -> Rows:
    """The held-out events as rows. label: for `ctr`, a condition such as 'value>=4', or "implicit" (with as many drawn
    items the user never had as `examples_of` draws); for `rating` the value itself is the truth."""
    examples = examples_of(data, "value>=0" if task == "rating" else label or "implicit", history=_HISTORY, seed=seed)
    events = list(examples.batches(on, _BATCH))
    if not events:
        raise InputError(f"{data.name} has no {on} event with a value to judge predictions by")
    truth, users, items, times, lists = [], [], [], [], []
    values = _values(data, on) if task == "rating" else None
    for frame in events:
        truth.append(frame[examples.label].to_numpy().astype(np.float64))
        users.append(frame[USER].to_numpy())
        items.append(frame[ITEM].to_numpy())
        times.append(frame[TIME].to_numpy() if TIME in frame.columns else np.zeros(0))
        lists += [np.asarray(one, np.int32) for one in frame[HISTORY].to_list()] if HISTORY in frame.columns else []
    owner_T = np.concatenate(users).astype(np.int32)
    histories = Jagged.from_rows(lists) if lists else data.known(on).take(owner_T)
    when = np.concatenate(times)
    return Rows(
        np.concatenate(truth) if values is None else values, owner_T, np.concatenate(items).astype(np.int32), histories,
        when if len(when) == len(owner_T) else None,
    )  # fmt: skip


def _values(data: Dataset, on: Part) -> Values:
    events = data.interactions
    assert events.values is not None, "refused by examples_of"
    held = events.values[events.split == (1 if on == "valid" else 2)]
    known: Values = held[~np.isnan(held)].astype(np.float64)
    return known


def predict(model: Recommender, data: Dataset, rows: Rows) -> Values:
    """(T,) what the model says of each row; -inf where it knows nothing of the user."""
    users_T = None
    if model.users is not None:
        same = model.users is data.users or model.users == data.users
        users_T = rows.users_T if same else model.users.rows(data.users.ids(rows.users_T))
    if not (model.items is data.items or model.items == data.items):
        raise InputError("predictions of events need a model of this data set's items: train it on the same data")
    said = []
    for start in range(0, len(rows), _BATCH):
        stop = min(start + _BATCH, len(rows))
        context = None if rows.times_T is None else {TIME: rows.times_T[start:stop].tolist()}
        users = None if users_T is None else users_T[start:stop]
        queries = Queries(rows.histories.slice(start, stop), 1, users=users, context=context)
        asked = Jagged(rows.items_T[start:stop], np.arange(stop - start + 1, dtype=np.int64))
        said.append(model.source.score(queries, asked).astype(np.float64))
    return np.concatenate(said)


def judge_rows(
    models: Mapping[str, Recommender], data: Dataset, task: Task, *, on: Part = "test", label: Any = None, seed: int = 0
) -> RowResults:
    """Every model on the held-out rows, then what needs no model: the mean of training, and each item's own.

    label: of a `ctr` task; by default what the first model says in its card that it predicts.
    """
    said_labels = [model.card.get("config", {}).get("label") for model in models.values()]
    wanted = label or next((one for one in said_labels if one), None)
    rows = rows_of(data, task, on=on, label=wanted, seed=seed)
    baselines = _baselines(data, task, wanted, rows, seed)
    said, notes = {}, {}
    for name, model in models.items():
        said[name] = predict(model, data, rows)
        silent_T = np.isneginf(said[name])
        if silent_T.any():
            notes[name] = (
                f"{int(silent_T.sum()):,} rows of users that it knows nothing of count as the mean of training"
            )
            said[name][silent_T] = baselines["mean"][silent_T]
    return RowResults(task, on, rows.truth_T, rows.users_T, said | baselines, notes=notes, seed=seed)


def judge_examples(
    models: Mapping[str, Recommender], examples: Examples, *, on: Part = "test", seed: int = 0
) -> RowResults:
    """Every model on labelled rows as they were logged, then the mean of training; rows are drawn one by one.

    All columns of a row are its context; a model that was fitted on logged rows has one item, which is asked for.
    """
    if not examples.rows(on):
        raise InputError(f"{examples.name} has no {on} rows to judge predictions by")
    truth, said = [], {name: list[Values]() for name in models}
    for frame in examples.batches(on, _BATCH):
        truth.append(frame[examples.label].to_numpy().astype(np.float64))
        context = {column: frame[column].to_list() for column in examples.columns}
        nobody = np.full(len(frame), -1, np.int32)
        queries = Queries(Jagged.empty(len(frame)), 1, users=nobody, context=context)
        asked = Jagged(np.zeros(len(frame), np.int32), np.arange(len(frame) + 1, dtype=np.int64))
        for name, model in models.items():
            said[name].append(model.source.score(queries, asked).astype(np.float64))
    truth_T = np.concatenate(truth)
    sums = [(int(frame[examples.label].sum()), len(frame)) for frame in examples.batches("train", 1 << 16, [])]
    rate = sum(yes for yes, _ in sums) / max(sum(rows for _, rows in sums), 1)
    found = {name: np.concatenate(parts) for name, parts in said.items()}
    return RowResults("ctr", on, truth_T, np.arange(len(truth_T)), {**found, "mean": np.full(len(truth_T), rate)},
                      seed=seed)  # fmt: skip


def _baselines(data: Dataset, task: Task, label: Any, rows: Rows, seed: int) -> dict[str, Values]:
    """The mean of the training rows, and each item's mean drawn towards it by ten rows."""
    train = examples_of(data, "value>=0" if task == "rating" else label or "implicit", history=1, seed=seed)
    frames = [(f[train.label].to_numpy(), f[ITEM].to_numpy()) for f in train.batches("train", _BATCH, [ITEM])]
    truth, items = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    if task == "rating":
        given = data.train_values()
        assert given is not None, "refused by examples_of"
        truth = given.values[~np.isnan(given.values)].astype(np.float64)
    mean = float(truth.mean())
    sums, counts = (np.bincount(items, weights, minlength=len(data.items)) for weights in (truth, np.ones(len(items))))
    means_N = (sums + 10 * mean) / (counts + 10)
    return {"mean": np.full(len(rows), mean), "item mean": means_N[rows.items_T]}


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
