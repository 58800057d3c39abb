"""Loops over rows of flat scratch, from which `kernels.encoding` is put together: norm, gates, softmax, rotation."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.exponential import exp
from leanrec.kernels.jit import jit_fast, jit_finite

__all__ = [
    "add_gated",
    "add_rows",
    "copy_row",
    "norm_rows",
    "relu_in_place",
    "rotate_heads",
    "softmax_of",
    "swiglu_rows",
]


@jit_fast
def norm_rows(
    x: Any, at: Any, stride: Any, rows: Any, dim: Any, weight_D: Any, bias_D: Any, out: Any, width: Any
) -> None:
    """Layer norm of rows of x into rows of `out` from 0 on, `width` apart.

    Here and below rows are taken as slices: an index that could be negative keeps a loop from becoming vectors.
    """
    for r in range(rows):
        x_D, out_D = x[at + r * stride : at + r * stride + dim], out[r * width : r * width + dim]
        total = np.float32(0)
        for d in range(dim):
            total += x_D[d]
        mean = total / np.float32(dim)
        square = np.float32(0)
        for d in range(dim):
            square += (x_D[d] - mean) * (x_D[d] - mean)
        scale = np.float32(1) / np.sqrt(square / np.float32(dim) + np.float32(1e-5))
        for d in range(dim):
            out_D[d] = (x_D[d] - mean) * scale * weight_D[d] + bias_D[d]


@jit_fast
def swiglu_rows(wide: Any, rows: Any, hidden: Any, room: Any) -> None:
    """value * gate * sigmoid(gate) in the place of the values; gates start `room` further on, rows are 2 * room."""
    for r in range(rows):
        at = 2 * r * room
        value_H, gate_H = wide[at : at + hidden], wide[at + room : at + room + hidden]
        for h in range(hidden):
            gate = gate_H[h]
            value_H[h] = value_H[h] * gate / (np.float32(1) + exp(-gate))


@jit_fast
def relu_in_place(wide: Any, count: Any) -> None:
    for i in range(count):
        wide[i] = max(wide[i], np.float32(0))


@jit_fast
def add_gated(x: Any, at: Any, count: Any, update: Any, gate: Any) -> None:
    to = x[at : at + count]
    for i in range(count):
        to[i] += update[i] / (np.float32(1) + exp(-gate[i]))


@jit_fast
def add_rows(x: Any, at: Any, count: Any, update: Any) -> None:
    to = x[at : at + count]
    for i in range(count):
        to[i] += update[i]


@jit_finite
def softmax_of(scores_J: Any, seen: Any) -> Any:
    """exp(score - largest) of the first `seen`, 0 for the rest; 1 / their sum."""
    top = scores_J[0]
    for j in range(seen):
        top = max(top, scores_J[j])
    total = np.float32(0)
    for j in range(seen):
        value = exp(scores_J[j] - top)
        scores_J[j] = value
        total += value
    for j in range(seen, len(scores_J)):
        scores_J[j] = np.float32(0)
    return np.float32(1) / total


@jit_fast
def rotate_heads(values: Any, at: Any, heads: Any, cos_W: Any, sin_W: Any) -> None:
    """Turn the pairs (i, i + W) of each head of one row."""
    width = len(cos_W)
    for h in range(heads):
        first = at + 2 * h * width
        low_W, high_W = values[first : first + width], values[first + width : first + 2 * width]
        for i in range(width):
            a, b = low_W[i], high_W[i]
            low_W[i] = a * cos_W[i] - b * sin_W[i]
            high_W[i] = a * sin_W[i] + b * cos_W[i]


@jit_fast
def copy_row(source: Any, at: Any, to: Any, to_at: Any, count: Any) -> None:
    some, other = source[at : at + count], to[to_at : to_at + count]
    for i in range(count):
        other[i] = some[i]
