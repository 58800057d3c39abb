"""How many threads NumPy's matrix products use.

OpenBLAS wakes all of its threads for products of a few microseconds and spins until the last one is done: on a machine
with other work to do, that turns 0.3 ms into 90. A process that answers requests uses one, and threads of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["blas_threads", "limit_blas"]

_NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


def limit_blas(threads: int) -> None:
    """Let matrix products use at most so many threads from now on; without effect where NumPy brings no OpenBLAS."""
    functions = _functions()
    if functions is not None:
        functions[1](threads)


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """`limit_blas` for a while."""
    functions = _functions()
    before = threads if functions is None else int(functions[0]())
    limit_blas(threads)
    try:
        yield
    finally:
        limit_blas(before)


@cache
def _functions() -> tuple[Any, Any] | None:
    """(get, set) of the OpenBLAS that NumPy's wheel brings."""
    for path in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        library = ctypes.CDLL(str(path))
        for name in _NAMES:
            get, put = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
            if get is not None and put is not None:
                return get, put
    return None
