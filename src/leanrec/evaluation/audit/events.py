"""Faults of a log and of how it was split."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from leanrec.data.split import CONTEXT, TRAIN, VALID
from leanrec.evaluation.audit.base import Finding, Log, finding, note

__all__ = ["EVENT_CHECKS"]

_UNITS = 100.0
"""Times so many times larger than others are in another unit: seconds beside milliseconds differ by 1,000."""


def nothing_held_out(log: Log) -> Finding | None:
    if log.split and (log.test.is_empty() or log.part(TRAIN).is_empty()):
        missing = "test" if log.test.is_empty() else "training"
        return finding("nothing-held-out", f"there are no {missing} events: nothing can be measured", [missing])
    return None


def missing_ids(log: Log) -> Finding | None:
    lost = log.frame.filter(pl.col("user").is_null() | pl.col("item").is_null())
    message = "{n} rows have no user or no item: some tools drop them, others make them one user"
    return finding("missing-ids", message, lost["row"].cast(pl.String))


def mixed_time_units(log: Log) -> Finding | None:
    """As they came: `prepare` reads each in its own unit, other tools do not."""
    if "raw_time" not in log.frame.columns:
        return None
    times = log.frame.filter(pl.col("raw_time") > 0)
    middle = times["raw_time"].median()
    if not isinstance(middle, float):
        return None
    odd = times.filter((pl.col("raw_time") > middle * _UNITS) | (pl.col("raw_time") < middle / _UNITS))
    return finding("mixed-time-units", "{n} times are in another unit than most: sorted, they mislead", odd["user"])


def unordered_history(log: Log) -> Finding | None:
    """Only a prepared data set promises that its rows stand in order."""
    if not (log.prepared and log.timed):
        return None
    back = log.frame.filter(pl.col("time") < pl.col("time").shift(1).over("user"))
    return finding("unordered-history", "{n} events stand after later ones of their user", back["user"])


def future_training(log: Log) -> Finding | None:
    message = "{n} training events are later than their user's first test event: the model has seen the future"
    return _after_test(log, "future-training", message, pl.col("split").is_in([TRAIN, CONTEXT]))


def future_validation(log: Log) -> Finding | None:
    message = "{n} validation events are later than their user's first test event: settings were chosen on the future"
    return _after_test(log, "future-validation", message, pl.col("split") == VALID)


def _after_test(log: Log, kind: str, message: str, which: pl.Expr) -> Finding | None:
    if not (log.split and log.timed):
        return None
    first = log.test.group_by("user").agg(first=pl.col("time").min())
    late = log.frame.filter(which).join(first, on="user").filter(pl.col("time") > pl.col("first"))
    return finding(kind, message, late["user"])


def global_time(log: Log) -> Finding | None:
    """Training events of anyone after the test began: a fault of a split by time, a property of all others."""
    if not (log.split and log.timed) or log.test.is_empty():
        return None
    start = log.test["time"].min()
    training = log.part(TRAIN)
    late = training.filter(pl.col("time") >= start)
    if log.by_time():
        message = "{n} training events are not before the first test event of this split by time"
        return finding("global-time", message, late["user"])
    share = 100 * len(late) / max(len(training), 1)
    message = (
        f"{share:.0f} % of training events happen after somebody's test event: popularity and neighbours know what "
        "was yet to come, as in every split by user; a split by time shows what that is worth"
    )
    return note("global-time", message, late["user"], len(late))


def unstable_order(log: Log) -> Finding | None:
    """What is held out is decided by the order of the file, which sorting, joining or exporting changes."""
    if not log.timed or log.order is not None:
        return None
    if log.split:
        held, message = _tied_at_the_cut(log), "{n} users' last known and first test events have the same time"
    else:
        last = log.frame.filter(pl.col("time") == pl.col("time").max().over("user"))
        held = last.group_by("user").agg(items=pl.col("item").n_unique()).filter(pl.col("items") > 1)["user"].sort()
        message = "{n} users' last events have the same time"
    remedy = ": which is held out is decided by the order of the file; name the column that orders them (--order-by)"
    return finding("unstable-order", message + remedy, held)


def _tied_at_the_cut(log: Log) -> pl.Series:
    ends = log.train.group_by("user").agg(end=pl.col("time").max())
    starts = log.test.group_by("user").agg(start=pl.col("time").min())
    tied = ends.join(starts, on="user").filter(pl.col("end") == pl.col("start"))
    at = log.frame.join(tied, on="user").filter(pl.col("time") == pl.col("start"))
    return at.group_by("user").agg(items=pl.col("item").n_unique()).filter(pl.col("items") > 1)["user"].sort()


def duplicates_across_splits(log: Log) -> Finding | None:
    if not log.split or (not log.timed and log.repeats):
        return None
    both = log.test.join(log.train, on=log.key, how="semi")
    return finding("duplicates-across-splits", "{n} test events are among the training events too", both["user"])


def duplicated_test_rows(log: Log) -> Finding | None:
    if not log.split or (not log.timed and log.repeats):
        return None
    again = log.test.filter(~pl.struct(log.key).is_first_distinct())
    if log.prepared:
        message = "{n} test events stand there again; targets are distinct items, so that they count once"
        return note("duplicated-test-rows", message, again["user"])
    return finding("duplicated-test-rows", "{n} test events stand there again, and count again", again["user"])


def target_in_history(log: Log) -> Finding | None:
    """Where nobody repeats, a target in the history comes from the split or from a leak."""
    if not log.split or not log.never_repeats():
        return None
    known = log.test.join(log.train, on=["user", "item"], how="semi")
    if log.prepared:
        message = "{n} test items are in the history already: seen items are excluded, so they do not count as relevant"
        return note("target-in-history", message, known["user"])
    message = "{n} test items are in their user's history already, where nobody repeats while training"
    return finding("target-in-history", message, known["user"])


def untrained_users(log: Log) -> Finding | None:
    if not log.split:
        return None
    strangers = log.test.join(log.train, on="user", how="anti")["user"].unique().sort()
    if log.by_time():
        message = "{n} test users begin after training ends: nothing is known of them"
        return note("untrained-users", message, strangers)
    message = "{n} test users have no other event: nothing can be known of them; leave them out, or hold out by time"
    return finding("untrained-users", message, strangers)


def untrained_items(log: Log) -> Finding | None:
    if not log.split:
        return None
    fresh = log.test.join(log.train, on="item", how="anti")
    if 2 * len(fresh) >= len(log.test):
        message = "{n} test events, at least half, are of items never seen before: are both parts' ids of one kind?"
        return finding("untrained-items", message, fresh["item"])
    message = "{n} test events are of items never seen before: only a model that reads attributes can find them"
    return note("untrained-items", message, fresh["item"])


EVENT_CHECKS: dict[str, Callable[[Log], Finding | None]] = {
    "nothing-held-out": nothing_held_out,
    "missing-ids": missing_ids,
    "mixed-time-units": mixed_time_units,
    "unordered-history": unordered_history,
    "future-training": future_training,
    "future-validation": future_validation,
    "global-time": global_time,
    "unstable-order": unstable_order,
    "duplicates-across-splits": duplicates_across_splits,
    "duplicated-test-rows": duplicated_test_rows,
    "target-in-history": target_in_history,
    "untrained-users": untrained_users,
    "untrained-items": untrained_items,
}
"""Kind -> check of a log."""
