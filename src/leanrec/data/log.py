"""A cleaned log as sequences, worked on a block of users at a time so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.ids import Vocabulary
from leanrec.data.context import Context
from leanrec.data.numbering import COMPILED_FROM
from leanrec.kernels.numbering import count_ids, count_ids_reference

__all__ = ["Block", "Log", "user_blocks"]


@dataclass(frozen=True, slots=True)
class Block:
    """Users first..last of a log, and where their events stand in its columns. offsets: of these users, from 0."""

    users: slice
    events: slice
    offsets: npt.NDArray[np.int64]


@dataclass(slots=True)
class Log:
    """Events by user, oldest first. items: (T,) int32 rows. times: (T,) Unix seconds. values: (T,) float32, NaN where
    missing. split: (T,) uint8 given labels. None where there is no column. offsets: (users + 1,).
    """

    user_ids: Vocabulary
    item_ids: Vocabulary
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float32] | None = None
    split: npt.NDArray[np.uint8] | None = None
    context: dict[str, Context] = field(default_factory=dict)
    thinned: bool = False
    """Whether events were dropped, so that ids may be without any."""

    def __len__(self) -> int:
        return len(self.items)

    def blocks(self) -> Iterator[Block]:
        """All users in order, some at a time."""
        return user_blocks(self.offsets)

    def item_counts(self) -> npt.NDArray[np.int64]:
        """(items,) how many events each has."""
        counts = np.zeros(len(self.item_ids), np.int64)
        (count_ids if len(self) >= COMPILED_FROM else count_ids_reference)(self.items, 0, counts)
        return counts

    def keep(self, mask_of: Callable[[Block], npt.NDArray[np.bool_]]) -> None:
        """Keep the events of each block that are under its mask; in place."""
        lengths = np.zeros(len(self.user_ids), np.int64)
        end = 0
        for block in self.blocks():
            mask = mask_of(block)
            running = np.zeros(len(mask) + 1, np.int64)
            np.cumsum(mask, out=running[1:])
            lengths[block.users] = np.diff(running[block.offsets])
            start, end = end, end + int(running[-1])
            for array in (*self._arrays().values(), *(column.values for column in self.context.values())):
                array[start:end] = array[block.events][mask]
        self.thinned |= end < len(self)
        for name, array in self._arrays().items():
            setattr(self, name, array[:end])
        self.context = {name: Context(c.values[:end], c.texts) for name, c in self.context.items()}
        np.cumsum(lengths, out=self.offsets[1:])

    def forget_unused(self) -> None:
        """Drop ids without events; in place."""
        if not self.thinned:
            return
        used = self.item_counts() > 0
        if not used.all():
            fresh = np.cumsum(used, dtype=np.int32) - np.int32(1)
            for block in self.blocks():
                self.items[block.events] = fresh[self.items[block.events]]
            self.item_ids = self.item_ids.taken(np.flatnonzero(used))
        active = np.diff(self.offsets) > 0
        if not active.all():
            self.user_ids = self.user_ids.taken(np.flatnonzero(active))
            self.offsets = np.concatenate([self.offsets[:1], self.offsets[1:][active]])

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        named = {"items": self.items, "times": self.times, "values": self.values, "split": self.split}
        return {name: array for name, array in named.items() if array is not None}


BLOCK_EVENTS = 1 << 19
"""Events in a block, unless one user has more: few enough to stay in a processor's cache while they are ordered."""


def user_blocks(offsets: npt.NDArray[np.int64]) -> Iterator[Block]:
    """Users in order, as many at a time as have at most `BLOCK_EVENTS` events, and at least one."""
    first, users = 0, len(offsets) - 1
    while first < users:
        last = int(np.searchsorted(offsets, offsets[first] + BLOCK_EVENTS, side="right")) - 1
        last = min(max(last, first + 1), users)
        yield Block(
            slice(first, last),
            slice(int(offsets[first]), int(offsets[last])),
            offsets[first : last + 1] - offsets[first],
        )
        first = last
