"""Dense layers that keep what is not zero: weight by weight, or block by block."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.kernels.sparse import dense_blocks, dense_csr
from leanrec.runtime.dense.base import F32, Arrays, DenseLayer, Inputs, is_f32

__all__ = ["SparseBlock", "SparseCSR"]

_MOST = 1 << 16
"""Inputs that a 16-bit column number can tell apart."""


def _rising(offsets: npt.NDArray[Any], rows: int, values: int) -> bool:
    """Whether these are the offsets of so many rows of so many values."""
    fits = offsets.dtype == np.int32 and offsets.shape == (rows + 1,) and rows > 0
    return bool(fits and offsets[0] == 0 and offsets[-1] == values and (offsets[1:] >= offsets[:-1]).all())


class SparseCSR(DenseLayer):
    """Compressed rows: 6 bytes a weight that is not zero.

    weight: (V,) float32; columns: (V,) uint16, rising within a row; offsets: (O + 1,) int32; form: (1,) int64, D.
    """

    kind = "sparse-csr"
    parts = ("weight", "columns", "offsets", "form", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight, columns, form = arrays["weight"], arrays["columns"], arrays["form"]
        outputs = len(arrays["bias"]) if arrays["bias"].ndim == 1 else 0
        fits = weight.ndim == 1 and is_f32(weight, len(weight)) and is_f32(arrays["bias"], outputs)
        fits = fits and columns.dtype == np.uint16 and columns.shape == weight.shape
        fits = fits and form.dtype == np.int64 and form.shape == (1,) and 0 < form[0] <= _MOST
        fits = fits and _rising(arrays["offsets"], outputs, len(weight))
        fits = fits and int(columns.max(initial=0)) < form[0]
        return (outputs, int(form[0])) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        assert weight_OD.shape[1] <= _MOST, "columns are 16-bit numbers"
        rows, columns = np.nonzero(weight_OD)
        offsets = np.zeros(len(weight_OD) + 1, np.int32)
        np.cumsum(np.bincount(rows, minlength=len(weight_OD)), out=offsets[1:])
        arrays: dict[str, npt.NDArray[Any]] = {
            "weight": weight_OD[rows, columns], "columns": columns.astype(np.uint16), "offsets": offsets,
            "form": np.asarray([weight_OD.shape[1]], np.int64), "bias": bias_O,
        }  # fmt: skip
        return cls(arrays, weight_OD.shape)

    def __call__(self, x_TD: F32) -> F32:
        arrays = self.arrays
        out_TO: F32 = dense_csr(x_TD, arrays["weight"], arrays["columns"], arrays["offsets"], self.bias)
        return out_TO

    def part(self, low: int, high: int) -> Self:
        first, last = (int(self.arrays["offsets"][at]) for at in (low, high))
        offsets = self.arrays["offsets"][low : high + 1] - np.int32(first)
        changed = {name: self.arrays[name][first:last] for name in ("weight", "columns")}
        arrays = {**self.arrays, **changed, "offsets": offsets, "bias": self.bias[low:high]}
        return type(self)(arrays, (high - low, self.size[1]))

    def weight(self) -> F32:
        matrix = np.zeros(self.size, np.float32)
        rows = np.repeat(np.arange(self.size[0]), np.diff(self.arrays["offsets"]))
        matrix[rows, self.arrays["columns"]] = self.arrays["weight"]
        return matrix


class SparseBlock(DenseLayer):
    """Blocks of 8 inputs by 8 outputs; those of zeros are left out.

    weight: (K, inputs, outputs) float32; columns: (K,) int32, which inputs; offsets: (R + 1,) int32, the blocks of each
    group of outputs; form: (1,) int64, D. A block may be of any size that its shape says.
    """

    kind = "sparse-block"
    parts = ("weight", "columns", "offsets", "form", "bias")
    block = 8

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight, columns, form = arrays["weight"], arrays["columns"], arrays["form"]
        outputs = len(arrays["bias"]) if arrays["bias"].ndim == 1 else 0
        if weight.ndim != 3 or min(weight.shape[1:]) < 1 or not outputs or not is_f32(arrays["bias"], outputs):
            return None
        count, wide, high = weight.shape
        fits = is_f32(weight, count, wide, high) and columns.dtype == np.int32 and columns.shape == (count,)
        fits = fits and form.dtype == np.int64 and form.shape == (1,) and 0 < form[0] < 1 << 31
        fits = fits and _rising(arrays["offsets"], -(-outputs // high), count)
        fits = fits and int(columns.min(initial=0)) >= 0 and int(columns.max(initial=0)) * wide < form[0]
        return (outputs, int(form[0])) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        outputs, dim = weight_OD.shape
        side = cls.block
        padded = np.pad(weight_OD, ((0, -outputs % side), (0, -dim % side)))
        grid = padded.reshape(-(-outputs // side), side, -(-dim // side), side).transpose(0, 2, 3, 1)
        rows, columns = np.nonzero(grid.any(axis=(2, 3)))
        offsets = np.zeros(len(grid) + 1, np.int32)
        np.cumsum(np.bincount(rows, minlength=len(grid)), out=offsets[1:])
        arrays: dict[str, npt.NDArray[Any]] = {
            "weight": np.ascontiguousarray(grid[rows, columns]), "columns": columns.astype(np.int32),
            "offsets": offsets, "form": np.asarray([dim], np.int64), "bias": bias_O,
        }  # fmt: skip
        return cls(arrays, (outputs, dim))

    def __call__(self, x_TD: F32) -> F32:
        arrays = self.arrays
        out_TO: F32 = dense_blocks(x_TD, arrays["weight"], arrays["columns"], arrays["offsets"], self.bias)
        return out_TO

    def part(self, low: int, high: int) -> Self:
        """Encoded anew: the edge may go through a block."""
        return self.encode(self.weight()[low:high], self.bias[low:high])

    def weight(self) -> F32:
        (outputs, dim), (_, wide, high) = self.size, self.arrays["weight"].shape
        rows = len(self.arrays["offsets"]) - 1
        grid = np.zeros((rows, -(-dim // wide), wide, high), np.float32)
        grid[np.repeat(np.arange(rows), np.diff(self.arrays["offsets"])), self.arrays["columns"]] = self.arrays[
            "weight"
        ]
        flat = grid.transpose(0, 3, 1, 2).reshape(rows * high, -1)
        return np.ascontiguousarray(flat[:outputs, :dim])
