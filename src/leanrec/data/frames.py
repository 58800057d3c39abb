"""Tables that are already in memory, from any library, as Polars frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from leanrec.core.errors import InputError

__all__ = ["POLARS_ERRORS", "first_line", "from_arrow", "from_sparse"]


POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises about a broken file; a panic is what it has not foreseen (and no Exception to Python)."""


def first_line(error: BaseException) -> str:
    """The first line of what a library says, short enough for one sentence."""
    text = str(error).strip().splitlines()
    return text[0].rstrip(":. ")[:300] if text else type(error).__name__


def from_arrow(source: Any) -> pl.DataFrame:
    try:
        if type(source).__module__.split(".")[0] == "pandas":
            return _from_pandas(source)
        return pl.DataFrame(source)
    except InputError:
        raise
    except Exception as error:  # foreign libraries raise what they like
        raise InputError(f"the frame cannot be read through Arrow ({first_line(error)})") from error


def _from_pandas(source: Any) -> pl.DataFrame:
    """Column by column, so that one that mixes types is named, without asking for PyArrow."""
    columns = {}
    for name in source.columns:
        column = source[name]
        if column.dtype == object:
            kinds = {type(v).__name__ for v in column[column.notna()]}
            if len(kinds) > 1 and not kinds <= {"int", "float"}:
                raise InputError(
                    f"the frame's column {str(name)!r} mixes {' and '.join(sorted(kinds))}: convert it to one type"
                )
            columns[str(name)] = pl.Series(
                str(name), [None if m else v for v, m in zip(column, column.isna(), strict=True)]
            )
        else:
            columns[str(name)] = pl.Series(str(name), column)
    return pl.DataFrame(columns)


def from_sparse(matrix: Any) -> pl.DataFrame:
    """One row per stored entry: row number, column number, value. A matrix has neither order nor time."""
    coo = matrix.tocoo()
    return pl.DataFrame(
        {
            "user_id": np.asarray(coo.row, dtype=np.int64),
            "item_id": np.asarray(coo.col, dtype=np.int64),
            "value": np.asarray(coo.data, dtype=np.float64),
        }
    )
