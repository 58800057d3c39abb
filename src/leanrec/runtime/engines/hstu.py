"""HSTU over packed histories in NumPy and Numba: computes what nn.blocks.hstu does, for the last position alone.

In the last layer keys and values of every position are needed, everything else once a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.hstu import aggregate, silu
from leanrec.kernels.transformer import layer_norm
from leanrec.runtime.dense import make_dense
from leanrec.runtime.engines.arrays import EPS, Shape, refuse_misfits, under
from leanrec.runtime.engines.sequence import EncoderShape, SequenceEngine

__all__ = ["HSTUEngine", "HSTUShape"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
_BUCKETS = 32  # nn.blocks.hstu's
_EPS = 1e-6


class HSTUShape(EncoderShape, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    layers: int
    heads: int
    max_length: int
    timed: bool
    """Whether there is a bias by elapsed time."""


class HSTUEngine(SequenceEngine[HSTUShape]):
    """(B, D) query vectors of histories: the last `max_length` items, encoded at the last position.

    tensors: as nn.blocks.HSTU names them. items: (N, D) the item vectors, also the input.
    """

    kind: ClassVar[str] = "hstu"
    Shape = HSTUShape

    def _arrange(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        _refuse_misfits(self.shape, tensors, self.items.shape)
        self._norm: tuple[F32, F32] = tensors["norm.weight"], tensors["norm.bias"]
        self._layers = [_Layer(under(tensors, f"blocks.{i}."), self.shape) for i in range(self.shape.layers)]

    @property
    def window(self) -> int:
        return self.shape.max_length

    def encode_timed(self, histories: Jagged, times: Jagged) -> F32:
        return self._in_chunks(histories, times if self.shape.timed else None)

    def _encode(self, histories: Jagged, times_T: npt.NDArray[np.float64]) -> F32:
        x = self.items.gather(histories.values) * np.float32(self.dim**0.5)
        ends, first = histories.offsets[1:] - 1, histories.offsets[:-1]
        for layer in self._layers[:-1]:
            x = layer(x, times_T, np.arange(len(x)), np.repeat(first, histories.lengths))
        x = self._layers[-1](x, times_T, ends, first) if self._layers else x[ends]
        encoded: F32 = layer_norm(x, *self._norm, EPS)
        return encoded


def _refuse_misfits(shape: HSTUShape, tensors: Mapping[str, npt.NDArray[Any]], items: tuple[int, int]) -> None:
    dim, heads = shape.dim, shape.heads
    plain: dict[str, Shape] = {"norm.weight": (dim,), "norm.bias": (dim,)}
    dense = dict[str, Shape]()
    for layer in range(shape.layers):
        at = f"blocks.{layer}."
        plain |= {f"{at}{norm}.{part}": (dim,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        plain |= {f"{at}position_PH": (shape.max_length, heads)}
        plain |= {f"{at}time_BH": (_BUCKETS + 1, heads)} if shape.timed else {}
        dense |= {f"{at}uvqk": (4 * dim, dim), f"{at}out": (dim, dim)}
    fits = dim > 0 and heads > 0 and dim % heads == 0 and shape.max_length > 0 and items[1] == dim
    refuse_misfits(tensors, fits=fits, dense=dense, plain=plain)


class _Layer:
    """nn.blocks.hstu.HSTULayer at the tokens that are asked for."""

    def __init__(self, tensors: Mapping[str, F32], shape: HSTUShape) -> None:
        self.norm1 = tensors["norm1.weight"], tensors["norm1.bias"]
        self.norm2 = tensors["norm2.weight"], tensors["norm2.bias"]
        uvqk, dim = make_dense(tensors, "uvqk"), shape.dim
        self.u, self.v, self.q, self.k = (uvqk.part(i * dim, (i + 1) * dim) for i in range(4))
        self.out = make_dense(tensors, "out")
        self.position_HP = np.ascontiguousarray(tensors["position_PH"].T)
        time_BH = tensors["time_BH"] if shape.timed else np.zeros((1, shape.heads), np.float32)
        self.time_HB = np.ascontiguousarray(time_BH.T)

    def __call__(self, x_TD: F32, times_T: npt.NDArray[np.float64], at_Q: I64, first_Q: I64) -> F32:
        normed = layer_norm(x_TD, *self.norm1, _EPS)
        asked = normed[at_Q]
        u, v, q, k = self.u(asked), self.v(normed), self.q(asked), self.k(normed)
        for part in (u, v, q, k):
            silu(part)
        mixed = aggregate(q, k, v, first_Q, at_Q, self.position_HP, self.time_HB, times_T)
        update = self.out(layer_norm(mixed, *self.norm2, _EPS) * u)
        update += x_TD[at_Q]
        return update
