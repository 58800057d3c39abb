"""The transformer as an ONNX graph: in the last block keys and values of all positions, the rest for the last alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from leanrec.runtime.dense import dense_size
from leanrec.runtime.engines.arrays import EPS
from leanrec.runtime.engines.transformer import TransformerShape, rotation_of
from leanrec.runtime.graphs.base import EncoderGraph, Nodes

__all__ = ["TransformerGraph"]


class TransformerGraph(EncoderGraph[TransformerShape]):
    """Padding stands behind a history, where a causal mask hides it; looking both ways, a mask by length does."""

    kind: ClassVar[str] = "transformer"

    def encode(self, nodes: Nodes, vectors: str, lengths: str) -> str:
        shape = self.shape
        if shape.bidirectional:
            vectors = self._with_mask(nodes, vectors, lengths)
            lengths = nodes.add("Add", lengths, nodes.constant([1]))
        self._lengths = nodes.add("Unsqueeze", lengths, nodes.constant([1]))
        self._size = nodes.add("Gather", nodes.add("Shape", vectors), nodes.constant(1), axis=0)
        self._place = nodes.add("Range", nodes.constant(0), self._size, nodes.constant(1))
        self._last = nodes.add("Sub", nodes.add("Unsqueeze", lengths, nodes.constant([1, 2])), nodes.constant(1))
        x = nodes.add("Mul", vectors, nodes.constant(shape.dim**0.5, np.float32))
        if shape.positions == "learned":
            table = nodes.keep("positions.weight", self.tensors["positions.weight"])
            x = nodes.add("Add", x, nodes.add("Gather", table, self._place, axis=0))
        self._biases(nodes)
        for layer in range(shape.layers):
            x = self._block(nodes, x, layer, last=layer == shape.layers - 1)
        if not shape.layers:
            x = self._at_last(nodes, x)
        return nodes.add("Squeeze", nodes.norm(x, self.tensors, "norm", EPS), nodes.constant([1]))

    def _with_mask(self, nodes: Nodes, vectors: str, lengths: str) -> str:
        """One position more, and the vector of a hidden event after the last one of each history."""
        wider = nodes.add("Pad", vectors, nodes.constant([0, 0, 0, 0, 1, 0]))
        size = nodes.add("Gather", nodes.add("Shape", wider), nodes.constant(1), axis=0)
        place = nodes.add("Range", nodes.constant(0), size, nodes.constant(1))
        here = nodes.add("Equal", place, nodes.add("Unsqueeze", lengths, nodes.constant([1])))
        here = nodes.add("Unsqueeze", here, nodes.constant([2]))
        return nodes.add("Where", here, nodes.keep("mask_D", self.tensors["mask_D"]), wider)

    def _biases(self, nodes: Nodes) -> None:
        """0 where a key is seen and -inf elsewhere, for all queries and for the last one."""
        low, high = nodes.constant(0, np.float32), nodes.constant(-np.inf, np.float32)
        inside = nodes.add("Less", self._place, self._lengths)
        self._last_bias = nodes.add("Unsqueeze", nodes.add("Where", inside, low, high), nodes.constant([1, 2]))
        self._bias = self._last_bias
        if not self.shape.bidirectional:
            column = nodes.add("Unsqueeze", self._place, nodes.constant([1]))
            past = nodes.add("LessOrEqual", self._place, column)
            self._bias = nodes.add("Where", past, low, high)
        if self.shape.positions == "rotary":
            cos_PW, sin_PW = rotation_of(self.shape)
            tables = nodes.keep("cosines", cos_PW), nodes.keep("sines", sin_PW)
            at_last = nodes.add("Squeeze", self._last, nodes.constant([2]))
            self._turns = [nodes.add("Gather", table, self._place, axis=0) for table in tables]
            self._last_turns = [
                nodes.add("Unsqueeze", nodes.add("Gather", table, at_last, axis=0), nodes.constant([1]))
                for table in tables
            ]

    def _at_last(self, nodes: Nodes, x: str) -> str:
        """(B, 1, D) the last position."""
        shape = nodes.add("Concat", nodes.add("Shape", self._last, end=1), nodes.constant([1, self.shape.dim]), axis=0)
        return nodes.add("GatherElements", x, nodes.add("Expand", self._last, shape), axis=1)

    def _heads(self, nodes: Nodes, x: str, perm: list[int]) -> str:
        shape = self.shape
        split = nodes.add("Reshape", x, nodes.constant([0, 0, -1, shape.dim // shape.heads]))
        return nodes.add("Transpose", split, perm=perm)

    def _turn(self, nodes: Nodes, x: str, turns: list[str]) -> str:
        if self.shape.positions != "rotary":
            return x
        low, high = nodes.several("Split", x, outputs=2, axis=-1)
        cos, sin = turns
        turned = [
            nodes.add("Sub", nodes.add("Mul", low, cos), nodes.add("Mul", high, sin)),
            nodes.add("Add", nodes.add("Mul", low, sin), nodes.add("Mul", high, cos)),
        ]
        return nodes.add("Concat", *turned, axis=-1)

    def _attention(self, nodes: Nodes, x: str, at: str, last: bool) -> tuple[str, str]:
        """What attention brings, and the rows of x that it is for."""
        inner = dense_size(self.tensors, f"{at}attention.out")[1]  # less than D where heads were pruned
        name, normed = f"{at}attention.qkv", nodes.norm(x, self.tensors, f"{at}norm1", EPS)
        asking, asked = (self._at_last(nodes, normed), self._at_last(nodes, x)) if last else (normed, x)
        if last:
            q = nodes.dense(asking, self.tensors, name, slice(0, inner))
            k, v = nodes.several(
                "Split", nodes.dense(normed, self.tensors, name, slice(inner, 3 * inner)), outputs=2, axis=-1
            )
        else:
            q, k, v = nodes.several(
                "Split", nodes.dense(normed, self.tensors, name), nodes.constant([inner] * 3), outputs=3, axis=-1
            )
        q = self._heads(nodes, q, [0, 2, 1, 3])
        q = self._turn(
            nodes, q, (self._last_turns if last else self._turns) if self.shape.positions == "rotary" else []
        )
        k = self._heads(nodes, k, [0, 2, 1, 3])
        k = self._turn(nodes, k, self._turns if self.shape.positions == "rotary" else [])
        k = nodes.add("Transpose", k, perm=[0, 1, 3, 2])
        q = nodes.add("Mul", q, nodes.constant((self.shape.dim // self.shape.heads) ** -0.5, np.float32))
        logits = nodes.add("Add", nodes.add("MatMul", q, k), self._last_bias if last else self._bias)
        mixed = nodes.add("MatMul", nodes.add("Softmax", logits, axis=-1), self._heads(nodes, v, [0, 2, 1, 3]))
        mixed = nodes.add("Reshape", nodes.add("Transpose", mixed, perm=[0, 2, 1, 3]), nodes.constant([0, 0, inner]))
        return nodes.dense(mixed, self.tensors, f"{at}attention.out"), asked

    def _block(self, nodes: Nodes, x: str, layer: int, *, last: bool) -> str:
        at, gated = f"blocks.{layer}.", self.shape.block == "ligr"
        hidden = dense_size(self.tensors, f"{at}down")[1]
        update, x = self._attention(nodes, x, at, last)
        x = self._residual(nodes, x, update, f"{at}gate1", gated)
        inner = nodes.dense(nodes.norm(x, self.tensors, f"{at}norm2", EPS), self.tensors, f"{at}up")
        if gated:
            value, gate = nodes.several("Split", inner, nodes.constant([hidden] * 2), outputs=2, axis=-1)
            inner = nodes.add("Mul", value, nodes.add("Mul", gate, nodes.add("Sigmoid", gate)))
        else:
            inner = nodes.add("Relu", inner)
        return self._residual(nodes, x, nodes.dense(inner, self.tensors, f"{at}down"), f"{at}gate2", gated)

    def _residual(self, nodes: Nodes, x: str, update: str, gate: str, gated: bool) -> str:
        if gated:
            update = nodes.add("Mul", update, nodes.add("Sigmoid", nodes.dense(x, self.tensors, gate)))
        return nodes.add("Add", x, update)
