"""Loops spread over threads: they release the GIL, so plain threads do, beside any other library's."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

__all__ = ["spread"]

_GRAIN = 1 << 17
"""Elements below which handing work to another thread costs more than it saves."""


def spread(work: Callable[[int, int], object], count: int, threads: int, grain: int = _GRAIN) -> None:
    """work(low, high) over parts of range(count), in at most `threads` threads; returns when all parts are done.

    grain: how many are worth a thread.
    """
    parts = max(1, min(threads, count // grain))
    edges = [count * part // parts for part in range(parts + 1)]
    others = [_pool(os.getpid()).submit(work, low, high) for low, high in itertools.pairwise(edges[1:])]
    work(edges[0], edges[1])
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """One of each process: threads do not survive a fork."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="leanrec-kernels")
