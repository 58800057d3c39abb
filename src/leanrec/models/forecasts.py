"""The memory that models need which train without steps: what they hold of the events, and what they make of them.

Bytes follow from sizes alone, counted from the arrays that the code makes; compiled loops and the allocator come on top
(`_PROGRAM`).
"""

from __future__ import annotations

from leanrec.data.dataset import Dataset
from leanrec.training.memory import Line, MemoryNeed

__all__ = ["counting_memory", "factors_memory", "neighbour_memory", "tables_memory"]

_PROGRAM = 90 << 20
"""Compiled loops, threads and scratch."""
_VALIDATION = 70 << 20
"""Blocks of users, their histories, lists and scores: bounded whatever the catalogue."""
_TRAINED = 13
"""A training event: its item and the mask that picks it, its validation history, its place."""
_INCIDENCE = 40
"""Beside it who had what, both ways round: items, counts, users, places, and the sort that makes them."""
_LISTED = 16
"""Of an item in a list of another: row and number, twice while parts are put together."""


def counting_memory(data: Dataset) -> MemoryNeed:
    """Models that count events."""
    return _need(data, [], [Line("scores of items", 24 * len(data.items))], 4 * len(data.items))


def neighbour_memory(data: Dataset, neighbours: int) -> MemoryNeed:
    """Models that keep so many others for each item, found by counting who had both."""
    items, events = len(data.items), _events(data)
    lists = items * min(neighbours, items) * _LISTED
    stays = [Line("who had what, both ways round", _INCIDENCE * events), Line("lists of items", lists)]
    return _need(
        data, stays, [Line("counts on every thread", 64 * items)], lists // 2, ["neighbours=...", "window=..."]
    )


def tables_memory(data: Dataset) -> MemoryNeed:
    """Models that keep the events of the users themselves."""
    stays = [Line("who had what, both ways round", _INCIDENCE * _events(data))]
    return _need(data, stays, [Line("counts of users and items", 32 * (len(data.users) + len(data.items)))],
                 16 * _events(data), ["window=..."])  # fmt: skip


def factors_memory(data: Dataset, factors: int, *, keeps_users: bool) -> MemoryNeed:
    """Models whose users and items are solved for in turn: vectors before and after a turn of the basis."""
    users, items, events = len(data.users), len(data.items), _events(data)
    stays = [
        Line("who had what, both ways round", _INCIDENCE * events),
        Line("vectors of users", 2 * 4 * users * factors),
        Line("vectors of items, the best ones too", 4 * 4 * items * factors),
        Line("inner products of dimensions", 4 * 4 * factors * factors),
    ]
    bundle = 4 * factors * (items + users * keeps_users)
    return _need(data, stays, [Line("users folded in", 4 * users * factors)], bundle, ["factors=..."])


def _events(data: Dataset) -> int:
    return int(data.train(True).lengths.sum())


def _need(
    data: Dataset, stays: list[Line], passing: list[Line], bundle: int, remedies: list[str] | None = None
) -> MemoryNeed:
    events = Line("events and histories", _TRAINED * len(data.interactions))
    return MemoryNeed(
        stays=[events, *stays, Line("compiled code and threads", _PROGRAM)],
        passing=[*passing, Line("validation", _VALIDATION)],
        disk=[Line("bundle", bundle)],
        remedies=remedies or ["window=..."],
    )
