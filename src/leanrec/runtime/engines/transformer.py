"""A transformer over packed histories in NumPy and Numba: the encoder that serves, without torch.

It computes what nn.blocks.Transformer computes, to float32 rounding, and only what a query needs: in the last block,
keys and values of every position, everything else for the last position alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.kernels.transformer import attend, attend_last, gated_add, layer_norm, relu, rotate, swiglu
from leanrec.runtime.dense import dense_size, make_dense
from leanrec.runtime.engines.arrays import EPS, Shape, refuse_misfits, under
from leanrec.runtime.engines.sequence import EncoderShape, SequenceEngine

__all__ = ["TransformerEngine", "TransformerShape", "rotation_of"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
_ROTARY_BASE = 10_000.0  # nn.rotary's
_LARGEST_ROTATION = 1 << 24  # made, not stored: nothing on disk bounds it


class TransformerShape(EncoderShape, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    block: str
    """`sasrec` or `ligr`, see nn.blocks."""
    layers: int
    heads: int
    """Of a full block: a head is `dim / heads` wide, and a block may have fewer of them."""
    max_length: int
    positions: Literal["learned", "rotary", "none"] = "learned"
    bidirectional: bool = False
    """Every event sees every other, and the query is the vector of a hidden event put after the last one."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Sequences end to end, and what attention has to know of them."""

    offsets: I64
    position_T: I64
    causal: bool
    rotation: tuple[F32, F32] | None
    """Cosines and sines (positions, pairs)."""


class TransformerEngine(SequenceEngine[TransformerShape]):
    """(B, D) query vectors of histories: the last `max_length` items, encoded at the last position.

    tensors: as nn.blocks.Transformer names them. items: (N, D) the item vectors, also the input.
    """

    kind: ClassVar[str] = "transformer"
    Shape = TransformerShape

    def _arrange(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        shape = self.shape
        block = _BLOCKS.get(shape.block)
        if block is None:
            raise BundleError(f"this bundle has an encoder block {shape.block!r} that this version does not know")
        _refuse_misfits(shape, tensors, self.items.shape)
        self._positions: F32 | None = tensors["positions.weight"] if shape.positions == "learned" else None
        self._mask: F32 | None = tensors["mask_D"] if shape.bidirectional else None
        self._norm: tuple[F32, F32] = tensors["norm.weight"], tensors["norm.bias"]
        self._blocks = [block(under(tensors, f"blocks.{i}."), shape.dim // shape.heads) for i in range(shape.layers)]
        self._rotation = rotation_of(shape) if shape.positions == "rotary" else None

    @property
    def window(self) -> int:
        return self.shape.max_length - self.shape.bidirectional

    def _encode(self, histories: Jagged, times_T: npt.NDArray[np.float64]) -> F32:
        x, offsets = self.items.gather(histories.values), histories.offsets
        if self._mask is not None:
            x = np.insert(x, offsets[1:], self._mask, axis=0)
            offsets = offsets + np.arange(len(offsets))
        x = x * np.float32(self.dim**0.5)
        position_T = np.arange(len(x)) - np.repeat(offsets[:-1], np.diff(offsets))
        if self._positions is not None:
            x += self._positions[position_T]
        batch = _Batch(offsets, position_T, self._mask is None, self._rotation)
        for block in self._blocks[:-1]:
            x = block.whole(x, batch)
        x = self._blocks[-1].last(x, batch) if self._blocks else x[offsets[1:] - 1]
        encoded: F32 = layer_norm(x, *self._norm, EPS)
        return encoded


def _refuse_misfits(shape: TransformerShape, tensors: Mapping[str, npt.NDArray[Any]], items: tuple[int, int]) -> None:
    dim, gated = shape.dim, shape.block == "ligr"
    norms, inners, dense = ["norm"], list[int](), dict[str, Shape]()
    for layer in range(shape.layers):
        at = f"blocks.{layer}."
        hidden, inner = (dense_size(tensors, f"{at}{name}")[1] for name in ("down", "attention.out"))
        inners.append(inner)
        norms += [f"{at}norm1", f"{at}norm2"]
        dense |= {f"{at}attention.qkv": (3 * inner, dim), f"{at}attention.out": (dim, inner)}
        dense |= {f"{at}up": ((1 + gated) * hidden, dim), f"{at}down": (dim, hidden)}
        dense |= {f"{at}gate1": (dim, dim), f"{at}gate2": (dim, dim)} if gated else {}
    plain: dict[str, Shape] = {f"{name}.{part}": (dim,) for name in norms for part in ("weight", "bias")}
    plain |= {"positions.weight": (shape.max_length, dim)} if shape.positions == "learned" else {}
    plain |= {"mask_D": (dim,)} if shape.bidirectional else {}
    fits = dim > 0 and shape.heads > 0 and dim % shape.heads == 0 and items[1] == dim
    fits = fits and all(inner % (dim // shape.heads) == 0 for inner in inners)
    fits = fits and shape.max_length > shape.bidirectional
    if shape.positions == "rotary":
        fits = fits and not dim // shape.heads % 2 and shape.max_length * dim <= _LARGEST_ROTATION
    refuse_misfits(tensors, fits=fits, dense=dense, plain=plain)


def rotation_of(shape: TransformerShape) -> tuple[F32, F32]:
    """Cosines and sines (positions, pairs) of rotary positions."""
    width = shape.dim // shape.heads
    rate = _ROTARY_BASE ** (-np.arange(0, width, 2) / width)
    angle = (np.arange(shape.max_length)[:, None] * rate).astype(np.float32)
    return np.cos(angle), np.sin(angle)


class _Block:
    """Attention and a feed-forward part; subclasses say how each is added to the stream.

    width: of a head. A block has as many heads, and as wide a feed-forward part, as its arrays say.
    """

    def __init__(self, tensors: Mapping[str, F32], width: int) -> None:
        self.norm1 = tensors["norm1.weight"], tensors["norm1.bias"]
        self.norm2 = tensors["norm2.weight"], tensors["norm2.bias"]
        self.qkv, self.out = make_dense(tensors, "attention.qkv"), make_dense(tensors, "attention.out")
        self.up, self.down = make_dense(tensors, "up"), make_dense(tensors, "down")
        inner = self.qkv.size[0] // 3
        self.heads = inner // width
        self.q, self.kv = self.qkv.part(0, inner), self.qkv.part(inner, 3 * inner)

    def whole(self, x_TD: F32, batch: _Batch) -> F32:
        """Every position."""
        qkv = self.qkv(layer_norm(x_TD, *self.norm1, EPS))
        if batch.rotation is not None:
            rotate(qkv, batch.position_T, 2 * self.heads, *batch.rotation)
        mixed = attend(qkv, batch.offsets, self.heads, batch.causal)
        return self.feed_forward(self.add_attention(x_TD, self.out(mixed)))

    def last(self, x_TD: F32, batch: _Batch) -> F32:
        """(B, D) the last position of each sequence."""
        normed = layer_norm(x_TD, *self.norm1, EPS)
        ends = batch.offsets[1:] - 1
        q, kv = self.q(normed[ends]), self.kv(normed)
        if batch.rotation is not None:
            rotate(q, batch.position_T[ends], self.heads, *batch.rotation)
            rotate(kv, batch.position_T, self.heads, *batch.rotation)
        mixed = attend_last(q, kv, batch.offsets, self.heads)
        return self.feed_forward(self.add_attention(x_TD[ends], self.out(mixed)))

    def add_attention(self, x_TD: F32, update_TD: F32) -> F32:
        raise NotImplementedError

    def feed_forward(self, x_TD: F32) -> F32:
        raise NotImplementedError


class _SASRec(_Block):
    def add_attention(self, x_TD: F32, update_TD: F32) -> F32:
        update_TD += x_TD
        return update_TD

    def feed_forward(self, x_TD: F32) -> F32:
        hidden = self.up(layer_norm(x_TD, *self.norm2, EPS))
        relu(hidden)
        update = self.down(hidden)
        update += x_TD
        return update


class _LiGR(_Block):
    def __init__(self, tensors: Mapping[str, F32], width: int) -> None:
        super().__init__(tensors, width)
        self.gate1, self.gate2 = make_dense(tensors, "gate1"), make_dense(tensors, "gate2")

    def add_attention(self, x_TD: F32, update_TD: F32) -> F32:
        gate = self.gate1(x_TD)
        x_TD = x_TD.copy()
        gated_add(x_TD, update_TD, gate)
        return x_TD

    def feed_forward(self, x_TD: F32) -> F32:
        hidden = swiglu(self.up(layer_norm(x_TD, *self.norm2, EPS)))
        gated_add(x_TD, self.down(hidden), self.gate2(x_TD))
        return x_TD


_BLOCKS: dict[str, type[_Block]] = {"sasrec": _SASRec, "ligr": _LiGR}
