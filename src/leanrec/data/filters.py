"""Filters that look at more than one row: duplicates, suspected bots, the core of users and items."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.ingest import Log
from leanrec.data.order import days_of_users, seen_marks
from leanrec.data.report import BotReport, Report
from leanrec.kernels.sequences import REPEAT, TWICE

__all__ = ["apply_min_count", "compact", "drop_outliers", "suspect_bots"]

BOT_EVENTS_PER_DAY = 1_000.0
BOT_EVENTS = 20_000.0
BOT_DEVIATIONS = 6.0


def drop_outliers(log: Log, ordered: bool, drop: frozenset[str], report: Report) -> None:
    """Count duplicates, repeats and suspected bots in an arranged log, and drop what is asked; in place."""
    offsets = log.offsets()
    marks = seen_marks(log, offsets)
    if log.times is None and ordered:
        marks[marks == TWICE] = REPEAT
    report.duplicates = int((marks == TWICE).sum())
    report.repeat_share = float((marks == REPEAT).sum()) / max(len(log) - report.duplicates, 1)
    bots, report.bots = suspect_bots(log, offsets)
    keep = np.ones(len(log), dtype=np.bool_)
    if "duplicates" in drop:
        keep &= marks != TWICE
        report.count_dropped("duplicate of an earlier row", report.duplicates)
    if "bots" in drop and report.bots.users:
        report.bots.dropped = True
        from_bots = bots[log.users]
        report.count_dropped("from a suspected bot", int((from_bots & keep).sum()))
        keep &= ~from_bots
    if not keep.all():
        log.take(keep)


def suspect_bots(log: Log, offsets: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], BotReport]:
    """(users,) whose rate stands out: events per active day, or events per user where there are no times.

    The threshold is six robust standard deviations (1.4826 x the median absolute deviation) of the logarithm above its
    median, and never below 1,000 events a day or 20,000 events.
    """
    counts = np.diff(offsets).astype(np.float64)
    if log.times is None:
        rates, floor, unit = counts, BOT_EVENTS, "events per user"
    else:
        days = days_of_users(log, offsets)
        rates, floor, unit = counts / np.maximum(days, 1), BOT_EVENTS_PER_DAY, "events per active day"
    logs = np.log(rates[counts > 0])
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    threshold = max(floor, float(np.exp(middle + BOT_DEVIATIONS * spread)))
    bots = rates > threshold
    return bots, BotReport(users=int(bots.sum()), events=int(counts[bots].sum()), threshold=threshold, unit=unit)


def apply_min_count(log: Log, min_count: int, report: Report) -> None:
    """Drop users and items with fewer events until all have enough (the iterative k-core); in place."""
    before, rounds = len(log), 0
    while min_count > 1:
        users = np.bincount(log.users, minlength=len(log.user_ids))
        items = np.bincount(log.items, minlength=len(log.item_ids))
        keep = (users[log.users] >= min_count) & (items[log.items] >= min_count)
        if keep.all():
            break
        rounds += 1
        log.take(keep)
        if not len(log):
            raise InputError(
                f"{report.source}: nothing is left with min_count={min_count}: no group of users and items has so many "
                f"events each; choose a smaller one"
            )
    if rounds:
        report.count_dropped(f"user or item with fewer than {min_count} events ({rounds} rounds)", before - len(log))


def compact(log: Log) -> None:
    """Forget ids without events; in place."""
    log.user_ids, log.users = _compact(log.user_ids, log.users)
    log.item_ids, log.items = _compact(log.item_ids, log.items)


def _compact(ids: Vocabulary, rows: npt.NDArray[np.int32]) -> tuple[Vocabulary, npt.NDArray[np.int32]]:
    used = np.zeros(len(ids), dtype=np.bool_)
    used[rows] = True
    if used.all():
        return ids, rows
    fresh = np.cumsum(used, dtype=np.int32) - np.int32(1)
    kept: Any = ids.ids(np.flatnonzero(used))
    return Vocabulary(kept), fresh[rows]
