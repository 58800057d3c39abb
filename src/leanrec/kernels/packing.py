"""Cutting sequences into windows and packing windows into rows of equal length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["deal", "deal_reference", "fill_rows", "pack_windows"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


def pack_windows(lengths_W: I64, row_length: int) -> tuple[I64, I64, int]:
    """Best-fit decreasing: the row and the first slot of each window, and the number of rows.

    lengths_W: 1..row_length each. The cost is W x row_length at worst; rows end up nearly full.
    """
    # sorted here: compiling a sort costs more time than most runs spend packing
    row_W, start_W, rows = _best_fit(np.argsort(-lengths_W, kind="stable"), lengths_W, row_length)
    return row_W, start_W, int(rows)


@jit
def _best_fit(order_W: I64, lengths_W: I64, row_length: int) -> tuple[I64, I64, int]:
    windows = len(lengths_W)
    row_W = np.empty(windows, np.int64)
    start_W = np.empty(windows, np.int64)
    # rows with `room` free slots form a linked list: head[room] -> row -> next[row] -> ...
    head = np.full(row_length + 1, -1, np.int64)
    chain = np.empty(windows, np.int64)
    rows = 0
    for at in order_W:
        length = lengths_W[at]
        room = length
        while room <= row_length and head[room] < 0:
            room += 1
        if room > row_length:
            row, room = rows, row_length
            rows += 1
        else:
            row = head[room]
            head[room] = chain[row]
        row_W[at] = row
        start_W[at] = row_length - room
        left = room - length
        chain[row] = head[left]
        head[left] = row
    return row_W, start_W, rows


@jit
def fill_rows(
    values_T: I32, first_W: I64, end_W: I64, lengths_W: I64, row_W: I64, start_W: I64, ahead_T: I64,
    items_RL: I32, segment_RL: I64, position_RL: I64, slots_T: I64, targets_T: I32,
) -> None:  # fmt: skip
    """Write each window's inputs into its slots, and list the slots with the item that each has to predict.

    Window w reads `length` inputs from values[first] on; prediction t is the item `ahead_T[t]` places after its input's
    successor, counted round from the successor again at values[end]. items and segment are prefilled with 0 and -1.
    """
    width = items_RL.shape[1]
    t = 0
    for w in range(len(first_W)):
        row, start = row_W[w], start_W[w]
        for i in range(lengths_W[w]):
            items_RL[row, start + i] = values_T[first_W[w] + i]
            segment_RL[row, start + i] = w
            position_RL[row, start + i] = i
            slots_T[t] = row * width + start + i
            room = end_W[w] - first_W[w] - i - 1
            targets_T[t] = values_T[first_W[w] + i + 1 + ahead_T[t] % room]
            t += 1


@jit
def deal(order_R: I64, load_R: I64, world: int, owner_R: I64) -> None:
    """Who gets each row: `world` rows at a time in the given order, the first of them to who has the least load.

    Of equal loads the first owner has precedence. load_R: what a row weighs. owner_R is filled.
    """
    total_W = np.zeros(world, np.int64)
    by_load_W = np.arange(world)
    for start in range(0, len(order_R), world):
        for at in range(1, world):
            owner, place = by_load_W[at], at
            while place > 0 and (
                total_W[by_load_W[place - 1]] > total_W[owner]
                or (total_W[by_load_W[place - 1]] == total_W[owner] and by_load_W[place - 1] > owner)
            ):
                by_load_W[place] = by_load_W[place - 1]
                place -= 1
            by_load_W[place] = owner
        for at in range(start, min(start + world, len(order_R))):
            owner_R[order_R[at]] = by_load_W[at - start]
        for at in range(start, min(start + world, len(order_R))):
            total_W[owner_R[order_R[at]]] += load_R[order_R[at]]


def deal_reference(order_R: I64, load_R: I64, world: int, owner_R: I64) -> None:
    """`deal` as it is said."""
    total_W = np.zeros(world, np.int64)
    for start in range(0, len(order_R), world):
        for row, owner in zip(order_R[start : start + world], np.argsort(total_W, kind="stable"), strict=False):
            owner_R[row] = owner
            total_W[owner] += load_R[row]
