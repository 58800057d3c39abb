"""Loops that give ids dense numbers: counting those of a narrow range, hashing those of a wide one.

`*_reference` are the same in NumPy; they are also what small logs use, since compiling takes longer than sorting them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["count_ids", "count_ids_reference", "number_ids", "number_ids_reference"]

I64 = npt.NDArray[np.int64]

_STEP = 0x9E3779B97F4A7C15
_FIRST_ROOM = 1 << 16


@jit
def count_ids(ids_T: npt.NDArray[np.integer[Any]], low: int, counts: I64) -> None:
    """counts[id - low] += 1 for each id."""
    for at in range(len(ids_T)):
        counts[ids_T[at] - low] += 1


def count_ids_reference(ids_T: npt.NDArray[np.integer[Any]], low: int, counts: I64) -> None:
    counts += np.bincount(ids_T - low, minlength=len(counts))


def number_ids(ids_T: I64) -> I64:
    """(U,) the distinct ids in order of first appearance; each of ids_T is replaced by its place there.

    Open addressing in a table at most half full, twice as large whenever it is.
    """
    known = np.empty(_FIRST_ROOM, np.int64)
    done = count = 0
    while True:
        slots = np.full(2 * len(known), -1, np.int32)
        _insert(known[:count], slots)
        done, count = _number(ids_T, done, known, count, slots)
        if done == len(ids_T):
            return known[:count]
        known = np.concatenate([known, np.empty(len(known), np.int64)])


def number_ids_reference(ids_T: I64) -> I64:
    unique, first, inverse = np.unique(ids_T, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ids_T[:] = place[inverse]
    return unique[order]


@jit
def _slot(identity: int, known: I64, slots: npt.NDArray[np.int32]) -> Any:
    """The slot that holds the id, or the empty one where it belongs."""
    mixed = np.uint64(identity) * np.uint64(_STEP)
    slot: Any = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(slots) - 1))
    while slots[slot] >= 0 and known[slots[slot]] != identity:
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@jit
def _insert(known: I64, slots: npt.NDArray[np.int32]) -> None:
    for place in range(len(known)):
        slots[_slot(known[place], known, slots)] = place


@jit
def _number(ids_T: I64, start: int, known: I64, count: int, slots: npt.NDArray[np.int32]) -> tuple[int, int]:
    """Number the ids from `start` on until `known` is full: how far it came, and how many are known."""
    for at in range(start, len(ids_T)):
        slot = _slot(ids_T[at], known, slots)
        if slots[slot] < 0:
            if count == len(known):
                return at, count
            known[count] = ids_T[at]
            slots[slot] = count
            count += 1
        ids_T[at] = slots[slot]
    return len(ids_T), count
