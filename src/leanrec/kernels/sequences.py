"""Loops that turn a log into sequences: group events by owner, order them inside each, mark what stands twice.

`*_reference` are the same in NumPy; they are also what small logs use, since compiling takes longer than sorting them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = [
    "REPEAT", "TWICE", "active_days", "active_days_reference", "group_rows", "group_rows_reference", "mark_seen",
    "mark_seen_reference", "sort_inside", "sort_inside_reference", "spread", "spread_reference",
]  # fmt: skip

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

REPEAT, TWICE = 1, 2
"""What `mark_seen` says of an event: the item was there before at another time; at the same time."""

_RUN = 24


@jit
def group_rows(rows_T: I32, offsets: I64, out_T: npt.NDArray[np.integer[Any]]) -> None:
    """out[offsets[r]:offsets[r + 1]] = the positions where rows == r, rising: a counting sort.

    offsets: (rows + 1,) int64, the cumulated counts. out: (T,) of a type that holds T.
    """
    cursor = offsets[:-1].copy()
    for position in range(len(rows_T)):
        row = rows_T[position]
        out_T[cursor[row]] = position
        cursor[row] += 1


def group_rows_reference(rows_T: I32, offsets: I64, out_T: npt.NDArray[np.integer[Any]]) -> None:
    out_T[:] = np.argsort(rows_T, kind="stable")


@jit
def spread(owner_T: I32, free: I64, places_T: I64) -> None:
    """The next free place of its owner for each event: places[t] = free[owner[t]], which then moves on by one."""
    for at in range(len(owner_T)):
        places_T[at] = free[owner_T[at]]
        free[owner_T[at]] += 1


def spread_reference(owner_T: I32, free: I64, places_T: I64) -> None:
    order = np.argsort(owner_T, kind="stable")
    counts = np.bincount(owner_T, minlength=len(free))
    starts = np.cumsum(counts) - counts
    places_T[order] = np.arange(len(order)) + np.repeat(free - starts, counts)
    free += counts


@jit
def _merge_sort(keys: Any, places: Any, spare_keys: Any, spare_places: Any) -> None:
    """Stable sort of keys with their places: insertion sort of short runs, then merges."""
    count = len(keys)
    for start in range(0, count, _RUN):
        for at in range(start + 1, min(start + _RUN, count)):
            key, place, hole = keys[at], places[at], at - 1
            while hole >= start and keys[hole] > key:
                keys[hole + 1], places[hole + 1] = keys[hole], places[hole]
                hole -= 1
            keys[hole + 1], places[hole + 1] = key, place
    width = _RUN
    while width < count:
        for start in range(0, count, 2 * width):
            middle, end = min(start + width, count), min(start + 2 * width, count)
            left, right = start, middle
            for to in range(start, end):
                if right >= end or (left < middle and keys[left] <= keys[right]):
                    spare_keys[to], spare_places[to] = keys[left], places[left]
                    left += 1
                else:
                    spare_keys[to], spare_places[to] = keys[right], places[right]
                    right += 1
        keys[:], places[:] = spare_keys[:count], spare_places[:count]
        width *= 2


@jit
def sort_inside(keys_T: npt.NDArray[Any], offsets: I64, places_T: npt.NDArray[np.integer[Any]]) -> None:
    """Order the places inside each group by keys[place], equal keys staying as they are; in place.

    keys: (T,) without NaN. offsets: (groups + 1,). places: (T,) grouped positions into keys.
    """
    for group in range(len(offsets) - 1):
        start, end = offsets[group], offsets[group + 1]
        if end - start > 1:
            keys = np.empty(end - start, keys_T.dtype)
            ordered = True
            for i in range(end - start):
                keys[i] = keys_T[places_T[start + i]]
                ordered = ordered and (i == 0 or keys[i - 1] <= keys[i])
            if not ordered:
                _merge_sort(keys, places_T[start:end], np.empty_like(keys), np.empty(end - start, places_T.dtype))


def sort_inside_reference(keys_T: npt.NDArray[Any], offsets: I64, places_T: npt.NDArray[np.integer[Any]]) -> None:
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    places_T[:] = places_T[np.lexsort((keys_T[places_T], group))]


@jit
def mark_seen(
    items_T: I32, offsets: I64, times_T: F64, first: int, owner_of: I32, time_of: F64
) -> npt.NDArray[np.uint8]:
    """(T,) TWICE where the owner has the same item earlier at the same time, REPEAT where only at another time, else 0.

    items, times: by owner, times rising inside each. times all equal: every further occurrence is TWICE. first: number
    of the first owner. owner_of, time_of: (items,) the last owner of each item and when, owner_of -1 before the first
    call; further calls for further owners go on with them.
    """
    marks = np.zeros(len(items_T), np.uint8)
    for group in range(len(offsets) - 1):
        owner = first + group
        for at in range(offsets[group], offsets[group + 1]):
            item = items_T[at]
            if owner_of[item] == owner:
                marks[at] = TWICE if time_of[item] == times_T[at] else REPEAT
            owner_of[item] = owner
            time_of[item] = times_T[at]
    return marks


def mark_seen_reference(items_T: I32, offsets: I64, times_T: F64) -> npt.NDArray[np.uint8]:
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((items_T, owner))  # stable: times rise inside each owner and item
    owner, items, times = owner[order], items_T[order], times_T[order]
    same = np.zeros(len(order), np.bool_)
    same[1:] = (owner[1:] == owner[:-1]) & (items[1:] == items[:-1])
    at_once = np.zeros(len(order), np.bool_)
    at_once[1:] = times[1:] == times[:-1]
    marks = np.empty(len(order), np.uint8)
    marks[order] = np.where(same, np.where(at_once, TWICE, REPEAT), 0)
    return marks


@jit
def active_days(times_T: F64, offsets: I64) -> I64:
    """(owners,) on how many days (of UTC) each owner has an event. times: Unix seconds, rising inside each owner."""
    days = np.zeros(len(offsets) - 1, np.int64)
    for owner in range(len(offsets) - 1):
        until = -np.inf
        for at in range(offsets[owner], offsets[owner + 1]):
            if times_T[at] >= until:
                days[owner] += 1
                until = (np.floor(times_T[at] / 86_400.0) + 1.0) * 86_400.0
    return days


def active_days_reference(times_T: F64, offsets: I64) -> I64:
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    day = np.floor(times_T / 86_400.0)
    fresh = np.ones(len(day), np.bool_)
    fresh[1:] = (owner[1:] != owner[:-1]) | (day[1:] != day[:-1])
    return np.bincount(owner[fresh], minlength=len(offsets) - 1)
