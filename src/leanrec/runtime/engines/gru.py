"""Gated recurrent units in NumPy and Numba: computes what nn.blocks.GRU does, read out at the last position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.gru import advance
from leanrec.kernels.transformer import layer_norm
from leanrec.runtime.dense import make_dense
from leanrec.runtime.engines.arrays import EPS, Shape, refuse_misfits
from leanrec.runtime.engines.sequence import EncoderShape, SequenceEngine

__all__ = ["GRUEngine", "GRUShape"]

F32 = npt.NDArray[np.float32]


class GRUShape(EncoderShape, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    layers: int
    hidden: int
    max_length: int


class GRUEngine(SequenceEngine[GRUShape]):
    """(B, D) query vectors of histories: the state after the last of `max_length` items.

    tensors: as nn.blocks.GRU names them. items: (N, D) the item vectors, also the input.
    """

    kind: ClassVar[str] = "gru"
    Shape = GRUShape

    def _arrange(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        _refuse_misfits(self.shape, tensors, self.items.shape)
        self._layers = [
            tuple(tensors[f"gru.{name}_l{i}"] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
            for i in range(self.shape.layers)
        ]
        self._out = make_dense(tensors, "out")
        self._norm: tuple[F32, F32] = tensors["norm.weight"], tensors["norm.bias"]

    @property
    def window(self) -> int:
        return self.shape.max_length

    def _encode(self, histories: Jagged, times_T: npt.NDArray[np.float64]) -> F32:
        """All sequences advance together, the longest first, so that those still running are the first ones."""
        order = np.argsort(-histories.lengths, kind="stable")
        lengths, first = histories.lengths[order], histories.offsets[:-1][order]
        running = np.searchsorted(-lengths, -np.arange(1, lengths[0] + 1), side="right")
        steps = np.concatenate([first[:count] + step for step, count in enumerate(running)])
        x = self.items.gather(histories.values[steps]) * np.float32(self.dim**0.5)
        for weight_ih, bias_ih, weight_hh, bias_hh in self._layers:
            inputs = x @ weight_ih.T
            inputs += bias_ih
            x, state = self._run(inputs, running, weight_hh, bias_hh)
        result = np.empty((len(order), self.dim), np.float32)
        result[order] = layer_norm(self._out(state), *self._norm, EPS)
        return result

    def _run(self, inputs: F32, running: npt.NDArray[np.int64], weight_hh: F32, bias_hh: F32) -> tuple[F32, F32]:
        """(T, H) states after every step, and (B, H) the last one of each sequence."""
        outputs = np.empty((len(inputs), self.shape.hidden), np.float32)
        state = np.zeros((running[0], self.shape.hidden), np.float32)
        start = 0
        for count in running:
            now = state[:count]
            recurrent = now @ weight_hh.T
            recurrent += bias_hh
            advance(inputs[start : start + count], recurrent, now)
            outputs[start : start + count] = now
            start += count
        return outputs, state


def _refuse_misfits(shape: GRUShape, tensors: Mapping[str, npt.NDArray[Any]], items: tuple[int, int]) -> None:
    dim, hidden = shape.dim, shape.hidden
    plain: dict[str, Shape] = {"norm.weight": (dim,), "norm.bias": (dim,)}
    for i in range(shape.layers):
        plain |= {f"gru.weight_ih_l{i}": (3 * hidden, dim if i == 0 else hidden), f"gru.bias_ih_l{i}": (3 * hidden,)}
        plain |= {f"gru.weight_hh_l{i}": (3 * hidden, hidden), f"gru.bias_hh_l{i}": (3 * hidden,)}
    fits = min(dim, hidden, shape.layers, shape.max_length) > 0 and items[1] == dim
    refuse_misfits(tensors, fits=fits, dense={"out": (dim, hidden)}, plain=plain)
