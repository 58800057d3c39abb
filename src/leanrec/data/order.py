"""From the order of the file to sequences: events by user, oldest first, always in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.data.ingest import Log
from leanrec.kernels.sequences import (
    active_days,
    active_days_reference,
    group_rows,
    group_rows_reference,
    mark_seen,
    mark_seen_reference,
    sort_inside,
    sort_inside_reference,
)

__all__ = ["arrange", "days_of_users", "seen_marks"]

_COMPILED_FROM = 1 << 20
"""Events from which loading (at first: compiling) the kernels is quicker than NumPy."""


def arrange(log: Log) -> None:
    """Order the log by user, then time, then the order column, then position in the file; in place."""
    large = len(log) >= _COMPILED_FROM
    offsets = log.offsets()
    narrow = len(log) < 1 << 31
    places: npt.NDArray[np.integer[Any]] = np.empty(len(log), np.int32) if narrow else np.empty(len(log), np.int64)
    (group_rows if large else group_rows_reference)(log.users, offsets, places)
    for keys in (log.order, log.times):  # stable: the last key counts most
        if keys is not None:
            (sort_inside if large else sort_inside_reference)(keys, offsets, places)
    log.users = np.repeat(np.arange(len(log.user_ids), dtype=np.int32), np.diff(offsets))
    log.order = None
    for column in ("items", "times", "values", "split"):
        array = getattr(log, column)
        if array is not None:
            setattr(log, column, array[places])


def seen_marks(log: Log, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(T,) TWICE for an event that its user has at the same time already, REPEAT for an item that they had before.

    Without times everything happens at once in an unordered log (where a second pair says nothing new), and never at
    once in an ordered one; the log must be arranged.
    """
    mark = mark_seen if len(log) >= _COMPILED_FROM else mark_seen_reference
    times = np.zeros(len(log)) if log.times is None else log.times
    return mark(log.items, offsets, times, len(log.item_ids))


def days_of_users(log: Log, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(users,) on how many days each has an event; the log must be arranged and have times."""
    assert log.times is not None
    count = active_days if len(log) >= _COMPILED_FROM else active_days_reference
    return count(log.times, offsets)
