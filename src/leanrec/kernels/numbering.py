"""Loops that give ids dense numbers: counting those of a narrow range, hashing those of a wide one.

`*_reference` are the same in NumPy; they are also what small logs use, since compiling takes longer than sorting them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    counts += np.bincount(np.subtract(ids_T, low, dtype=np.int64), minlength=len(counts))


def number_ids(parts: Sequence[npt.NDArray[np.integer[Any]]]) -> I64:
    """(U,) the distinct ids of all parts in order of first appearance; each is replaced by its place there.

    Open addressing in a table at most half full, twice as large whenever it would be more.
    """
    known = np.empty(_FIRST_ROOM, np.int64)
    slots = np.full(2 * len(known), -1, np.int32)
    count = 0
    for ids_T in parts:
        done = 0
        while True:
            done, count = _number(ids_T, done, known, count, slots)
            if done == len(ids_T):
                break
            known = np.concatenate([known, np.empty(len(known), np.int64)])
            slots = np.full(2 * len(known), -1, np.int32)
            _insert(known[:count], slots)
    return known[:count]


def number_ids_reference(parts: Sequence[npt.NDArray[np.integer[Any]]]) -> I64:
    ids = np.concatenate([part.astype(np.int64) for part in parts])
    unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ends = np.cumsum([len(part) for part in parts])
    for part, places in zip(parts, np.split(place[inverse], ends[:-1]), strict=True):
        part[:] = places
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
def _number(
    ids_T: npt.NDArray[np.integer[Any]], start: int, known: I64, count: int, slots: npt.NDArray[np.int32]
) -> tuple[int, int]:
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
