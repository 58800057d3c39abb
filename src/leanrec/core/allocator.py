"""What the C allocator does with memory that nobody holds any more (glibc; elsewhere nothing changes)."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept", "give_back"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, as malloc.h numbers them
_LARGEST_KEPT = 32 << 20
"""Blocks above this always go back at once: the highest limit that every glibc takes."""
_KEPT = 512 << 20
"""Freed bytes at the end of the heap that stay with the process while they are kept."""
_GIVEN_BACK = 1 << 20


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Freed blocks up to 32 MiB stay with the process, up to 512 MiB in all, for the next that asks.

    A training step asks for the same blocks as the step before. Given back in between, their pages are cleared and
    mapped anew by the kernel each time: some 2,500 faults and 4 ms of a step of 85 ms (docs/log.md). On leaving, what
    is free goes back.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None:
        yield
        return
    tune(_MMAP_THRESHOLD, _LARGEST_KEPT)
    tune(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        tune(_TRIM_THRESHOLD, _GIVEN_BACK)
        give_back()


def give_back() -> None:
    """What nobody holds any more goes back to the system, where the allocator can do that."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
