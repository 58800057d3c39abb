"""The categories of items, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged

if TYPE_CHECKING:
    import polars as pl

__all__ = ["categories_of", "checked_categories", "matches"]


def categories_of(column: pl.Series) -> tuple[Jagged, list[str]]:
    """(N) the distinct category numbers of each item, rising, and the categories' names in order; lists may be empty.

    Values are compared as text; a column of lists gives an item several.
    """
    rows = [sorted(set(map(str, row))) for row in _lists(column)]
    names = sorted({name for row in rows for name in row})
    number = {name: place for place, name in enumerate(names)}
    return Jagged.from_rows([[number[name] for name in row] for row in rows]), names


def matches(column: pl.Series, values: list[str]) -> npt.NDArray[np.bool_]:
    """(N,) whether an item has one of the values, compared as text."""
    wanted = set(map(str, values))
    return np.fromiter((not wanted.isdisjoint(map(str, row)) for row in _lists(column)), np.bool_, len(column))


def _lists(column: pl.Series) -> list[list[Any]]:
    return [
        [] if value is None else [one for one in value if one is not None] if isinstance(value, list) else [value]
        for value in column.to_list()
    ]


def checked_categories(tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Jagged:
    """Those stored as `offsets` and `categories`; ValueError when compiled loops could not trust them."""
    offsets, values = tensors["offsets"], tensors["categories"]
    if (offsets.dtype, values.dtype, values.ndim) != (np.dtype(np.int64), np.dtype(np.int32), 1):
        raise ValueError("categories of other types")
    if offsets.shape != (items + 1,) or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
        raise ValueError(f"categories do not cover {items} items")
    if len(values) and not 0 <= values.min() <= values.max() < len(values):
        raise ValueError("a category that is no category")
    return Jagged(values, offsets)
