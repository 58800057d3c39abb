"""Item vectors as they were trained: float32, read without decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import BundleError
from leanrec.index.vectors.base import F32, ItemVectors, Weighting

__all__ = ["Float32Config", "Float32Vectors", "vectors_of"]


class Float32Config(Config, frozen=True, kw_only=True):
    """Nothing to choose."""


class Float32Vectors(ItemVectors):
    """A table of float32 rows."""

    kind = "float32"
    Options = Float32Config

    def __init__(self, table_ND: F32) -> None:
        self.table_ND = table_ND

    @property
    def shape(self) -> tuple[int, int]:
        return self.table_ND.shape[0], self.table_ND.shape[1]

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        if out is None:
            return np.asarray(self.table_ND[rows])
        return np.take(self.table_ND, rows, axis=0, out=out, mode="clip")

    def block(self, low: int, high: int) -> F32:
        return self.table_ND[low:high]

    def table(self) -> F32:
        return self.table_ND

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"table": self.table_ND}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        table_ND = tensors["table"]
        if table_ND.ndim != 2 or table_ND.dtype != np.float32:
            raise BundleError("the item table is not a matrix of float32: the bundle is damaged")
        return cls(table_ND)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        return cls(table_ND)

    def first(self, count: int) -> Self:
        return type(self)(self.table_ND[:count])

    def added(self, rows_UD: F32) -> Self:
        return type(self)(np.concatenate([self.table_ND, rows_UD.astype(np.float32, copy=False)]))


def vectors_of(items: F32 | ItemVectors) -> ItemVectors:
    """Item vectors, given them or a float32 table."""
    return items if isinstance(items, ItemVectors) else Float32Vectors(items)
