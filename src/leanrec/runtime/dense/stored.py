"""Dense layers whose weights are stored in few bits and multiplied in float32.

A small matrix is decoded when it is first used and kept, so that it is as fast as in float32 and smaller on disk
alone. A large one is decoded at every call, a panel at a time, and is smaller in memory too: a product of many rows
hardly takes longer for that, one of a few rows does.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Self, final

import numpy as np
import numpy.typing as npt

from leanrec.kernels.decode import decode_bfloat16, decode_int4, decode_int8, decode_pairs
from leanrec.kernels.dense import quantize_weight
from leanrec.runtime.dense.base import F32, Arrays, DenseLayer, Inputs, is_f32
from leanrec.runtime.dense.int8 import Int8

__all__ = ["BFloat16", "Int4Weight", "Int8Weight", "Sparse2of4", "Stored"]

_PANEL = 1 << 16
"""Values decoded at a time: 256 KB, which stay in the second-level cache."""
_KEPT = 1 << 18
"""Values of a matrix, 1 MB, up to which it is decoded once."""
_EXPONENT = np.uint16(0x7F80)
"""All bits of it are set in NaN and infinity."""
_SHRINK = np.linspace(1.0, 0.6, 17, dtype=np.float32)


class Stored(DenseLayer):
    """Decodes panels of rows for BLAS; a kind says how a panel is decoded."""

    @abstractmethod
    def _decode(self, low: int, high: int, out_PD: F32) -> None:
        """Rows low..high of the matrix."""

    @final
    def __call__(self, x_TD: F32) -> F32:
        outputs, dim = self.size
        if outputs * dim <= _KEPT:
            whole_TO: F32 = x_TD @ self._decoded.T
            whole_TO += self.bias
            return whole_TO
        out_TO = np.empty((len(x_TD), outputs), np.float32)
        rows = min(outputs, max(1, _PANEL // dim))
        panel_PD = np.empty((rows, dim), np.float32)
        for low in range(0, outputs, rows):
            high = min(low + rows, outputs)
            self._decode(low, high, panel_PD[: high - low])
            np.matmul(x_TD, panel_PD[: high - low].T, out=out_TO[:, low:high])
        out_TO += self.bias
        return out_TO

    @cached_property
    def _decoded(self) -> F32:
        return self.weight()

    @final
    def weight(self) -> F32:
        matrix = np.empty(self.size, np.float32)
        self._decode(0, self.size[0], matrix)
        return matrix

    def part(self, low: int, high: int) -> Self:
        return type(self)({name: array[low:high] for name, array in self.arrays.items()}, (high - low, self.size[1]))


class Int8Weight(Stored):
    """int8 codes and a scale an output."""

    kind = "int8-weight"
    parts = ("weight", "scale", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        return Int8.size_of(arrays)

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        codes, scale = quantize_weight(weight_OD)
        return cls({"weight": codes, "scale": scale, "bias": bias_O}, weight_OD.shape)

    def _decode(self, low: int, high: int, out_PD: F32) -> None:
        decode_int8(self.arrays["weight"][low:high], self.arrays["scale"][low:high], out_PD)


class BFloat16(Stored):
    """The upper half of each weight, rounded to even."""

    kind = "bfloat16"
    parts = ("weight", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight = arrays["weight"]
        fits = weight.ndim == 2 and weight.dtype == np.uint16 and weight.size and is_f32(arrays["bias"], len(weight))
        fits = fits and not ((weight & _EXPONENT) == _EXPONENT).any()  # what is stored as whole numbers may be NaN too
        return (weight.shape[0], weight.shape[1]) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        bits = np.ascontiguousarray(weight_OD, np.float32).view(np.uint32)
        upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return cls({"weight": upper, "bias": bias_O}, weight_OD.shape)

    def _decode(self, low: int, high: int, out_PD: F32) -> None:
        decode_bfloat16(self.arrays["weight"][low:high], out_PD)


class Int4Weight(Stored):
    """4 bits a weight and a scale for each `group` inputs of an output, chosen for the least squared error.

    weight: (O, H) uint8, two columns a byte; scale: (O, G); form: (2,) int64, D and the group.
    """

    kind = "int4-weight"
    parts = ("weight", "scale", "form", "bias")
    group = 64

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight, form = arrays["weight"], arrays["form"]
        if weight.dtype != np.uint8 or weight.ndim != 2 or form.dtype != np.int64 or form.shape != (2,):
            return None
        outputs, (dim, group) = len(weight), (int(form[0]), int(form[1]))
        fits = 0 < dim < 1 << 31 and 0 < group < 1 << 31 and outputs > 0 and weight.shape[1] == -(-dim // 2)
        fits = fits and is_f32(arrays["scale"], outputs, -(-dim // group)) and is_f32(arrays["bias"], outputs)
        return (outputs, dim) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        outputs, dim = weight_OD.shape
        group = min(cls.group, dim)
        wide = -(-dim // group) * group
        mass_D = np.ones(dim) if inputs is None else np.diagonal(inputs.square_DD) + 1e-12
        values_OGg = np.pad(weight_OD, ((0, 0), (0, wide - dim))).reshape(outputs, -1, group)
        mass_Gg = np.pad(mass_D, (0, wide - dim)).reshape(1, -1, group)
        scale_OG = _best_scales(values_OGg, mass_Gg)
        codes = np.clip(np.rint(values_OGg / scale_OG[:, :, None]), -8, 7).astype(np.int32).reshape(outputs, wide)
        nibbles = np.pad((codes[:, :dim] + 8).astype(np.uint8), ((0, 0), (0, dim % 2)))
        half = nibbles.shape[1] // 2
        packed = nibbles[:, :half] | (nibbles[:, half:] << 4)
        form = np.asarray([dim, group], np.int64)
        return cls({"weight": packed, "scale": scale_OG, "form": form, "bias": bias_O}, (outputs, dim))

    def part(self, low: int, high: int) -> Self:
        arrays = {name: self.arrays[name][low:high] for name in ("weight", "scale", "bias")}
        return type(self)({**arrays, "form": self.arrays["form"]}, (high - low, self.size[1]))

    def _decode(self, low: int, high: int, out_PD: F32) -> None:
        group = int(self.arrays["form"][1])
        decode_int4(self.arrays["weight"][low:high], self.arrays["scale"][low:high], group, out_PD)


def _best_scales(values_OGg: F32, mass_Gg: npt.NDArray[np.float64]) -> F32:
    """(O, G) of the tried shares of the largest value, the one that loses least."""
    top_OG = np.abs(values_OGg).max(axis=2) / np.float32(7.5)
    top_OG = np.where(top_OG > 1e-30, top_OG, np.float32(1)).astype(np.float32)
    best, lost = top_OG, np.full(top_OG.shape, np.inf)
    for share in _SHRINK:
        scale = top_OG * share
        rounded = np.clip(np.rint(values_OGg / scale[:, :, None]), -8, 7) * scale[:, :, None]
        now = ((rounded - values_OGg).astype(np.float64) ** 2 * mass_Gg).sum(axis=2)
        best, lost = np.where(now < lost, scale, best), np.minimum(now, lost)
    return best


class Sparse2of4(Stored):
    """Of every four inputs of an output two weights at most: 17 bytes for 8 weights in place of 32.

    `encode` keeps the two largest, by what they do to the outputs where the inputs are known. weight: (O, V) float32;
    places: (O, Q) uint8, of four values each two bits; form: (1,) int64, D. There is a product of such matrices in
    GPUs, not in this class.
    """

    kind = "sparse-2:4"
    parts = ("weight", "places", "form", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight, places, form = arrays["weight"], arrays["places"], arrays["form"]
        if weight.ndim != 2 or form.dtype != np.int64 or form.shape != (1,) or places.dtype != np.uint8:
            return None
        outputs, dim = len(weight), int(form[0])
        quads = -(-dim // 4)
        fits = outputs > 0 and 0 < dim < 1 << 31 and is_f32(weight, outputs, 2 * quads)
        fits = fits and places.shape == (outputs, -(-quads // 2)) and is_f32(arrays["bias"], outputs)
        return (outputs, dim) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        outputs, dim = weight_OD.shape
        quads = -(-dim // 4)
        mass_D = np.ones(dim) if inputs is None else np.sqrt(np.diagonal(inputs.square_DD)) + 1e-12
        padded = np.pad(weight_OD, ((0, 0), (0, 4 * quads - dim))).reshape(outputs, quads, 4)
        counts = np.abs(padded) * np.pad(mass_D, (0, 4 * quads - dim)).reshape(1, quads, 4)
        at = np.sort(np.argsort(-counts, axis=2, kind="stable")[:, :, :2], axis=2)
        values = np.take_along_axis(padded, at, axis=2).reshape(outputs, 2 * quads)
        four = np.pad(at.reshape(outputs, -1), ((0, 0), (0, 2 * (quads % 2)))).reshape(outputs, -1, 4).astype(np.uint8)
        places: npt.NDArray[np.uint8] = (four << np.asarray([0, 2, 4, 6], np.uint8)).sum(axis=2, dtype=np.uint8)
        form = np.asarray([dim], np.int64)
        return cls({"weight": values, "places": places, "form": form, "bias": bias_O}, (outputs, dim))

    def part(self, low: int, high: int) -> Self:
        arrays = {name: self.arrays[name][low:high] for name in ("weight", "places", "bias")}
        return type(self)({**arrays, "form": self.arrays["form"]}, (high - low, self.size[1]))

    def _decode(self, low: int, high: int, out_PD: F32) -> None:
        decode_pairs(self.arrays["weight"][low:high], self.arrays["places"][low:high], out_PD)
