"""Questions with their right answers, and the operations on rows of items that make them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged

__all__ = ["Cases", "distinct", "from_first_on", "without"]


@dataclass(frozen=True, slots=True)
class Cases:
    """What is asked and what is right. users: (B,) int32 user rows, rising. histories, targets: B rows of item rows."""

    users: npt.NDArray[np.int32]
    histories: Jagged
    targets: Jagged

    def __len__(self) -> int:
        return len(self.users)


def from_first_on(mask: npt.NDArray[np.bool_], rows: Jagged) -> npt.NDArray[np.bool_]:
    """(T,) whether the position is at or after the first masked position of its row."""
    running = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(mask, out=running[1:])
    before_row = np.repeat(running[rows.offsets[:-1]], rows.lengths)
    return running[1:] > before_row


def distinct(rows: Jagged) -> Jagged:
    """Each row's distinct values, in order of first appearance."""
    owner = rows.row_of()
    keys = np.sort(owner * (int(rows.values.max(initial=0)) + 1) + rows.values)
    if (keys[1:] != keys[:-1]).all():
        return rows
    order = np.lexsort((rows.values, owner))
    sorted_values, sorted_owner = rows.values[order], owner[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (sorted_values[1:] != sorted_values[:-1]) | (sorted_owner[1:] != sorted_owner[:-1])
    keep = np.zeros(len(order), dtype=np.bool_)
    keep[order[first]] = True
    return rows.where(keep)


def without(rows: Jagged, removed: Jagged, num_items: int) -> Jagged:
    """`rows` without the values that stand in the same row of `removed`."""
    keys = rows.row_of() * num_items + rows.values
    gone = removed.row_of() * num_items + removed.values
    if not len(keys):
        return rows
    order = np.argsort(keys)
    ranked = keys[order]
    low = np.searchsorted(ranked, gone)
    met = low[ranked[np.minimum(low, len(ranked) - 1)] == gone]
    start = np.zeros(len(ranked), np.bool_)
    start[met] = True
    return rows.where(~start[np.searchsorted(ranked, keys)])
