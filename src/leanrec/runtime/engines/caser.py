"""Caser in NumPy: computes what nn.blocks.Caser does, at the last position alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.transformer import layer_norm
from leanrec.runtime.dense import make_dense
from leanrec.runtime.engines.arrays import EPS, Shape, refuse_misfits
from leanrec.runtime.engines.sequence import EncoderShape, SequenceEngine

__all__ = ["CaserEngine", "CaserShape"]

F32 = npt.NDArray[np.float32]


class CaserShape(EncoderShape, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    window: int
    filters: int
    vertical: int


class CaserEngine(SequenceEngine[CaserShape]):
    """(B, D) query vectors of the last `window` items of histories.

    tensors: as nn.blocks.Caser names them. items: (N, D) the item vectors, also the input.
    """

    kind: ClassVar[str] = "caser"
    Shape = CaserShape

    def _arrange(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        _refuse_misfits(self.shape, tensors, self.items.shape)
        self._horizontal = [make_dense(tensors, f"horizontal.{i}") for i in range(self.shape.window)]
        self._vertical, self._hidden, self._out = (make_dense(tensors, name) for name in ("vertical", "hidden", "out"))
        self._norm: tuple[F32, F32] = tensors["norm.weight"], tensors["norm.bias"]

    @property
    def window(self) -> int:
        return self.shape.window

    def _encode(self, histories: Jagged, times_T: npt.NDArray[np.float64]) -> F32:
        window, dim, batch = self.window, self.dim, len(histories)
        seen_BWD = np.zeros((batch, window, dim), np.float32)
        row_T = histories.row_of()
        place_T = np.arange(len(row_T)) - histories.offsets[1:][row_T] + window
        seen_BWD[row_T, place_T] = self.items.gather(histories.values) * np.float32(dim**0.5)
        by_age = np.ascontiguousarray(seen_BWD.transpose(0, 2, 1)).reshape(batch * dim, window)
        parts = [self._vertical(by_age).reshape(batch, dim * self.shape.vertical)]
        for height, layer in enumerate(self._horizontal, 1):
            slid = np.concatenate([seen_BWD[:, at : at + height] for at in range(window - height + 1)])
            answers = layer(slid.reshape(len(slid), height * dim)).reshape(
                window - height + 1, batch, self.shape.filters
            )
            parts.append(np.maximum(answers.max(axis=0), 0))
        hidden = np.maximum(self._hidden(np.concatenate(parts, axis=1)), 0)
        encoded: F32 = layer_norm(self._out(hidden), *self._norm, EPS)
        return encoded


def _refuse_misfits(shape: CaserShape, tensors: Mapping[str, npt.NDArray[Any]], items: tuple[int, int]) -> None:
    dim, window, filters = shape.dim, shape.window, shape.filters
    dense: dict[str, Shape] = {f"horizontal.{i}": (filters, (i + 1) * dim) for i in range(window)}
    dense |= {"vertical": (shape.vertical, window), "hidden": (dim, window * filters + shape.vertical * dim)}
    dense |= {"out": (dim, dim)}
    fits = min(dim, window, filters, shape.vertical) > 0 and items[1] == dim
    refuse_misfits(tensors, fits=fits, dense=dense, plain={"norm.weight": (dim,), "norm.bias": (dim,)})
