"""Queries as whole numbers for scans of codes, and what bounds need to know about what that leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["coded_queries", "coded_queries_reference"]

_TOP = 127 * 128 + 63


@jit
def coded_queries(queries_BD: Any, dims: Any, rough_rest: Any, fine_rest: Any) -> Any:
    """(B, 2, dims) int64 a and b of unit * (128 * a + b), and (B, 7) facts about bounds.

    rough_rest, fine_rest: a row's codes leave out at most level * rest * scale * sqrt(D), where a alone is asked and
    where both are. Facts: unit; of a alone its unit, the slope of the radius in that unit and the error; of a and b
    slope and error of the radius; and the query's norm. A radius is slope * scale * level + error * (norm of the row).
    Beside what the codes leave out, the errors cover rounding: float32 in bounds by a alone, float64 in those by both,
    and of the answered score to float32.
    """
    batch, dim = queries_BD.shape
    coded_B2D = np.zeros((batch, 2, dims), np.int64)
    facts_B7 = np.empty((batch, 7), np.float64)
    root = np.sqrt(np.float64(dim))
    for b in range(batch):
        largest = 0.0
        for d in range(dim):
            largest = max(largest, abs(np.float64(queries_BD[b, d])))
        unit = largest / _TOP if largest > 0 else 1.0
        rough, rough_error, fine, fine_error, norm = 0.0, 0.0, 0.0, 0.0, 0.0
        for d in range(dim):
            value = np.float64(queries_BD[b, d])
            whole = np.int64(min(max(np.rint(value / unit), -_TOP), _TOP))
            high = (whole + 64) >> 7
            coded_B2D[b, 0, d] = high
            coded_B2D[b, 1, d] = whole - 128 * high
            near = unit * np.float64(128 * high)
            rough += near * near
            rough_error += (value - near) * (value - near)
            near = unit * np.float64(whole)
            fine += near * near
            fine_error += (value - near) * (value - near)
            norm += value * value
        norm = np.sqrt(norm) * (1 + 1e-6)
        facts_B7[b, 0], facts_B7[b, 1] = unit, 128 * unit
        facts_B7[b, 2] = np.sqrt(rough) * (1 + 3e-6) / (128 * unit) * root * rough_rest
        facts_B7[b, 3] = np.sqrt(rough_error) * (1 + 1e-6) + 2.0**-19 * norm
        facts_B7[b, 4] = np.sqrt(fine) * (1 + 3e-6) * root * fine_rest
        facts_B7[b, 5] = np.sqrt(fine_error) * (1 + 1e-6) + 2.0**-22 * norm
        facts_B7[b, 6] = norm
    return coded_B2D, facts_B7


def coded_queries_reference(
    queries_BD: npt.NDArray[np.float32], dims: int, rough_rest: float, fine_rest: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """What `coded_queries` computes, in NumPy."""
    batch, dim = queries_BD.shape
    wide_BD = queries_BD.astype(np.float64)
    largest_B = np.abs(wide_BD).max(axis=1)
    unit_B = np.where(largest_B > 0, largest_B / _TOP, 1.0)
    whole_BD = np.clip(np.rint(wide_BD / unit_B[:, None]), -_TOP, _TOP).astype(np.int64)
    coded_B2D = np.zeros((batch, 2, dims), np.int64)
    coded_B2D[:, 0, :dim] = (whole_BD + 64) >> 7
    coded_B2D[:, 1, :dim] = whole_BD - 128 * coded_B2D[:, 0, :dim]

    def parts(coded_BD: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        near_BD = unit_B[:, None] * coded_BD
        lengths, errors = (np.sqrt(np.square(part).sum(axis=1)) for part in (near_BD, wide_BD - near_BD))
        return lengths * (1 + 3e-6), errors * (1 + 1e-6)

    rough_B, rough_error_B = parts(128 * coded_B2D[:, 0, :dim])
    fine_B, fine_error_B = parts(whole_BD)
    norm_B = np.sqrt(np.square(wide_BD).sum(axis=1)) * (1 + 1e-6)
    root = np.sqrt(dim)
    facts_B7 = [
        unit_B, 128 * unit_B, rough_B / (128 * unit_B) * root * rough_rest, rough_error_B + 2.0**-19 * norm_B,
        fine_B * root * fine_rest, fine_error_B + 2.0**-22 * norm_B, norm_B,
    ]  # fmt: skip
    return coded_B2D, np.stack(facts_B7, axis=1)
