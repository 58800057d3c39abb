"""Fields of rows as sparse rows of one table, beside the NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["place_fields", "place_fields_reference"]


@jit
def place_fields(
    categories_BC: Any, starts_C: Any, numbers_BM: Any, places_M: Any, offsets: Any, rows_T: Any, values_T: Any
) -> None:
    """Write a row's categories at its start, each 1, and its numbers at its end; what is between stays as it is.

    starts_C: added to the codes of each category. places_M: table rows of the numbers. offsets: (B + 1,) of rows_T and
    values_T.
    """
    count, width = categories_BC.shape
    numbers = numbers_BM.shape[1]
    for b in range(count):
        at = offsets[b]
        for c in range(width):
            rows_T[at + c] = categories_BC[b, c] + starts_C[c]
            values_T[at + c] = 1
        at = offsets[b + 1] - numbers
        for m in range(numbers):
            rows_T[at + m] = places_M[m]
            values_T[at + m] = numbers_BM[b, m]


def place_fields_reference(
    categories_BC: npt.NDArray[np.int32], starts_C: npt.NDArray[np.int32], numbers_BM: npt.NDArray[np.float32],
    places_M: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], rows_T: npt.NDArray[np.int32],
    values_T: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """The same, with NumPy."""
    at_BC = offsets[:-1, None] + np.arange(categories_BC.shape[1])
    at_BM = offsets[1:, None] - numbers_BM.shape[1] + np.arange(numbers_BM.shape[1])
    rows_T[at_BC], values_T[at_BC] = categories_BC + starts_C, 1
    rows_T[at_BM], values_T[at_BM] = places_M, numbers_BM
