"""What each raw column seems to hold, and what is worth knowing of it: kind, gaps, categories, drift between parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.data.examples.base import HISTORY, ITEM, TIME, USER, Examples, Part

__all__ = ["ColumnReport", "describe", "drift", "guess_kind"]

_FEW = 20
"""Different whole numbers up to which they are taken for categories."""
_TITLES, _WORDS = 100, 2.5
_ALIKE = 0.9
"""Share of users or items with a text of their own from which it says no more than their id."""
_ROWS = 50_000
_BINS, _FREQUENT = 10, 50


class ColumnReport(msgspec.Struct, kw_only=True):
    """One raw column, as seen in at most 50,000 rows of each part."""

    name: str
    side: str
    kind: str
    """number, category, list, time, history, or ignore."""
    why: str
    missing: float
    """Share of training rows without a value."""
    distinct: int
    """Different values among the training rows seen."""
    drift: float | None = None
    """Population stability index of the test part (of the validation part where there is no test) against training:
    below 0.1 nothing has moved, above 0.25 much has. None for ids, histories and where there is nothing to compare."""

    def __str__(self) -> str:
        moved = (
            "" if self.drift is None else f", drift {self.drift:.2f}{' (much has moved)' if self.drift > 0.25 else ''}"
        )
        gaps = f"{100 * self.missing:.1f} % missing, " if self.missing else ""
        return f"{self.name} ({self.side}): {self.kind}, {self.why}; {gaps}{self.distinct:,} different{moved}"


def guess_kind(sample: pl.DataFrame, name: str, side: str) -> tuple[str, str]:
    """The kind of feature that a column makes by its name, its type and some training rows of the examples; and why."""
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
    if dtype.is_numeric():
        return _guess_number(present, distinct)
    ids = {"user": USER, "item": ITEM}.get(side)
    if ids in sample.columns and distinct > max(_FEW, _ALIKE * sample[ids].n_unique()):
        return "ignore", f"another value for nearly every {side}, whom the id tells apart already"
    return _guess_text(present, distinct, side)


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


def describe(examples: Examples, rows: int = _ROWS) -> list[ColumnReport]:
    """What there is to say of every raw column."""
    train = examples.sample("train", rows)
    later: tuple[Part, ...] = ("test", "valid")
    other = next((examples.sample(part, rows) for part in later if examples.rows(part)), None)
    reports = []
    for name in examples.columns:
        column, side = train[name], examples.sides[name]
        kind, why = guess_kind(train, name, side)
        if examples.kinds.get(name, kind) != kind:
            kind, why = examples.kinds[name], "by the format of the log"
        comparable = other is not None and kind in ("number", "category", "time") and name not in (USER, ITEM, TIME)
        reports.append(
            ColumnReport(
                name=name,
                side=side,
                kind=kind,
                why=why,
                missing=_missing(column),
                distinct=0 if column.dtype.is_nested() else column.drop_nulls().n_unique(),
                drift=drift(column, other[name], kind) if comparable and other is not None else None,
            )
        )
    return reports


def _missing(column: pl.Series) -> float:
    gaps = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
    return gaps / max(len(column), 1)


def drift(train: pl.Series, other: pl.Series, kind: str) -> float | None:
    """Population stability index between two samples of a column: sum of (q - p) ln(q / p).

    Over tenths of the training numbers, or its 50 most frequent categories and all others together; what is missing is
    a range of its own. Half a row is added to each range, so that an empty one does not make it infinite.
    """
    if not len(train) or not len(other):
        return None
    if kind == "category" or not (train.dtype.is_numeric() or train.dtype.is_temporal()):
        groups = _by_category([train, other])
    else:
        groups = _by_range([train, other])
    size = int(max(group.max() for group in groups)) + 1
    p, q = ((np.bincount(group, minlength=size) + 0.5) / (len(group) + 0.5 * size) for group in groups)
    return float(((q - p) * np.log(q / p)).sum())


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
