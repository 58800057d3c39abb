"""Events and recommendations from wherever they are, as the frames that checks look at. All of it is held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.data.clean import clean_ids, clean_times, id_kind
from leanrec.data.dataset import Dataset
from leanrec.data.readers import Events, check_files, choose_columns, companion, open_events, read_table, reading
from leanrec.data.report import Report
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID
from leanrec.evaluation.audit.base import Lists, Log

__all__ = ["read_log", "read_recommendations"]

_LABELS = {"train": TRAIN, "training": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "dev": VALID,
           "test": TEST, "context": CONTEXT, "history": CONTEXT}  # fmt: skip


def read_log(
    source: Any,
    *,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    order_by: str | None = None,
    split_col: str | None = None,
) -> Log:
    """A prepared data set (its folder, or a Dataset), or any events, with a column of labels where it was split.

    split_col: by default `split`, where that is a column. InputError when a column is missing or a label unknown.
    """
    if isinstance(source, Dataset):
        return _of_dataset(source)
    if isinstance(source, str | Path) and (Path(source) / "dataset.json").exists():
        return _of_dataset(Dataset.load(source))
    events = open_events(source)
    names = events.names
    label = split_col or ("split" if "split" in names else None)
    wanted = {"user": user_col, "item": item_col, "time": time_col, "order": order_by, "split": label}
    columns = choose_columns(events, wanted)
    check_files(events, set(columns.values()))
    with reading(events):
        raw = events.frame.select(**{role: pl.col(name) for role, name in columns.items()}).collect()
    frame = raw.select(
        *(_ids(raw[role], columns[role], events).alias(role) for role in ("user", "item")),
        pl.int_range(1, pl.len() + 1).alias("row"),
    )
    if "time" in columns:
        frame = frame.with_columns(
            clean_times(raw["time"], columns["time"], events.where, Report()).alias("time"),
            raw["time"].cast(pl.Float64, strict=False).alias("raw_time"),
        )
    if "split" in columns:
        frame = frame.with_columns(_split(raw["split"], columns["split"], events.where).alias("split"))
    described = isinstance(source, str | Path) and companion(source, "items") is not None
    return Log(
        where=events.where,
        frame=frame,
        split="column" if "split" in columns else "",
        order=columns.get("order"),
        described=described,
    )


def _of_dataset(data: Dataset) -> Log:
    events = data.interactions
    frame = pl.DataFrame(
        {
            "user": pl.Series(data.users.ids()).cast(pl.String).gather(events.items.row_of()),
            "item": pl.Series(data.items.ids()).cast(pl.String).gather(np.asarray(events.items.values)),
            "row": np.arange(1, len(events) + 1),
            "split": np.asarray(events.split),
        }
    )
    if events.times is not None:
        frame = frame.with_columns(time=pl.Series(np.asarray(events.times)))
    return Log(
        where=data.name,
        frame=frame,
        split=data.protocol.split,
        order=data.report.columns.get("order"),
        repeats=data.protocol.repeats,
        described=data.attributes is not None,
        prepared=True,
    )


def _ids(ids: pl.Series, column: str, events: Events) -> pl.Series:
    kind = id_kind(ids.dtype, column, events.where)
    return clean_ids(ids, kind, column, events.where, 0, Report()).cast(pl.String)


def _split(labels: pl.Series, column: str, where: str) -> pl.Series:
    known = labels.cast(pl.String, strict=False).str.to_lowercase()
    numbers = known.replace_strict(_LABELS, default=None, return_dtype=pl.UInt8)
    if numbers.null_count():
        value = labels.filter(numbers.is_null())[0]
        raise InputError(f"{where}: {value!r} in the column {column!r} is none of train, valid, test")
    return numbers


def read_recommendations(table: Any, *, k: int | None = None) -> Lists:
    """A frame or file of user_id, item_id, and rank or score (both, where they should agree)."""
    frame, where = read_table(table, text_columns=["user_id", "item_id"])
    for name in ("user_id", "item_id"):
        if name not in frame.columns:
            hint = nearest(name, frame.columns)
            raise InputError(
                f"{where} has no column {name!r}{hint}; recommendations need user_id, item_id and rank or score"
            )
    given = [name for name in ("rank", "score") if name in frame.columns]
    if not given:
        raise InputError(f"{where} has neither a column 'rank' nor 'score' to order the recommendations by")
    for name in given:
        if not frame[name].dtype.is_numeric():
            raise InputError(f"{where}: the column {name!r} holds {frame[name].dtype}, not numbers")
    lists = frame.select(
        user=pl.col("user_id").cast(pl.String),
        item=pl.col("item_id").cast(pl.String),
        row=pl.int_range(1, pl.len() + 1),
        **{name: pl.col(name).cast(pl.Float64) for name in given},
    )
    by = pl.col("rank") if "rank" in given else -pl.col("score").fill_nan(-np.inf)
    lists = lists.sort(by, maintain_order=True)
    return Lists(where=where, frame=lists.with_columns(place=pl.int_range(1, pl.len() + 1).over("user")), k=k)
