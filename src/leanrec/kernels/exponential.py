"""The exponential of float32, as a polynomial that compilers turn into vectors, which a call into libm is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from leanrec.kernels.jit import jit_fast, jit_fast_inline

__all__ = ["exp", "exp_all", "float_of"]


def _float_of(typing: Any, bits: Any) -> Any:
    """The float32 that int32 bits spell."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


float_of: Any = intrinsic(_float_of)


@jit_fast_inline
def exp(x: Any) -> Any:
    """e ** x of a float32 within 2e-6 of it; as if x were -87 below that, and 88 above."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.rint(x * np.float32(1.44269504))
    r = x - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    return p * float_of((np.int32(n) + np.int32(127)) << np.int32(23))


@jit_fast
def exp_all(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n,) exp of every value."""
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = exp(x[i])
    return out
