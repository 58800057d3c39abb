"""Tables of item and user attributes, aligned to rows."""

from __future__ import annotations

from typing import Any

import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.readers import DEFAULT_COLUMNS, absent, open_events, read_table
from leanrec.data.report import Report

__all__ = ["align", "rows_of_new"]

_LISTS = ("categories", "genres", "tags")


def align(table: Any, ids: Vocabulary, role: str, column: str, report: Report) -> pl.DataFrame | None:
    """One row per id in the order of rows, first column `item_id` or `user_id`; nulls where the table has none.

    Text columns `categories`, `genres`, `tags` with values like `A|B` become lists. Of rows with the same id the first
    counts.
    """
    if table is None:
        return None
    id_name = f"{role}_id"
    frame, where = _with_ids(table, role, column)
    if not len(frame):
        report.notes.append(f"{where} holds no rows: there are no {role} attributes")
        return None
    rows = len(frame)
    key = pl.Series(id_name, ids.ids(), dtype=pl.Int64 if ids.numeric else pl.String)
    frame = _as_ids(frame, id_name, key.dtype)
    distinct = frame.unique(id_name, keep="first", maintain_order=True)
    if len(distinct) < len(frame):
        report.notes.append(f"{where}: {len(frame) - len(distinct):,} rows repeat an id, the first of each counts")
    aligned = key.to_frame().join(distinct, on=id_name, how="left", maintain_order="left")
    unknown = len(key) - int(key.is_in(distinct[id_name].implode()).sum())
    if unknown == len(key):
        raise InputError(f"{where}: none of its {rows:,} {role} ids is an id of the events: is it the right table?")
    if unknown:
        report.notes.append(
            f"{where}: {unknown:,} of {len(key):,} {role}s have no row there, their attributes are empty"
        )
    return _with_lists(aligned).select(id_name, pl.exclude(id_name))


def rows_of_new(table: Any, known: Vocabulary, column: str) -> tuple[pl.DataFrame, int]:
    """Rows of the items that `known` lacks, one each, first column `item_id`; and how many rows it has already.

    InputError for a table without ids, or with ids of another type than those known.
    """
    frame, where = _with_ids(table, "item", column)
    whole = _as_ids(frame, "item_id", pl.Int64 if known.numeric else pl.String)
    if len(frame) and not len(whole):
        raise InputError(
            f"{where}: its item ids are not {'whole numbers' if known.numeric else 'text'} as the bundle's"
        )
    distinct = whole.unique("item_id", keep="first", maintain_order=True)
    fresh = distinct.filter(known.rows(distinct["item_id"].to_list()) < 0)
    return _with_lists(fresh).select("item_id", pl.exclude("item_id")), len(distinct) - len(fresh)


def _as_ids(frame: pl.DataFrame, id_name: str, dtype: Any) -> pl.DataFrame:
    """The rows whose id can be of that type, with ids of that type."""
    given = frame[id_name]
    if given.dtype.is_float() and dtype == pl.Int64:
        given = given.set((given != given.floor()).fill_null(False), None).fill_nan(None)
    return frame.with_columns(given.cast(dtype, strict=False)).drop_nulls(id_name)


def _with_ids(table: Any, role: str, column: str) -> tuple[pl.DataFrame, str]:
    """The table with its ids under `item_id` or `user_id`: the events' column name first, then the usual ones."""
    source = open_events(table)
    names = source.names
    candidates = (column, *DEFAULT_COLUMNS[role], "id")
    found = next((name for name in candidates if name in names), None)
    if found is None:
        raise InputError(absent(source, f"{role}_id", names, f"rename the one that holds the ids of {role}s"))
    frame, where = read_table(source, text_columns=[found])
    id_name = f"{role}_id"
    if found != id_name and id_name in frame.columns:
        frame = frame.drop(id_name)
    return frame.rename({found: id_name}), where


def _with_lists(frame: pl.DataFrame) -> pl.DataFrame:
    split = [
        pl.col(name).str.split("|")
        for name in _LISTS
        if frame.schema.get(name) == pl.String and frame[name].str.contains("|", literal=True).any()
    ]
    return frame.with_columns(split)
