"""Models fitted and judged on every fold, their users pooled into one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from leanrec.core.console import step
from leanrec.data.dataset import Dataset
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.folds import Over, fold
from leanrec.evaluation.results import Result, Results
from leanrec.models.base import Model

__all__ = ["cross_validate"]


def cross_validate(
    models: Mapping[str, Model[Any]],
    data: Dataset,
    *,
    folds: int = 5,
    over: Over = "users",
    k: int | Iterable[int] = (10,),
    seed: int = 0,
) -> Results:
    """Fit every model on every fold and judge it on what that fold holds out.

    over: what is held out (`evaluation.folds`). A user's value is the mean over the folds that tested them, so that
    intervals and pairs are over users; metrics of all lists together are means over folds.
    """
    ks = [k] if isinstance(k, int) else list(k)
    rows: dict[str, list[Result]] = {name: [] for name in models}
    for part in fold(data, folds, over=over, seed=seed):
        with step(f"fold {part.name}"):
            fitted = {name: model.fit(part, seed=seed) for name, model in models.items()}
            for row in evaluate(fitted, part, on="test", k=ks):
                rows[row.model].append(row)
    return Results([_pooled(name, parts) for name, parts in rows.items()])


def _pooled(name: str, parts: list[Result]) -> Result:
    users_B, at = np.unique(np.concatenate([row.users_B for row in parts]), return_inverse=True)
    counts_B = np.bincount(at)
    values = {
        metric: np.bincount(at, np.concatenate([row.values[metric] for row in parts])) / counts_B
        for metric in parts[0].values
    }
    metrics = {metric: float(np.mean([row.metrics[metric] for row in parts])) for metric in parts[0].metrics}
    metrics |= {metric: float(values_B.mean()) for metric, values_B in values.items()}
    notes = list(dict.fromkeys(note for row in parts for note in row.notes))
    return Result(model=name, on="test", users_B=users_B, values=values, metrics=metrics, notes=notes)
