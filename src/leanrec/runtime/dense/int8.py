"""Dense layers in int8 arithmetic: an int8 weight and a scale an output, inputs rounded as they come."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.kernels.dense import dense_int8, dense_int8_static, quantize_weight
from leanrec.runtime.dense.base import F32, Arrays, DenseLayer, Inputs, is_f32

__all__ = ["Int8", "Int8Static"]

_LEVELS = 127


def _size(arrays: Arrays) -> tuple[int, int] | None:
    weight = arrays["weight"]
    fits = weight.ndim == 2 and weight.dtype == np.int8 and weight.size > 0
    fits = fits and is_f32(arrays["scale"], len(weight)) and is_f32(arrays["bias"], len(weight))
    return (weight.shape[0], weight.shape[1]) if fits else None


class Int8(DenseLayer):
    """Inputs are rounded row by row, to as many bits as exact sums allow."""

    kind = "int8"
    parts = ("weight", "scale", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        return _size(arrays)

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        codes, scale = quantize_weight(weight_OD)
        return cls({"weight": codes, "scale": scale, "bias": bias_O}, weight_OD.shape)

    def __call__(self, x_TD: F32) -> F32:
        out_TO: F32 = dense_int8(x_TD, self.arrays["weight"], self.arrays["scale"], self.bias)
        return out_TO

    def part(self, low: int, high: int) -> Self:
        return type(self)({name: array[low:high] for name, array in self.arrays.items()}, (high - low, self.size[1]))

    def weight(self) -> F32:
        matrix: F32 = self.arrays["weight"] * self.arrays["scale"][:, None]
        return matrix


class Int8Static(DenseLayer):
    """Inputs are int8 too, in one range for all rows that loses least on calibration data; `unit` (1,) is a step of it.

    Without calibration the range is 8, a few deviations of a normalised input.
    """

    kind = "int8-static"
    parts = ("weight", "scale", "unit", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        unit, size = arrays["unit"], _size(arrays)
        # sums of products of two int8 have to fit int32
        fits = is_f32(unit, 1) and np.isfinite(unit[0]) and unit[0] > 0 and size is not None and size[1] < 1 << 17
        return size if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        codes, scale = quantize_weight(weight_OD)
        limit = 8.0 if inputs is None else inputs.limit(_LEVELS)
        arrays: dict[str, npt.NDArray[Any]] = {
            "weight": codes,
            "scale": scale,
            "unit": np.asarray([limit / _LEVELS], np.float32),
            "bias": bias_O,
        }
        return cls(arrays, weight_OD.shape)

    def __call__(self, x_TD: F32) -> F32:
        arrays = self.arrays
        out_TO: F32 = dense_int8_static(x_TD, arrays["weight"], arrays["scale"], arrays["unit"][0], self.bias)
        return out_TO

    def part(self, low: int, high: int) -> Self:
        arrays = {name: self.arrays[name][low:high] for name in ("weight", "scale", "bias")}
        return type(self)({**arrays, "unit": self.arrays["unit"]}, (high - low, self.size[1]))

    def weight(self) -> F32:
        matrix: F32 = self.arrays["weight"] * self.arrays["scale"][:, None]
        return matrix
