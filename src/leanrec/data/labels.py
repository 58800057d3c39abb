"""The label of every event of a log, block by block, and how many there are of each."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.data.log import Block, Log
from leanrec.data.scratch import Scratch
from leanrec.data.split import TRAIN, VALID, Split, assign, draw_valid, user_hashes

__all__ = ["count_labels", "label_events", "nth_smallest"]

_DIGIT = 16
"""Bits of a number that are looked at in one pass."""


def label_events(
    log: Log, parsed: Split, ordered: bool, seed: int, scratch: Scratch
) -> tuple[npt.NDArray[np.uint8], bool]:
    """(T,) the label of each event, and whether validation was drawn from the given training part."""
    if log.split is not None:
        return _given(log, log.split, parsed, ordered, seed)
    labels = scratch.array(len(log), np.uint8)
    cuts = _cuts(log, parsed.shares) if parsed.kind == "time" else None
    hashes = user_hashes(log.user_ids, seed, "rank" if parsed.kind == "random" else "split")
    for block in log.blocks():
        times = None if log.times is None else log.times[block.events]
        labels[block.events] = assign(parsed, _events(log, block), times, cuts, hashes[block.users])
    return labels, False


def count_labels(log: Log, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(4,) events of each label."""
    counts = np.zeros(4, np.int64)
    for block in log.blocks():
        counts += np.bincount(labels[block.events], minlength=4)
    return counts


def _given(
    log: Log, labels: npt.NDArray[np.uint8], parsed: Split, ordered: bool, seed: int
) -> tuple[npt.NDArray[np.uint8], bool]:
    counts = count_labels(log, labels)
    if not counts[TRAIN]:
        raise InputError(f"split 'column:{parsed.column}': no row says 'train', so there is nothing to learn from")
    if counts[VALID]:
        return labels, False
    hashes = user_hashes(log.user_ids, seed, "rank")
    for block in log.blocks():
        labels[block.events] = draw_valid(labels[block.events], _events(log, block), ordered, hashes[block.users])
    return labels, True


def _events(log: Log, block: Block) -> Jagged:
    return Jagged(log.items[block.events], block.offsets)


def _cuts(log: Log, shares: tuple[float, float, float]) -> tuple[float, float]:
    """The moments of the first valid and the first test event."""
    if log.times is None:
        raise InputError("split 'time' needs times: name their column with --time-col, or choose another split")
    last = len(log) - 1
    first, second = (nth_smallest(log.times, math.ceil(last * share)) for share in (shares[0], shares[0] + shares[1]))
    if not float(log.times.min()) < first:
        raise InputError("split 'time' leaves nothing to train on: too many events share one moment")
    return first, second


def nth_smallest(times: npt.NDArray[np.float64], nth: int, step: int = 1 << 19) -> float:
    """What stands at place `nth` (from 0) of the sorted times, which are not negative; they are not sorted for it.

    The bits of such numbers rise as the numbers do, so the answer is found digit by digit, counting in pieces of
    `step` how many numbers that begin like it go on with each digit.
    """
    prefix = 0
    for shift in range(64 - _DIGIT, -1, -_DIGIT):
        counts = np.zeros(1 << _DIGIT, np.int64)
        for start in range(0, len(times), step):
            bits = (times[start : start + step] + 0.0).view(np.int64) >> shift  # + 0.0: a negative zero would be low
            alike = bits[bits >> _DIGIT == prefix] & ((1 << _DIGIT) - 1)
            counts += np.bincount(alike, minlength=len(counts))
        reached = np.cumsum(counts)
        digit = int(np.searchsorted(reached, nth, side="right"))
        nth -= int(reached[digit] - counts[digit])
        prefix = prefix << _DIGIT | digit
    return float(np.array(prefix, np.int64).view(np.float64))
