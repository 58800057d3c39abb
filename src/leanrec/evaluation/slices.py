"""Metrics for parts of the users and of the items: who is served well, and who is not.

A slice of users is judged on all their targets; a slice of items on the targets that are in it, for the users who have
any (the list stays that of the whole catalogue). Named after a column and a value, or

| slice        | who                                                                        |
|--------------|----------------------------------------------------------------------------|
| users=new    | fewer than 5 known events                                                  |
| users=old    | the others                                                                 |
| items=head   | the most popular fifth of the items, by training events                    |
| items=tail   | the others                                                                 |
| items=rare   | fewer than 5 training events                                               |
| items=unseen | no training event                                                          |
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.data.dataset import Cases, Dataset
from leanrec.evaluation.intervals import Resampled
from leanrec.evaluation.metrics import Metric, per_user

__all__ = ["FEW", "Slice", "SliceResult", "judge_slice", "slices_of"]

FEW = 5
_HEAD = 0.2
_MOST_VALUES = 10
_PARTS = 4

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the users of the cases, (B,), or some of the items, (N,)."""

    name: str
    users_B: Flags | None = None
    items_N: Flags | None = None


class SliceResult(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the slice's users, with 95 % intervals."""

    slice: str
    users: int
    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]]


def slices_of(data: Dataset, cases: Cases, columns: Sequence[str] = ()) -> list[Slice]:
    """The slices of the table above that are neither empty nor everything, then one a value of each column.

    columns: of the users' or the items' attributes. Numbers with many values are cut into quarters; of texts, and of
    lists of texts, the ten most frequent values count. InputError when there is no such column.
    """
    known_B = cases.histories.lengths
    trained_N = np.bincount(data.train().values, minlength=len(data.items))
    head_N = np.zeros(len(data.items), np.bool_)
    head_N[np.lexsort((np.arange(len(trained_N)), -trained_N))[: max(1, round(_HEAD * len(trained_N)))]] = True
    found = [
        Slice("users=new", users_B=known_B < FEW),
        Slice("users=old", users_B=known_B >= FEW),
        Slice("items=head", items_N=head_N),
        Slice("items=tail", items_N=~head_N),
        Slice("items=rare", items_N=trained_N < FEW),
        Slice("items=unseen", items_N=trained_N == 0),
    ]
    for column in columns:
        found += _by_column(data, cases, column)
    return [one for one in found if 0 < _flags(one).sum() < len(_flags(one))]


def _flags(one: Slice) -> Flags:
    flags = one.users_B if one.items_N is None else one.items_N
    assert flags is not None
    return flags


def _by_column(data: Dataset, cases: Cases, column: str) -> Iterator[Slice]:
    for frame, is_user in ((data.user_attributes, True), (data.attributes, False)):
        if frame is None or column not in frame.columns[1:]:
            continue
        values = frame[column]
        for name, flags in _groups(values.gather(cases.users) if is_user else values, column):
            yield Slice(name, users_B=flags) if is_user else Slice(name, items_N=flags)
        return
    frames = [frame for frame in (data.user_attributes, data.attributes) if frame is not None]
    known = [name for frame in frames for name in frame.columns[1:]]
    there = ", ".join(known) or "none"
    raise InputError(f"{data.name} has no column {column!r}{nearest(column, known)} to slice by; there are: {there}")


def _groups(values: pl.Series, column: str) -> Iterator[tuple[str, Flags]]:
    if values.dtype.is_numeric() and values.n_unique() > _MOST_VALUES:
        numbers = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _PARTS + 1)))
        for low, high in itertools.pairwise(edges):
            inside = (values >= low) & ((values <= high) if high == edges[-1] else (values < high))
            yield f"{column}={low:g}..{high:g}", inside.fill_null(False).to_numpy()
        return
    lists = isinstance(values.dtype, pl.List)
    counts = (values.list.explode() if lists else values).drop_nulls().value_counts(sort=True)
    for value in counts[counts.columns[0]].head(_MOST_VALUES):
        inside = values.list.contains(value) if lists else values == value
        yield f"{column}={value}", inside.fill_null(False).to_numpy()


def judge_slice(
    one: Slice, items_BK: npt.NDArray[np.int32], cases: Cases, metrics: Sequence[Metric]
) -> SliceResult | None:
    """The per-user metrics of a slice; None when nobody is in it."""
    targets = cases.targets
    if one.items_N is not None:
        targets = targets.where(one.items_N[targets.values])
    rows = np.flatnonzero(targets.lengths if one.users_B is None else one.users_B)
    if not len(rows):
        return None
    values = per_user(items_BK[rows], targets.take(rows), metrics)
    resampled = Resampled(np.stack(list(values.values()), axis=1))
    interval = {}
    for column, name in enumerate(values):
        low, high = resampled.mean(column)
        interval[name] = (max(low, 0.0), min(high, 1.0))
    means = {name: float(value_B.mean()) for name, value_B in values.items()}
    return SliceResult(slice=one.name, users=len(rows), metrics=means, interval=interval)
