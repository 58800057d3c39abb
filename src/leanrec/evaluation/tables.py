"""Recommendations from any library, as a table of user_id, item_id and rank or score, read as lists to be judged.

Rules, each said with a count where it was needed: rows without a usable place are dropped; a repeated item counts at
its best place; the lists are closed up afterwards, so that places run 1, 2, 3...; equal ranks or scores keep the order
of the table; an item that the data does not know keeps its place as a miss; a user without a list counts as zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.registry import nearest
from leanrec.data.dataset import Cases, Dataset
from leanrec.data.readers import read_table

__all__ = ["read_lists"]


def read_lists(table: Any, data: Dataset, cases: Cases, k: int) -> tuple[npt.NDArray[np.int32], list[str]]:
    """(B, k) item rows for the users of `cases`, -1 for an empty place or an unknown item; and what had to be said.

    table: a frame that speaks Arrow, or the path of one. InputError when a column is missing or no row can be used.
    """
    text = [name for name, ids in (("user_id", data.users), ("item_id", data.items)) if not ids.numeric]
    frame, where = read_table(table, text_columns=text)
    by = _order_column(frame, where)
    notes: list[str] = []
    rows = _rows(frame, by, data, cases, where, notes)
    # Polars sorts stably where asked to, so equal places keep the order of the table.
    rows = rows.sort("place", maintain_order=True)
    distinct = rows.unique(["query", "item_id"], keep="first", maintain_order=True)
    _say(notes, len(rows) - len(distinct), "repeated items counted once, at their best place")
    tied = rows.select(pl.struct("query", "place").is_duplicated().sum()).item()
    _say(notes, tied, f"rows share their {by} with another of the same user: the order of the table decides")
    ranked = distinct.with_columns(pl.int_range(pl.len()).over("query").alias("rank")).filter(pl.col("rank") < k)
    _say(notes, int((ranked["item"] < 0).sum()), "recommended items are unknown to the data: they count as misses")
    items_BK = np.full((len(cases), k), -1, np.int32)
    items_BK[ranked["query"].to_numpy(), ranked["rank"].to_numpy()] = ranked["item"].to_numpy()
    _say(notes, len(cases) - ranked["query"].n_unique(), "users have no recommendations: they count as zero")
    return items_BK, notes


def _order_column(frame: pl.DataFrame, where: str) -> str:
    for name in ("user_id", "item_id"):
        if name not in frame.columns:
            hint = nearest(name, frame.columns)
            raise InputError(f"{where} has no column {name!r}{hint}; a table of recommendations needs user_id, item_id "
                             "and rank or score")  # fmt: skip
    by = next((name for name in ("rank", "score") if name in frame.columns), None)
    if by is None:
        raise InputError(f"{where} has neither a column 'rank' nor 'score' to order the recommendations by")
    if not frame[by].dtype.is_numeric():
        raise InputError(f"{where}: the column {by!r} holds {frame[by].dtype}, not numbers")
    return by


def _rows(frame: pl.DataFrame, by: str, data: Dataset, cases: Cases, where: str, notes: list[str]) -> pl.DataFrame:
    """The rows about users of `cases`: query, item_id, item (row or -1) and place (rising is better)."""
    place = frame[by].cast(pl.Float64)
    rows = pl.DataFrame(
        {
            "user": _numbers(frame["user_id"], data.users),
            "item": _numbers(frame["item_id"], data.items),
            "item_id": frame["item_id"],
            "place": place if by == "rank" else -place,
        }
    )
    usable = rows.filter(pl.col("place").is_finite() & pl.col("item_id").is_not_null())
    _say(notes, len(rows) - len(usable), f"rows without an item or a {by} were dropped")
    known = usable.filter(pl.col("user") >= 0)
    strangers = len(usable) - len(known)
    _say(notes, strangers, "rows are about users that the data does not know")
    if known.is_empty():
        raise InputError(f"{where} has no recommendation for any user of {data.name}: are user ids of the same kind?")
    query_U = np.full(len(data.users), -1, np.int32)
    query_U[cases.users] = np.arange(len(cases), dtype=np.int32)
    return known.with_columns(query=pl.Series(query_U[known["user"].to_numpy()])).filter(pl.col("query") >= 0)


def _numbers(ids: pl.Series, vocabulary: Vocabulary) -> pl.Series:
    """The row of each id, -1 where unknown; numbers as text, and text as numbers, are taken for what is meant."""
    kind = pl.Int64 if vocabulary.numeric else pl.String
    wanted = ids.cast(kind, strict=False)
    known = pl.DataFrame(
        {"id": pl.Series(vocabulary.ids(), dtype=kind), "row": np.arange(len(vocabulary), dtype=np.int32)}
    ).filter(~pl.Series(vocabulary.erased))
    return pl.DataFrame({"id": wanted}).join(known, on="id", how="left", maintain_order="left")["row"].fill_null(-1)


def _say(notes: list[str], count: int, what: str) -> None:
    if count:
        notes.append(f"{count:,} {what}")
