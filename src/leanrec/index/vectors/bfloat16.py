"""Item vectors in bfloat16: the upper half of each float32, rounded to nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.index.vectors.base import F32, ItemVectors, Weighting, refuse
from leanrec.kernels.bfloat16 import nearest_bfloat16, widen_rows

__all__ = ["Bfloat16Config", "Bfloat16Vectors"]


class Bfloat16Config(Config, frozen=True, kw_only=True):
    """Nothing to choose."""


class Bfloat16Vectors(ItemVectors):
    """(N, D) uint16, the upper halves."""

    kind = "bfloat16"
    Options = Bfloat16Config

    def __init__(self, upper_ND: npt.NDArray[np.uint16]) -> None:
        self._upper_ND = upper_ND

    @property
    def shape(self) -> tuple[int, int]:
        return self._upper_ND.shape[0], self._upper_ND.shape[1]

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        out = np.empty((len(rows), self.shape[1]), np.float32) if out is None else out
        widen_rows(self._upper_ND, rows.astype(np.int32, copy=False), out)
        return out

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"upper": self._upper_ND}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        upper_ND = tensors["upper"]
        refuse(upper_ND.ndim == 2 and upper_ND.dtype == np.uint16, cls.kind)
        refuse(bool(((upper_ND & 0x7F80) != 0x7F80).all()), cls.kind)  # no infinity, no NaN
        return cls(upper_ND)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        return cls(nearest_bfloat16(table_ND))

    def first(self, count: int) -> Self:
        return type(self)(self._upper_ND[:count])

    def added(self, rows_UD: F32) -> Self:
        return type(self)(np.concatenate([self._upper_ND, nearest_bfloat16(rows_UD)]))
