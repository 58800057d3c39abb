"""A raw log to a Dataset: read, clean, order, core, split, encode."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest
from leanrec.data.attributes import align
from leanrec.data.clean import parse_positive
from leanrec.data.columns import describe_attributes
from leanrec.data.context import CONTEXT_ROLE
from leanrec.data.dataset import Dataset, Interactions
from leanrec.data.filters import apply_min_count, drop_outliers
from leanrec.data.ingest import ingest
from leanrec.data.labels import count_labels, label_events
from leanrec.data.log import Log
from leanrec.data.order import arrange
from leanrec.data.readers import Events, choose_columns, companion, open_events
from leanrec.data.report import Report
from leanrec.data.scratch import Scratch
from leanrec.data.split import TEST, Protocol, Split, certifying, parse_split

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
    context: Collection[str] = (),
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
    """Turn a raw log into a Dataset, saved to `out` when given; a log larger than memory is then prepared on the disk.

    events: a file, glob or folder (Parquet, CSV, TSV, JSON Lines, Arrow, RecBole `.inter`), any frame that speaks Arrow
    (Polars, pandas, DuckDB, PyArrow), or a SciPy sparse matrix of users by items. Columns are `user_id`, `item_id`,
    `timestamp` (Unix seconds) and `value` unless named. A user's events are ordered by time, ties by `order_by`, then
    by position; without times by `order_by` alone; without either, only `random` and `column:NAME` splits are possible.
    context: columns that say something of the moment, such as the device, for models that look at it.
    items, users: tables of attributes by `item_id`, `user_id`; one row is kept for each id that has events, nulls where
    the table has none. Items without events are not added. A folder of events is searched for `items.*` and `users.*`.
    split: `leave-one-out`, `time:0.8,0.1,0.1`, `ratio:...`, `users:...`, `random:...`, `column:NAME`.
    min_count: every kept user and item has so many events. repeats: whether seen items may be recommended (True or
    "allowed", False or "excluded"; None guesses from the data). positive: only these events count, as in 'value>=4'.
    drop: "duplicates", "bots". certify: share of users that nothing may be tuned on.

    Memory: what a batch of rows needs, a few numbers for each user and item, and at most `scratch.MEMORY` for events;
    without `out`, all events too. Raises InputError when the input is wrong or nothing is left, MachineError when the
    disk is full.
    """
    parsed = parse_split(split)
    _check_options(drop, min_count, certify)
    allowed = _repeats(repeats)
    condition = parse_positive(positive) if positive else None
    source = open_events(events)
    columns = choose_columns(
        source,
        {"user": user_col, "item": item_col, "time": time_col, "value": value_col, "order": order_by}
        | {"split": parsed.column}
        | {f"{CONTEXT_ROLE}{column}": column for column in context},
        also={"positive": condition.column} if condition else {},
    )
    report = Report(source=source.where, columns=columns)
    ordered = ("time" in columns or "order" in columns) and parsed.kind != "random"
    _check_order(parsed, split, ordered, "time" in columns, source)
    with Scratch(None if out is None else Path(out).absolute().parent) as scratch:
        log = arrange(ingest(source, columns, condition, report, scratch), scratch)
        drop_outliers(log, ordered, frozenset(drop), report)
        apply_min_count(log, min_count, report)
        log.forget_unused()
        labels, drawn = label_events(log, parsed, ordered, seed, scratch)
    protocol = Protocol(
        split=split,
        repeats=_guess_repeats(report) if allowed is None else allowed,
        ordered=ordered,
        certify=certify,
        seed=seed,
        drawn_valid=drawn,
    )
    _describe(report, log, labels)
    data = Dataset(
        name=name or _name_of(events),
        users=log.user_ids,
        items=log.item_ids,
        interactions=Interactions(Jagged(log.items, log.offsets), labels, log.times, log.values, log.context),
        protocol=protocol,
        certify=certifying(log.user_ids, certify, seed),
        report=report,
        attributes=align(_or_companion(items, events, "items"), log.item_ids, "item", columns["item"], report),
        user_attributes=align(_or_companion(users, events, "users"), log.user_ids, "user", columns["user"], report),
    )
    report.features = describe_attributes(data)
    if out is None:
        return data
    data.save(out)
    return Dataset.load(out)


def _or_companion(table: Any, events: Any, stem: str) -> Any:
    return companion(events, stem) if table is None else table


def _check_options(drop: Collection[str], min_count: int, certify: float) -> None:
    for what in drop:
        if what not in _DROPPABLE:
            known = " and ".join(_DROPPABLE)
            raise InputError(f"drop={what!r}{nearest(what, list(_DROPPABLE))}: only {known} can be dropped")
    if min_count < 0:
        raise InputError(f"min_count={min_count} must not be negative")
    if not 0 <= certify <= 1:
        raise InputError(f"certify={certify} must lie between 0 and 1")


def _repeats(asked: bool | str | None) -> bool | None:
    if asked is None or isinstance(asked, bool):
        return asked
    if asked not in ("allowed", "excluded"):
        raise InputError(f"repeats={asked!r}{nearest(asked, ['allowed', 'excluded'])}: it is 'allowed' or 'excluded'")
    return asked == "allowed"


def _check_order(parsed: Split, split: str, ordered: bool, timed: bool, source: Events) -> None:
    if parsed.kind == "time" and not timed:
        raise InputError(f"{source.where}: split {split!r} needs times: name their column with --time-col")
    if parsed.needs_order and not ordered:
        raise InputError(
            f"{source.where}: split {split!r} needs the order of events, but there is neither a time nor an order "
            f"column (columns: {', '.join(source.names)}): name one with --time-col or --order-by, or choose the split "
            f"random:0.8,0.1,0.1 or column:NAME"
        )


def _guess_repeats(report: Report) -> bool:
    allowed = report.repeat_share >= REPEATS_FROM
    report.notes.append(
        f"{100 * report.repeat_share:.1f} % of events are of an item that the user had before: seen items "
        f"{'may' if allowed else 'may not'} be recommended (a guess, 'may' from {100 * REPEATS_FROM:.0f} %; "
        f"--repeats {'excluded' if allowed else 'allowed'} for the other)"
    )
    return allowed


def _describe(report: Report, log: Log, labels: npt.NDArray[np.uint8]) -> None:
    report.events, report.users, report.items = len(log), len(log.user_ids), len(log.item_ids)
    if log.times is not None:
        report.first_time, report.last_time = float(log.times.min()), float(log.times.max())
    counts = count_labels(log, labels).tolist()
    names = ("train", "valid", "test", "context")
    report.splits = {name: count for name, count in zip(names, counts, strict=True) if count}
    if not counts[TEST]:
        report.notes.append("no event is left to test on: every user has too few events for this split")


def _name_of(events: Any) -> str:
    if isinstance(events, str | os.PathLike):
        path = Path(os.fspath(events))
        inside = path.stem in ("interactions", "events") and path.parent.name
        return path.parent.name if inside else path.name.split(".", 1)[0].replace("*", "") or "data"
    return "data"
