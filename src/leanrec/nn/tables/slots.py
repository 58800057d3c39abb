"""M slots for the hottest of N rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.kernels.slots import place_rows
from leanrec.nn.tables.base import Rows, State

__all__ = ["Placed", "Slots"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the rows asked for stand, and who moved."""

    slots_U: Rows
    came_C: npt.NDArray[np.int64]
    """Which of the rows asked for were not there before."""
    left_C: Rows
    """The row whose slot each of them got, or -1."""

    @property
    def slots_C(self) -> Rows:
        """The slots that changed hands."""
        return self.slots_U[self.came_C]


class Slots:
    """A map between N rows and M slots, in which rows that are used often stay (see kernels.slots.place_rows)."""

    def __init__(self, num_rows: int, slots: int) -> None:
        self.slot_of_row_N = np.full(num_rows, -1, np.int32)
        self.row_of_slot_M = np.full(slots, -1, np.int32)
        self._used_M = np.full(slots, -1, np.int64)
        self._uses_M = np.zeros(slots, np.uint8)
        self._now, self._hand, self._free = 0, 0, slots

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.slot_of_row_N, self.row_of_slot_M, self._used_M, self._uses_M))

    def place(self, rows_U: Rows) -> Placed:
        """Give every row a slot; the ones used longest ago and least lose theirs."""
        if len(rows_U) > len(self.row_of_slot_M):
            raise ConfigError(
                f"a step touches {len(rows_U):,} rows and the table has memory for {len(self.row_of_slot_M):,}: "
                "give it more in table_options, take a smaller batch or an objective that samples"
            )
        self._now += 1
        slots_U, came_C, left_C, self._hand = place_rows(
            rows_U, self.slot_of_row_N, self.row_of_slot_M, self._used_M, self._uses_M, self._now, self._hand
        )
        self._free -= int((left_C < 0).sum())
        return Placed(slots_U, came_C, left_C)

    def leaving(self, rows_U: Rows) -> int:
        """How many rows would lose their slots for these."""
        return max(0, int((self.slot_of_row_N[rows_U] < 0).sum()) - self._free)

    def drop(self, rows: Rows) -> Rows:
        """Take the slots of these rows away; the slots that are free now."""
        slots = self.slot_of_row_N[rows]
        slots = slots[slots >= 0]
        self._free += len(slots)
        self.slot_of_row_N[rows] = -1
        self.row_of_slot_M[slots], self._used_M[slots], self._uses_M[slots] = -1, -1, 0
        return slots

    def coldest(self, count: int) -> Rows:
        """Up to `count` rows, used longest ago first."""
        taken = np.flatnonzero(self.row_of_slot_M >= 0)
        order = np.argsort(self._used_M[taken], kind="stable")[:count]
        return self.row_of_slot_M[taken[order]]

    def grow(self, num_rows: int) -> None:
        """More rows, none of them in a slot."""
        more = np.full(num_rows - len(self.slot_of_row_N), -1, np.int32)
        self.slot_of_row_N = np.concatenate([self.slot_of_row_N, more])

    def state(self) -> State:
        """Who stands where and how hot it is."""
        clock = np.asarray([self._now, self._hand], np.int64)
        return {"clock": clock, "slot_rows": self.row_of_slot_M, "slot_used": self._used_M, "slot_uses": self._uses_M}

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self._now, self._hand = (int(n) for n in state["clock"])
        self.row_of_slot_M[:], self._used_M[:] = state["slot_rows"], state["slot_used"]
        self._uses_M[:] = state["slot_uses"]
        self.slot_of_row_N[:] = -1
        taken = np.flatnonzero(self.row_of_slot_M >= 0)
        self.slot_of_row_N[self.row_of_slot_M[taken]] = taken
        self._free = len(self.row_of_slot_M) - len(taken)
