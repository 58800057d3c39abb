"""Numba behind a typed decorator: cached on disk, releasing the GIL."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import numba

__all__ = ["jit", "jit_fast", "jit_fast_inline", "jit_finite", "jit_inline", "jit_parallel", "prange"]

F = TypeVar("F", bound=Callable[..., Any])
prange = numba.prange


def jit(function: F) -> F:
    """Compile on first call, one thread, GIL released, cached beside the source (or in the user's cache folder)."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def jit_parallel(function: F) -> F:
    """As `jit`, with `prange` loops spread over the threads of the process.

    Numba caches by the name of a function alone: under one name, the first that was compiled of this and `jit` of the
    same function would serve as both.
    """
    own = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    own.__qualname__ = f"{function.__qualname__}_parallel"
    own.__module__, own.__doc__ = function.__module__, function.__doc__
    return cast("F", numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")(own))


def jit_inline(function: F) -> F:
    """As `jit`, for a helper that callers inline."""
    return cast("F", numba.njit(nogil=True, error_model="numpy", inline="always")(function))


_REORDER = {"reassoc", "contract", "arcp", "nsz"}


def jit_fast(function: F) -> F:
    """As `jit`, with floating-point sums reordered so that they vectorise; infinities and NaN keep their meaning."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_REORDER)(function))


def jit_finite(function: F) -> F:
    """As `jit_fast`, where no value is NaN, so that the largest of many vectorises as well."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_REORDER | {"nnan"})(function))


def jit_fast_inline(function: F) -> F:
    """As `jit_fast`, for a helper that callers inline."""
    return cast("F", numba.njit(nogil=True, error_model="numpy", fastmath=_REORDER, inline="always")(function))
