"""Item vectors of 8, 6, 5, 4 or 2 bits a value, with a scale and an offset a row (bfloat16) of least squared error.

With a metric (`Weighting.metric_DD`) it is the error as queries see it that is least, and codes make up for each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.index.vectors.base import F32, ItemVectors, Weighting, refuse
from leanrec.kernels.rounding import encode_rows_by, triangular
from leanrec.kernels.rowwise import decode_rows, encode_rows, packed_width

__all__ = [
    "Int2Vectors", "Int4Vectors", "Int5Vectors", "Int6Vectors", "Int8Vectors", "RowwiseConfig", "RowwiseVectors",
]  # fmt: skip

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
_RIDGE = 1e-4


class RowwiseConfig(Config, frozen=True, kw_only=True):
    """Nothing to choose: each row's range is searched for."""


class RowwiseVectors(ItemVectors):
    """codes_NW: (N, packed width), low bits first. scales_N, offsets_N: bfloat16 bits; x = offset + scale * code."""

    bits: ClassVar[int]
    Options = RowwiseConfig

    def __init__(self, dim: int, codes_NW: U8, scales_N: U16, offsets_N: U16) -> None:
        self._dim = dim
        self.codes_NW, self.scales_N, self.offsets_N = codes_NW, scales_N, offsets_N

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes_NW), self._dim

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        out = np.empty((len(rows), self._dim), np.float32) if out is None else out
        decode_rows(self.codes_NW, self.scales_N, self.offsets_N, self.bits, rows.astype(np.int64, copy=False), out)
        return out

    def ranges(self) -> tuple[F32, F32]:
        """(N,) scales and (N,) offsets as float32."""
        scales_N, offsets_N = ((h.astype(np.uint32) << 16).view(np.float32) for h in (self.scales_N, self.offsets_N))
        return scales_N, offsets_N

    def config(self) -> dict[str, Any]:
        return {"dim": self._dim}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"codes": self.codes_NW, "scales": self.scales_N, "offsets": self.offsets_N}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        dim, codes_NW, halves = config["dim"], tensors["codes"], (tensors["scales"], tensors["offsets"])
        refuse(type(dim) is int and dim > 0 and codes_NW.ndim == 2 and codes_NW.dtype == np.uint8, cls.kind)
        refuse(codes_NW.shape[1] == packed_width(dim, cls.bits), cls.kind)
        refuse(all(half.shape == codes_NW.shape[:1] and half.dtype == np.uint16 for half in halves), cls.kind)
        refuse(all(bool(((half & 0x7F80) != 0x7F80).all()) for half in halves), cls.kind)  # no infinity, no NaN
        return cls(dim, codes_NW, *halves)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        size, dim = table_ND.shape
        codes_NW = np.zeros((size, packed_width(dim, cls.bits)), np.uint8)
        scales_N, offsets_N = np.zeros(size, np.uint16), np.zeros(size, np.uint16)
        if size:
            table = np.ascontiguousarray(table_ND, np.float32)
            if weighting is None or weighting.metric_DD is None:
                encode_rows(table, cls.bits, codes_NW, scales_N, offsets_N)
            else:
                metric_DD = weighting.metric_DD + np.eye(dim) * _RIDGE * np.trace(weighting.metric_DD) / dim
                encode_rows_by(table, metric_DD, *triangular(metric_DD), cls.bits, codes_NW, scales_N, offsets_N)
        return cls(dim, codes_NW, scales_N, offsets_N)

    def first(self, count: int) -> Self:
        return type(self)(self._dim, *(array[:count] for array in self.tensors().values()))

    def added(self, rows_UD: F32) -> Self:
        new = self.encode(rows_UD, RowwiseConfig())
        pairs = zip(self.tensors().values(), new.tensors().values(), strict=True)
        return type(self)(self._dim, *(np.concatenate(pair) for pair in pairs))


class Int8Vectors(RowwiseVectors):
    """256 levels a value; D + 4 bytes a row."""

    kind, bits = "int8", 8


class Int6Vectors(RowwiseVectors):
    """64 levels a value; 3 D / 4 + 4 bytes a row."""

    kind, bits = "int6", 6


class Int5Vectors(RowwiseVectors):
    """32 levels a value; 5 D / 8 + 4 bytes a row."""

    kind, bits = "int5", 5


class Int4Vectors(RowwiseVectors):
    """16 levels a value; D / 2 + 4 bytes a row."""

    kind, bits = "int4", 4


class Int2Vectors(RowwiseVectors):
    """4 levels a value; D / 4 + 4 bytes a row."""

    kind, bits = "int2", 2
