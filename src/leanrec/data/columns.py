"""What each raw column seems to hold, and what is worth knowing of it: kind, gaps, categories, drift between parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.data.dataset import Dataset
from leanrec.data.examples.base import HISTORY, ITEM, TIME, USER, Examples, Part, Side
from leanrec.data.examples.events import event_sides, sample_events
from leanrec.data.report import ColumnReport

__all__ = ["describe_attributes", "describe_examples", "drift", "guess_kind"]

_FEW = 20
"""Different whole numbers up to which they are taken for categories."""
_TITLES, _WORDS = 100, 2.5
_ALIKE = 0.9
"""Share of users or items with a text of their own from which it says no more than their id."""
_ROWS_EACH = 10
"""Rows that a value has on average where all of them having one label is no accident."""
_ROWS = 50_000
_BINS, _FREQUENT = 10, 50


def guess_kind(sample: pl.DataFrame, name: str, side: str, labels: Sequence[str] = ()) -> tuple[str, str]:
    """The kind of feature that a column makes by its name, its type and some training rows of the examples; and why.

    labels: columns that are to be predicted; one that gives any of them away is left out.
    """
    column = sample[name]
    dtype = column.dtype
    if column.name in (USER, ITEM):
        return "category", "an id"
    if column.name == HISTORY:
        return "history", "items before the event"
    if column.name == TIME or dtype.is_temporal():
        return "time", "the moment of the event" if column.name == TIME else f"of type {dtype}"
    present = column.drop_nulls()
    if not len(present):
        return "ignore", "no value in any row"
    if isinstance(dtype, pl.List | pl.Array):
        return "list", "of lists"
    if dtype.is_nested() or isinstance(dtype, pl.Binary | pl.Object):
        return "ignore", f"of type {dtype}"
    distinct = present.n_unique()
    if distinct == 1 and not column.null_count():
        return "ignore", "the same value in every row"
    for label in labels:
        if _gives_away(column, sample[label], distinct):
            return "ignore", f"it is the label {label!r} in other words"
    if dtype.is_numeric():
        return _guess_number(present, distinct)
    ids = {"user": USER, "item": ITEM}.get(side)
    if ids in sample.columns and distinct > max(_FEW, _ALIKE * sample[ids].n_unique()):
        return "ignore", f"another value for nearly every {side}, whom the id tells apart already"
    return _guess_text(present, distinct, side)


def _gives_away(column: pl.Series, label: pl.Series, distinct: int) -> bool:
    """Whether each of the few values of a column comes with one label alone."""
    if distinct > len(column) / _ROWS_EACH or label.n_unique() < 2:
        return False
    return pl.DataFrame({"x": column, "y": label}).group_by("x").agg(pl.col("y").n_unique())["y"].max() == 1


def _guess_number(present: pl.Series, distinct: int) -> tuple[str, str]:
    whole = not present.dtype.is_float() or bool((present == present.floor()).all())
    if whole and distinct <= _FEW:
        return "category", f"whole numbers, at most {_FEW} different ones"
    return "number", "whole numbers" if whole else "numbers"


def _guess_text(present: pl.Series, distinct: int, side: str) -> tuple[str, str]:
    if isinstance(present.dtype, pl.String):
        if _is_date(present):
            return "time", "text that spells dates"
        words = present.unique(maintain_order=True).head(1000).str.count_matches(r"\S+").mean()
        if distinct > _TITLES and isinstance(words, float) and words >= _WORDS:
            return "ignore", "free text, which a text encoder reads"
        if side == "context" and distinct == len(present) > _FEW:
            return "ignore", "another value in every row"
    return "category", f"of type {present.dtype}" if not isinstance(present.dtype, pl.String) else "text"


def _is_date(present: pl.Series) -> bool:
    some = present.head(200)
    return bool(some.str.contains(r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$").all())


def describe_examples(examples: Examples) -> list[ColumnReport]:
    """What there is to say of every raw column."""
    later: tuple[Part, ...] = ("test", "valid")
    other = next((examples.sample(part, _ROWS) for part in later if examples.rows(part)), None)
    return _describe(examples.sample("train", _ROWS), other, examples.sides, examples.kinds, examples.labels)


def describe_attributes(data: Dataset) -> list[ColumnReport]:
    """What there is to say of the attributes of users and items, over the events of a data set; none without them."""
    if data.attributes is None and data.user_attributes is None:
        return []
    later: tuple[Part, ...] = ("test", "valid")
    others = (sample_events(data, part, _ROWS) for part in later)
    other = next((frame for frame in others if len(frame)), None)
    reports = _describe(sample_events(data, "train", _ROWS), other, event_sides(data), {})
    return [report for report in reports if report.name not in (USER, ITEM)]


def _describe(
    train: pl.DataFrame,
    other: pl.DataFrame | None,
    sides: Mapping[str, Side],
    kinds: Mapping[str, str],
    labels: Sequence[str] = (),
) -> list[ColumnReport]:
    reports = []
    for name, side in sides.items():
        column = train[name]
        kind, why = guess_kind(train, name, side, labels)
        if kind != "ignore" and kinds.get(name, kind) != kind:
            kind, why = kinds[name], "by the format of the log"
        comparable = kind not in ("ignore", "history") and name not in (USER, ITEM, TIME)
        reports.append(
            ColumnReport(
                name=name,
                side=side,
                kind=kind,
                why=why,
                missing=_missing(column),
                distinct=_entries(column).n_unique() if kind != "history" else 0,
                drift=drift(column, other[name], kind) if comparable and other is not None else None,
            )
        )
    return reports


def _missing(column: pl.Series) -> float:
    gaps = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
    return gaps / max(len(column), 1)


def _entries(column: pl.Series) -> pl.Series:
    """What there is in a column; of lists, what there is in them."""
    present = column.drop_nulls()
    return present.explode().drop_nulls() if isinstance(present.dtype, pl.List | pl.Array) else present


def drift(train: pl.Series, other: pl.Series, kind: str) -> float | None:
    """Population stability index between two samples of a column: sum of (q - p) ln(q / p).

    Over tenths of the training numbers, or its 50 most frequent categories and all others together; what is missing is
    a range of its own. Half a row is added to each range, so that an empty one does not make it infinite; and what
    chance alone brings on average, (ranges - 1) (1 / rows + 1 / other rows), is taken off.
    """
    if kind == "list":
        train, other = _entries(train), _entries(other)
    if not len(train) or not len(other):
        return None
    if kind == "category" or not (train.dtype.is_numeric() or train.dtype.is_temporal()):
        groups = _by_category([train, other])
    else:
        groups = _by_range([train, other])
    size = int(max(group.max() for group in groups)) + 1
    p, q = ((np.bincount(group, minlength=size) + 0.5) / (len(group) + 0.5 * size) for group in groups)
    by_chance = (len(np.union1d(*groups)) - 1) * sum(1 / len(group) for group in groups)
    return max(0.0, float(((q - p) * np.log(q / p)).sum()) - by_chance)


def _by_range(columns: Sequence[pl.Series]) -> list[npt.NDArray[np.int64]]:
    numbers = [column.to_physical().cast(pl.Float64).fill_null(math.nan).to_numpy() for column in columns]
    present = numbers[0][np.isfinite(numbers[0])]
    edges = np.unique(np.quantile(present, np.arange(1, _BINS) / _BINS)) if len(present) else np.empty(0)
    return [np.where(np.isnan(x), 0, np.searchsorted(edges, x, side="right") + 1) for x in numbers]


def _by_category(columns: Sequence[pl.Series]) -> list[npt.NDArray[np.int64]]:
    texts = [column.cast(pl.String, strict=False) for column in columns]
    counts = texts[0].drop_nulls().value_counts().sort(pl.nth(1), pl.nth(0), descending=[True, False])
    code = {category: place + 2 for place, category in enumerate(counts[:_FREQUENT, 0].to_list())}
    return [
        np.asarray(
            text.replace_strict(code, default=1, return_dtype=pl.Int64).set(text.is_null(), 0).to_numpy(), np.int64
        )
        if code
        else text.is_null().cast(pl.Int64).to_numpy()
        for text in texts
    ]
