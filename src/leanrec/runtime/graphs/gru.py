"""Gated recurrent units as an ONNX graph: the state after the last event of each history."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.runtime.engines.arrays import EPS
from leanrec.runtime.engines.gru import GRUShape
from leanrec.runtime.graphs.base import EncoderGraph, Nodes

__all__ = ["GRUGraph"]


class GRUGraph(EncoderGraph[GRUShape]):
    """Lengths tell the operator where each history ends."""

    kind: ClassVar[str] = "gru"

    def encode(self, nodes: Nodes, vectors: str, lengths: str) -> str:
        shape = self.shape
        x = nodes.add("Mul", vectors, nodes.constant(shape.dim**0.5, np.float32))
        x = nodes.add("Transpose", x, perm=[1, 0, 2])
        ends = nodes.add("Cast", lengths, to=6)  # int32
        state = ""
        for layer in range(shape.layers):
            weights = [
                nodes.keep(f"gru.{name}_l{layer}", self._ordered(f"gru.{name}_l{layer}")[None])
                for name in ("weight_ih", "weight_hh")
            ]
            biases = [self._ordered(f"gru.{name}_l{layer}") for name in ("bias_ih", "bias_hh")]
            bias = nodes.keep(f"gru.bias_l{layer}", np.concatenate(biases)[None])
            states, state = nodes.several(
                "GRU", x, *weights, bias, ends, outputs=2, hidden_size=shape.hidden, linear_before_reset=1
            )
            x = nodes.add("Squeeze", states, nodes.constant([1]))
        out = nodes.dense(nodes.add("Squeeze", state, nodes.constant([0])), self.tensors, "out")
        return nodes.norm(out, self.tensors, "norm", EPS)

    def _ordered(self, name: str) -> npt.NDArray[np.float32]:
        """The array with its gates in ONNX's order (update, reset, new) in place of torch's (reset, update, new)."""
        reset, update, new = np.split(self.tensors[name], 3)
        return np.concatenate([update, reset, new])
