"""Questions and answers as tables of the caller's library: what comes in as pandas goes out as pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.ids import Id

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Asked", "read_histories", "read_users"]

_LIBRARIES = {"polars": "polars", "pandas": "pandas", "pyarrow": "pyarrow", "duckdb": "duckdb", "_duckdb": "duckdb"}


class Asked:
    """Who is asked about, and how the answer's first column looks.

    ids: distinct users (or query numbers) in order of first appearance.
    """

    def __init__(self, column: str, ids: list[Any], library: str = "polars", dtype: Any = None) -> None:
        self.column, self.ids, self.library, self.dtype = column, ids, library, dtype

    def answer(
        self, lengths_B: npt.NDArray[np.int64], item_ids: Sequence[Id], scores_T: npt.NDArray[np.float32]
    ) -> Any:
        """A table of self.column, item_id, score, rank (from 1); query i has lengths_B[i] rows, best first."""
        import polars as pl

        ends_B = np.cumsum(lengths_B)
        which_T = np.repeat(np.arange(len(lengths_B)), lengths_B)
        rank_T = np.arange(len(which_T)) - np.repeat(ends_B - lengths_B, lengths_B) + 1
        keys = pl.Series(self.column, self.ids, dtype=self.dtype if self.library == "polars" else None)
        frame = pl.DataFrame(
            [
                keys.gather(which_T),
                pl.Series("item_id", item_ids, dtype=None if len(item_ids) else pl.String),
                pl.Series("score", scores_T),
                pl.Series("rank", rank_T.astype(np.int32)),
            ]
        )
        return _into(frame, self)


def read_users(users: Any) -> Asked:
    """From a list, an array, a column, a table with a column `user_id` (or just one column), or one id."""
    if isinstance(users, str | int):
        users = [users]
    library, column, dtype = _column(users, "user_id")
    ids = [user.item() if isinstance(user, np.generic) else user for user in column]
    if any(user is None for user in ids):
        raise InputError(f"user {ids.index(None)} of those asked about is missing (null): drop it first")
    return Asked("user_id", list(dict.fromkeys(ids)), library, dtype)


def read_histories(histories: Any) -> tuple[Asked, list[list[Id]]]:
    """From lists of item ids (queries are numbered from 0), or a table of `user_id` (or `query`) and `item_id`.

    Rows of a table are a user's events, oldest first.
    """
    if _library(histories) is None:
        lists = [[item.item() if isinstance(item, np.generic) else item for item in history] for history in histories]
        return Asked("query", list(range(len(lists)))), lists
    names = list(histories.columns) if _library(histories) != "pyarrow" else list(histories.column_names)
    key = next((name for name in ("user_id", "query") if name in names), None)
    if key is None or "item_id" not in names:
        raise InputError(
            f"a table of histories needs columns user_id and item_id; it has: {', '.join(map(str, names))}"
        )
    library, keys, dtype = _column(histories, key)
    _, items, _ = _column(histories, "item_id")
    rows: dict[Any, list[Id]] = {}
    for user, item in zip(keys, items, strict=True):
        rows.setdefault(user, []).append(item)
    return Asked(key, list(rows), library, dtype), list(rows.values())


def _library(value: Any) -> str | None:
    return _LIBRARIES.get(type(value).__module__.split(".")[0])


def _column(value: Any, name: str) -> tuple[str, list[Any], Any]:
    """(library, values, the column's own type) of a column, or of the column `name` of a table."""
    library = _library(value)
    if library is None:
        return "polars", list(value), None
    if library == "duckdb":
        return library, [row[0] for row in value.select(_only(value.columns, name)).fetchall()], None
    if library == "pyarrow":
        if hasattr(value, "column_names"):
            value = value.column(_only(value.column_names, name))
        return library, value.to_pylist(), value.type
    if hasattr(value, "collect"):
        value = value.collect()
    if hasattr(value, "columns"):
        value = value[_only(list(value.columns), name)]
    missing = value.isna() if library == "pandas" else value.is_null()
    column = value.tolist() if library == "pandas" else value.to_list()
    return library, [None if gone else v for v, gone in zip(column, missing, strict=True)], value.dtype


def _only(names: Sequence[str], name: str) -> str:
    if name in names:
        return name
    if len(names) == 1:
        return names[0]
    raise InputError(f"the table has no column {name!r}; it has: {', '.join(map(str, names))}")


def _into(frame: pl.DataFrame, asked: Asked) -> Any:
    if asked.library == "polars":
        return frame
    if asked.library == "pandas":
        import pandas

        answer = pandas.DataFrame({name: frame[name].to_numpy() for name in frame.columns})
        return answer.astype({asked.column: asked.dtype}) if asked.dtype is not None else answer
    table = frame.to_arrow()
    if asked.library == "duckdb":
        import duckdb

        return duckdb.from_arrow(table)
    place = table.column_names.index(asked.column)
    return table.set_column(place, asked.column, table.column(place).cast(asked.dtype))
