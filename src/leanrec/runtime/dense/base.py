"""The contract of a dense layer that serves: x W^T + b, however its weights are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt

__all__ = ["DenseLayer", "Inputs", "is_f32", "range_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]
BINS, _OCTAVE, _LOWEST = 1024, 32, -20
"""Sizes of inputs are counted in bins of a 32nd of an octave, from 2^-20 on: 2 % wide."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a layer's inputs were like on calibration histories.

    square_DD: mean of x x^T. sizes: how many values fell into each bin of |x|.
    """

    square_DD: F64
    sizes: npt.NDArray[np.int64]

    def limit(self, levels: int) -> float:
        """The range whose `levels` steps on each side lose least in squares: what lies beyond is cut off."""
        edges = 2.0 ** (_LOWEST + (np.arange(BINS) + 1) / _OCTAVE)
        middle = edges * 2.0 ** (-0.5 / _OCTAVE)
        count = self.sizes.astype(np.float64)
        if not count.sum():
            return 1.0
        tried = edges[np.flatnonzero(count)[-1] :: -1][: 8 * _OCTAVE]
        beyond = np.maximum(middle[None, :] - tried[:, None], 0.0) ** 2 @ count
        return float(tried[np.argmin(beyond + (tried / levels) ** 2 / 12 * count.sum())])


def range_of(x: F32) -> npt.NDArray[np.int64]:
    """(BINS,) how many values fall into each bin of |x|."""
    size = np.abs(x[x != 0])
    at = np.clip(np.floor((np.log2(size) - _LOWEST) * _OCTAVE), 0, BINS - 1).astype(np.int64)
    return np.bincount(at, minlength=BINS)


def is_f32(array: npt.NDArray[Any], *shape: int) -> bool:
    """Whether it is a float32 array of that shape."""
    return array.dtype == np.float32 and array.shape == shape


class DenseLayer(ABC):
    """(T, D) float32 inputs to (T, O) float32 outputs, O and D at least 1, T any.

    arrays: what a bundle holds of it, by part: `bias` (O,) float32, and the parts that its kind names. They are never
    written to and may be mapped. A layer is made of arrays for which `size_of` gave a size.
    """

    kind: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]

    @final
    def __init__(self, arrays: Arrays, size: tuple[int, int]) -> None:
        self.arrays = {part: arrays[part] for part in self.parts}
        self.size = size
        self.bias: F32 = arrays["bias"]

    @classmethod
    @abstractmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        """(O, D), or None where a shape, a type or a number among the arrays is not what the kernels rely on."""

    @classmethod
    @abstractmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        """The layer for a matrix. inputs: where known, errors are weighed by them."""

    @abstractmethod
    def __call__(self, x_TD: F32) -> F32:
        """(T, O) a fresh array."""

    @abstractmethod
    def part(self, low: int, high: int) -> Self:
        """Outputs low..high as a layer of their own, sharing memory where it can."""

    @abstractmethod
    def weight(self) -> F32:
        """(O, D) the matrix that it stands for, as float32."""

    @property
    @final
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())
