"""Filters that look at more than one row: duplicates, suspected bots, the core of users and items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.data.log import Block, Log
from leanrec.data.order import Marks, days_of_users
from leanrec.data.report import BotReport, Report
from leanrec.kernels.sequences import REPEAT, TWICE

__all__ = ["apply_min_count", "drop_outliers", "suspect_bots"]

BOT_EVENTS_PER_DAY = 1_000.0
BOT_EVENTS = 20_000.0
BOT_DEVIATIONS = 6.0


def drop_outliers(log: Log, ordered: bool, drop: frozenset[str], report: Report) -> None:
    """Count duplicates, repeats and suspected bots, and drop what is asked; in place."""
    marks = Marks(log, ordered)
    repeats = 0
    for block in log.blocks():
        found = np.bincount(marks.of(block), minlength=3)
        report.duplicates += int(found[TWICE])
        repeats += int(found[REPEAT])
    report.repeat_share = repeats / max(len(log) - report.duplicates, 1)
    bots, report.bots = suspect_bots(log)
    report.bots.dropped = "bots" in drop and report.bots.users > 0
    if not report.bots.dropped and not ("duplicates" in drop and report.duplicates):
        return
    if "duplicates" in drop:
        report.count_dropped("duplicate of an earlier row", report.duplicates)
    fresh = Marks(log, ordered)

    def kept(block: Block) -> npt.NDArray[np.bool_]:
        keep = np.ones(len(log.items[block.events]), np.bool_)
        if "duplicates" in drop:
            keep = fresh.of(block) != TWICE
        if report.bots.dropped:
            from_bots = np.repeat(bots[block.users], np.diff(block.offsets))
            report.count_dropped("from a suspected bot", int((from_bots & keep).sum()))
            keep &= ~from_bots
        return keep

    log.keep(kept)


def suspect_bots(log: Log) -> tuple[npt.NDArray[np.bool_], BotReport]:
    """(users,) whose rate stands out: events per active day, or events per user where there are no times.

    The threshold is six robust standard deviations (1.4826 x the median absolute deviation) of the logarithm above its
    median, and never below 1,000 events a day or 20,000 events.
    """
    counts = np.diff(log.offsets).astype(np.float64)
    if log.times is None:
        rates, floor, unit = counts, BOT_EVENTS, "events per user"
    else:
        days = days_of_users(log)
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
        users, items = np.diff(log.offsets) >= min_count, log.item_counts() >= min_count
        left = len(log)

        def kept(
            block: Block, users: npt.NDArray[np.bool_] = users, items: npt.NDArray[np.bool_] = items
        ) -> npt.NDArray[np.bool_]:
            keep: npt.NDArray[np.bool_] = items[log.items[block.events]]
            return keep & np.repeat(users[block.users], np.diff(block.offsets))

        log.keep(kept)
        if len(log) == left:
            break
        rounds += 1
        if not len(log):
            raise InputError(
                f"{report.source}: nothing is left with min_count={min_count}: no group of users and items has so many "
                f"events each; choose a smaller one"
            )
    if rounds:
        report.count_dropped(f"user or item with fewer than {min_count} events ({rounds} rounds)", before - len(log))
