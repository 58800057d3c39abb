"""A raw log to a Dataset: read, clean, order, core, split, encode."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest
from leanrec.data.clean import parse_positive
from leanrec.data.dataset import TEST, TRAIN, VALID, Dataset, Interactions, Protocol
from leanrec.data.ingest import Log, ingest
from leanrec.data.readers import Events, choose_columns, companion, open_events, read_table
from leanrec.data.report import Report
from leanrec.data.split import Split, assign, certifying, draw_valid, parse_split

__all__ = ["prepare"]

REPEATS_FROM = 0.05
_DROPPABLE = ("duplicates", "bots")


def prepare(
    events: Any,
    *,
    items: Any = None,
    users: Any = None,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    value_col: str | None = None,
    order_by: str | None = None,
    split: str = "leave-one-out",
    min_count: int = 0,
    repeats: bool | str | None = None,
    positive: str | None = None,
    drop: Collection[str] = (),
    certify: float = 0.5,
    seed: int = 0,
    out: str | Path | None = None,
    name: str | None = None,
) -> Dataset:
    """Turn a raw log into a Dataset, saved to `out` when given.

    events: a file, glob or folder (Parquet, CSV, TSV, JSON Lines, Arrow, RecBole `.inter`), any frame that speaks Arrow
    (Polars, pandas, DuckDB, PyArrow), or a SciPy sparse matrix of users by items. Columns are `user_id`, `item_id`,
    `timestamp` (Unix seconds) and `value` unless named. A user's events are ordered by time, ties by `order_by`, then by
    position; without times by `order_by` alone; without either, only `column:NAME` splits are possible.
    items, users: tables of attributes by `item_id`, `user_id`; one row is kept for each id that has events, nulls where
    the table has none. Items without events are not added.
    split: `leave-one-out`, `time:0.8,0.1,0.1`, `ratio:...`, `users:...`, `column:NAME`. min_count: every kept user and
    item has so many events. repeats: whether seen items may be recommended (True or "allowed", False or "excluded";
    None guesses from the data). positive: only these events count, such as 'value>=4'. drop: "duplicates", "bots".
    certify: share of users that nothing may be tuned on.

    Raises InputError when the input is wrong or nothing is left, MachineError when the disk is full.
    """
    parsed = parse_split(split)
    source = open_events(events)
    _check_options(drop, min_count)
    wanted = {"user": user_col, "item": item_col, "time": time_col, "value": value_col, "order": order_by}
    columns = choose_columns(source, {**wanted, "split": parsed.column})
    filter_ = parse_positive(positive) if positive else None
    report = Report(source=source.where, columns=columns)
    log = ingest(source, columns, filter_, report)
    _sort(log)
    data = _assemble(log, parsed, split, repeats, certify, seed, report, name or _name_of(events), items)
    if out is not None:
        data.save(out)
        return Dataset.load(out)
    return data


def _check_options(drop: Collection[str], min_count: int) -> None:
    for what in drop:
        if what not in _DROPPABLE:
            raise InputError(
                f"drop={what!r}{nearest(what, list(_DROPPABLE))}: only {' and '.join(_DROPPABLE)} can be dropped"
            )
    if min_count < 0:
        raise InputError(f"min_count={min_count} must not be negative")


def _sort(log: Log) -> None:
    keys = [key for key in (log.order, log.times, log.users) if key is not None]
    order = np.lexsort(keys)
    for role in ("users", "items", "times", "values", "order", "split"):
        array = getattr(log, role)
        if array is not None:
            setattr(log, role, array[order])


def _assemble(
    log: Log, parsed: Split, split: str, repeats: Any, certify: float, seed: int, report: Report, name: str, items: Any
) -> Dataset:
    events = Jagged.from_lengths(log.items, np.bincount(log.users, minlength=len(log.user_ids)))
    ordered = log.times is not None or log.order is not None
    labels = log.split if log.split is not None else assign(parsed, events, log.times, log.user_ids, seed)
    attributes = None
    if items is not None:
        table, _ = read_table(items)
        attributes = pl.DataFrame({"item_id": log.item_ids.ids()}).join(
            table, on="item_id", how="left", maintain_order="left"
        )
    return Dataset(
        name=name,
        users=log.user_ids,
        items=log.item_ids,
        interactions=Interactions(events, labels, log.times, log.values),
        protocol=Protocol(split=split, repeats=bool(repeats), ordered=ordered, certify=certify, seed=seed),
        certify=certifying(log.user_ids, certify, seed),
        report=report,
        attributes=attributes,
    )


def _name_of(events: Any) -> str:
    if isinstance(events, str | os.PathLike):
        path = Path(os.fspath(events))
        return path.parent.name if path.stem in ("interactions", "events") and path.parent.name else path.stem
    return "data"
