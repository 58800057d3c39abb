"""Which rows of a large table stand in the few slots of a small one: a frequency-aware clock."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["MOST_USES", "place_rows", "read_records"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

MOST_USES = 15
"""Uses beyond this are not counted: a row that was hot leaves after as many turns of the clock."""


@jit
def place_rows(
    rows_U: I32, slot_of_row_N: I32, row_of_slot_M: I32, used_M: I64, uses_M: npt.NDArray[np.uint8],
    now: int, hand: int,
) -> tuple[I32, I64, I32, int]:  # fmt: skip
    """A slot for each of the distinct rows (U <= M); rows not used at `now` make room.

    The hand of the clock passes over the slots, takes one use from each, and stops where none is left (free slots have
    none): what is used often stays, what came once goes first. used_M: when each slot was last used. Gives slots_U,
    which of rows_U came in (C,), the rows that left for them (C,) or -1, and where the hand stands.
    """
    slots_U = np.empty(len(rows_U), np.int32)
    came = np.empty(len(rows_U), np.int64)
    count = 0
    for u in range(len(rows_U)):
        slot = slot_of_row_N[rows_U[u]]
        slots_U[u] = slot
        if slot < 0:
            came[count] = u
            count += 1
        else:
            used_M[slot] = now
            uses_M[slot] = min(uses_M[slot] + 1, MOST_USES)
    left = np.empty(count, np.int32)
    for c in range(count):
        while used_M[hand] == now or uses_M[hand] > 0:
            if used_M[hand] != now:
                uses_M[hand] -= 1
            hand = hand + 1 if hand + 1 < len(used_M) else 0
        row, old = rows_U[came[c]], row_of_slot_M[hand]
        left[c] = old
        if old >= 0:
            slot_of_row_N[old] = -1
        row_of_slot_M[hand] = row
        slot_of_row_N[row] = hand
        used_M[hand] = now
        slots_U[came[c]] = hand
    return slots_U, came[:count].copy(), left, hand


@jit
def read_records(pages_PF: F32, per_page: int, records_C: I32, out_CW: F32) -> None:
    """out[c] = record `records[c]` of pages that hold `per_page` records of W values each and some padding."""
    width = out_CW.shape[1]
    for c in range(len(records_C)):
        page, start = records_C[c] // per_page, (records_C[c] % per_page) * width
        for w in range(width):
            out_CW[c, w] = pages_PF[page, start + w]
