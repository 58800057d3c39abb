"""Products whose rows do not depend on each other, not even in their last bit, beside their NumPy reference.

BLAS may sum a row otherwise by where in the matrix it stands (OpenBLAS does so on processors without AVX-512), so an
item's score would depend on who else is asked about.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast

__all__ = ["row_products", "row_products_reference"]

F32 = npt.NDArray[np.float32]


@jit_fast
def _multiply(x_TD: Any, weight_DO: Any, out_TO: Any) -> None:
    for t in range(len(x_TD)):
        for o in range(weight_DO.shape[1]):
            out_TO[t, o] = np.float32(0)
        for d in range(weight_DO.shape[0]):
            value = x_TD[t, d]
            for o in range(weight_DO.shape[1]):
                out_TO[t, o] += value * weight_DO[d, o]


def row_products(x: F32, weight_OD: F32) -> F32:
    """(..., O) x W^T for x (..., D): each row in the same order of operations, wherever it stands.

    ValueError where the widths differ, which the compiled loop would not notice.
    """
    if x.ndim < 1 or weight_OD.ndim != 2 or x.shape[-1] != weight_OD.shape[1]:
        raise ValueError(f"arrays of shapes {x.shape} and {weight_OD.shape} cannot be multiplied row by row")
    out_TO = np.empty((x.size // x.shape[-1] if x.size else 0, len(weight_OD)), np.float32)
    _multiply(np.ascontiguousarray(x).reshape(-1, x.shape[-1]), np.ascontiguousarray(weight_OD.T), out_TO)
    return out_TO.reshape(*x.shape[:-1], len(weight_OD))


def row_products_reference(x: F32, weight_OD: F32) -> F32:
    """What `row_products` computes, up to rounding."""
    products: F32 = x @ weight_OD.T
    return products
