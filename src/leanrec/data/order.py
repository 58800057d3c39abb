"""From the order of the file to sequences: events by user, oldest first, always in the same order."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.console import Progress
from leanrec.data.context import CONTEXT_ROLE, Context
from leanrec.data.ingest import Rows
from leanrec.data.log import Block, Log, user_blocks
from leanrec.data.numbering import COMPILED_FROM
from leanrec.data.scratch import Scratch
from leanrec.kernels.sequences import (
    REPEAT,
    TWICE,
    active_days,
    active_days_reference,
    group_rows,
    group_rows_reference,
    mark_seen,
    mark_seen_reference,
    sort_inside,
    sort_inside_reference,
    spread,
    spread_reference,
)

__all__ = ["Marks", "arrange", "days_of_users"]

_THREADS = min(8, len(os.sched_getaffinity(0)))


def arrange(rows: Rows, scratch: Scratch) -> Log:
    """Events by user, then time, then the order column, then position in the file.

    In two passes, so that neither jumps about in more than a cache or a page holds: first every event goes to the
    block of its user, then each block is ordered by itself. What `rows` holds is given up on the way.
    """
    offsets = np.zeros(len(rows.users.counts) + 1, np.int64)
    np.cumsum(rows.users.counts, out=offsets[1:])
    blocks = list(user_blocks(offsets))
    columns = _by_block(rows, blocks, scratch)
    users, order = columns.pop("users"), columns.pop("order", None)
    large = len(users) >= COMPILED_FROM

    def arrange_block(block: Block) -> int:
        places = np.empty(block.events.stop - block.events.start, np.int64)
        own = users[block.events] - np.int32(block.users.start)
        (group_rows if large else group_rows_reference)(own, block.offsets, places)
        for keys in (order, columns.get("times")):  # stable: the last key counts most
            if keys is not None:
                (sort_inside if large else sort_inside_reference)(keys[block.events], block.offsets, places)
        for column in columns.values():
            column[block.events] = np.take(column[block.events], places)
        return len(places)

    with Progress("ordering", len(users)) as progress, ThreadPoolExecutor(_THREADS) as threads:
        for done in threads.map(arrange_block, blocks) if len(blocks) > 1 else map(arrange_block, blocks):
            progress.advance(done)
    return Log(
        rows.users.vocabulary,
        rows.items.vocabulary,
        offsets,
        columns["items"],
        columns.get("times"),
        columns.get("values"),
        columns.get("split"),
        {
            name.removeprefix(CONTEXT_ROLE): Context(array, rows.texts.get(name))
            for name, array in sorted(columns.items())
            if name.startswith(CONTEXT_ROLE)
        },
    )


def _by_block(rows: Rows, blocks: list[Block], scratch: Scratch) -> dict[str, npt.NDArray[Any]]:
    """The columns, rows in place of ids, each event in the span of its user's block, otherwise as in the file."""
    names = {"time": "times", "value": "values", "order": "order", "split": "split"}
    parts = {names.get(role, role): parts for role, parts in rows.columns.items()}
    total, large = len(rows), len(rows) >= COMPILED_FROM
    columns = {name: scratch.array(total, column[0].dtype) for name, column in parts.items()}
    columns |= {name: scratch.array(total, np.int32) for name in ("users", "items")}
    block_of = np.repeat(np.arange(len(blocks), dtype=np.int32), [b.users.stop - b.users.start for b in blocks])
    free = np.array([block.events.start for block in blocks])
    for column in (rows.users.parts, rows.items.parts, *parts.values()):
        column.reverse()  # so that each part can be popped, and with it its memory, once it is in its place
    while rows.users.parts:
        users, items = rows.users.rows(rows.users.parts.pop()), rows.items.rows(rows.items.parts.pop())
        places = np.empty(len(users), np.int64)
        (spread if large else spread_reference)(block_of[users], free, places)
        columns["users"][places], columns["items"][places] = users, items
        for name, column in parts.items():
            columns[name][places] = column.pop()
    return columns


class Marks:
    """What stands twice in a log, block by block in the order of users.

    TWICE for an event that its user has at the same time already, REPEAT for an item that they had before. Without
    times everything happens at once in an unordered log (where a second pair says nothing new), and never at once in
    an ordered one.
    """

    def __init__(self, log: Log, ordered: bool) -> None:
        self._log = log
        self._apart = ordered and log.times is None
        self._compiled = len(log) >= COMPILED_FROM
        seen = len(log.item_ids) if self._compiled else 0
        self._owner_of, self._time_of = np.full(seen, -1, np.int32), np.empty(seen)

    def of(self, block: Block) -> npt.NDArray[np.uint8]:
        """(events of the block,) TWICE, REPEAT or 0."""
        items, times = self._log.items[block.events], self._log.times
        moments = np.zeros(len(items)) if times is None else times[block.events]
        if self._compiled:
            marks = mark_seen(items, block.offsets, moments, block.users.start, self._owner_of, self._time_of)
        else:
            marks = mark_seen_reference(items, block.offsets, moments)
        if self._apart:
            marks[marks == TWICE] = REPEAT
        return marks


def days_of_users(log: Log) -> npt.NDArray[np.int64]:
    """(users,) on how many days each has an event; the log must have times."""
    assert log.times is not None
    count = active_days if len(log) >= COMPILED_FROM else active_days_reference
    return np.concatenate([count(log.times[block.events], block.offsets) for block in log.blocks()])
