"""The order in which rows are learnt from: drawn anew each time, and kind to rows that lie on a disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "shuffled"]

BLOCK = 4096
"""Rows that lie side by side and are fetched together."""
_BLOCKS = 1
"""Stream of random numbers that orders the blocks; 0 is the one of the rows."""


def shuffled(
    count: int, pool: int, seed: list[int], first: int = 0, last: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Places `first` to `last` of an order of `count` rows, in parts as they become known.

    The rows are cut into blocks, the blocks come in a random order, and as many as make up `pool` rows are shuffled
    row by row before the next come: up to `pool` rows are shuffled as a whole, and whoever reads more in this order
    reads each block once and needs no more than a pool of them at hand. The order depends on count, pool and seed (at
    most two numbers) alone.
    """
    last = count if last is None else last
    blocks = np.random.default_rng([*seed, 0, _BLOCKS]).permutation(-(-count // BLOCK))
    together, at = -(-pool // BLOCK), 0
    for number, place in enumerate(range(0, len(blocks), together)):
        starts = np.sort(blocks[place : place + together]) * BLOCK
        lengths = np.minimum(starts + BLOCK, count) - starts
        size = int(lengths.sum())
        if at < last and at + size > first:
            rows = np.arange(size) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
            mixed = np.random.default_rng([*seed, number]).permutation(rows)
            yield mixed[max(first - at, 0) : last - at]
        at += size
