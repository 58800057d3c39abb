"""Item attributes as sparse vectors of length 1, one block of terms a column.

| column                          | terms                               | values                           |
|---------------------------------|-------------------------------------|----------------------------------|
| text of several words           | words of two or more letters        | TF-IDF, as scikit-learn has it   |
| other text, categories, boolean | one a value                         | 1                                |
| lists                           | one an entry                        | TF-IDF                           |
| numbers, dates                  | at most 8 quantiles                 | linear between the two around it |

A number shares terms with numbers near it and none with others, so that the cosine says how near they are. What is
missing (null, NaN, empty) has no terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.jagged import Jagged

__all__ = ["Block", "blocks_of", "combined"]

_WORD = r"\w\w+"
_WORDS = 1.5
"""Text with more words a value, on average, is text; with fewer it is a category."""
_QUANTILES = 8


@dataclass(frozen=True)
class Block:
    """One column: N rows of distinct terms below num_terms, with float64 values; every row has length 1 or no terms."""

    column: str
    terms: Jagged
    values: npt.NDArray[np.float64]
    num_terms: int


def blocks_of(attributes: pl.DataFrame) -> list[Block]:
    """A block for each column but the first, the ids; columns that say nothing are left out."""
    found = [_block(attributes[name]) for name in attributes.columns[1:]]
    return [block for block in found if len(block.values)]


def combined(blocks: list[Block], weights: Mapping[str, float]) -> tuple[Jagged, npt.NDArray[np.float32], int]:
    """All columns with a weight side by side: terms, values and number of terms; rows of length 1.

    The cosine of two items that have every column is the weighted mean of the columns' cosines.
    """
    used = [block for block in blocks if weights[block.column] > 0]
    if not used:
        return Jagged.empty(len(blocks[0].terms) if blocks else 0), np.empty(0, np.float32), 0
    starts = np.cumsum([0, *(block.num_terms for block in used)])
    rows_T = np.concatenate([block.terms.row_of() for block in used])
    terms_T = np.concatenate([block.terms.values + start for block, start in zip(used, starts[:-1], strict=True)])
    values_T = np.concatenate([block.values * np.sqrt(weights[block.column]) for block in used])
    order_T = np.argsort(rows_T, kind="stable")
    terms, values_T = _unit(rows_T[order_T], terms_T[order_T], values_T[order_T], len(used[0].terms))
    return terms, values_T.astype(np.float32), int(starts[-1])


def _block(column: pl.Series) -> Block:
    kind = column.dtype
    if isinstance(kind, pl.List | pl.Array):
        return _listed(column.name, column.cast(pl.List(pl.String), strict=False))
    if (kind.is_numeric() or kind.is_temporal()) and not column.name.lower().endswith("id"):
        return _number(column)
    text = column.cast(pl.String, strict=False).str.to_lowercase()
    words = text.str.extract_all(_WORD)
    if (words.list.len().mean() or 0) > _WORDS:  # type: ignore[operator]
        return _listed(column.name, words)
    text = text.str.strip_chars()
    return _listed(
        column.name, pl.select(pl.when(text != "").then(text.reshape((-1, 1)).cast(pl.List(pl.String)))).to_series()
    )


def _listed(name: str, lists: pl.Series) -> Block:
    """TF-IDF: count * (log((1 + rows) / (1 + rows that hold it)) + 1), rows without any entry left out of the count."""
    table = pl.DataFrame({"row": np.arange(len(lists)), "term": lists}).explode("term").drop_nulls()
    table = table.group_by("row", "term").len().sort("row", "term")
    names = table["term"].unique().sort()
    terms_T = names.search_sorted(table["term"]).to_numpy().astype(np.int64)
    held_F = np.bincount(terms_T, minlength=len(names))
    rows_T = table["row"].to_numpy().astype(np.int64)
    idf_F = np.log((1 + len(np.unique(rows_T))) / (1 + held_F)) + 1
    terms, values_T = _unit(rows_T, terms_T, table["len"].to_numpy() * idf_F[terms_T], len(lists))
    return Block(name, terms, values_T, len(names))


def _number(column: pl.Series) -> Block:
    """Each number between two quantiles, with the share of each."""
    physical = column.to_physical() if column.dtype.is_temporal() else column
    numbers_N = physical.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    rows_T = np.flatnonzero(np.isfinite(numbers_N))
    known_T = numbers_N[rows_T]
    if not len(known_T):
        return Block(column.name, Jagged.empty(len(column)), np.empty(0), 0)
    count = min(_QUANTILES, max(2, len(np.unique(known_T)) // 2))
    knots_F = np.unique(np.quantile(known_T, np.linspace(0, 1, count)))
    place_T = np.interp(known_T, knots_F, np.arange(len(knots_F)))
    low_T = np.minimum(place_T.astype(np.int64), max(len(knots_F) - 2, 0))
    share_T = place_T - low_T
    pairs_T = np.repeat(rows_T, 2)
    terms_T = np.stack([low_T, np.minimum(low_T + 1, len(knots_F) - 1)], axis=1).ravel()
    values_T = np.stack([1 - share_T, share_T], axis=1).ravel()
    kept_T = values_T > 0
    terms, values_T = _unit(pairs_T[kept_T], terms_T[kept_T], values_T[kept_T], len(column))
    return Block(column.name, terms, values_T, len(knots_F))


def _unit(
    rows_T: npt.NDArray[Any], terms_T: npt.NDArray[Any], values_T: npt.NDArray[np.float64], size: int
) -> tuple[Jagged, npt.NDArray[np.float64]]:
    """Rows, rising, of length 1."""
    lengths_N = np.sqrt(np.bincount(rows_T, weights=values_T**2, minlength=size))
    terms = Jagged.from_lengths(terms_T.astype(np.int32), np.bincount(rows_T, minlength=size))
    return terms, values_T / lengths_N[rows_T]
