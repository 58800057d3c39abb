"""A causal transformer over packed histories in NumPy and Numba: the encoder that serves, without torch.

It computes what nn.blocks.Transformer computes, to float32 rounding, and only what a query needs: in the last block,
keys and values of every position, everything else for the last position alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.kernels.dense import dense_int8
from leanrec.kernels.transformer import attend, attend_last, gated_add, layer_norm, relu, swiglu

__all__ = ["TransformerEngine", "TransformerShape"]

F32 = npt.NDArray[np.float32]
_EPS = 1e-5  # torch.nn.LayerNorm's
_CHUNK_TOKENS = 8192  # activations of a chunk stay in the cache


class TransformerShape(Config, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    block: str
    """`sasrec` or `ligr`, see nn.blocks."""
    dim: int
    layers: int
    heads: int
    max_length: int


class TransformerEngine:
    """(B, D) query vectors of histories: the last `max_length` items, encoded at the last position.

    tensors: as nn.blocks.Transformer names them. items_ND: (N, D) the item table, also the input vectors.
    """

    kind: ClassVar[str] = "transformer"

    def __init__(self, shape: TransformerShape, tensors: Mapping[str, npt.NDArray[Any]], items_ND: F32) -> None:
        self.shape, self.items_ND = shape, items_ND
        self._tensors = dict(tensors)
        block = _BLOCKS.get(shape.block)
        if block is None:
            raise BundleError(f"this bundle has an encoder block {shape.block!r} that this version does not know")
        try:
            _refuse_misfits(shape, tensors, items_ND)
            self._positions: F32 = tensors["positions.weight"]
            self._norm: tuple[F32, F32] = tensors["norm.weight"], tensors["norm.bias"]
            self._blocks = [block(_under(tensors, f"blocks.{i}."), shape.heads) for i in range(shape.layers)]
        except KeyError as error:
            raise BundleError(f"the encoder's array {error.args[0]!r} is missing: the bundle is incomplete") from error

    @property
    def dim(self) -> int:
        return self.shape.dim

    def encode(self, histories: Jagged) -> F32:
        histories = histories.last(self.shape.max_length)
        lengths = histories.lengths
        assert len(lengths) == 0 or lengths.min() > 0, "an encoder gets non-empty histories"
        result = np.empty((len(histories), self.dim), np.float32)
        ends = np.cumsum(lengths)
        start = 0
        while start < len(histories):
            base = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK_TOKENS, side="right")))
            result[start:stop] = self._encode(histories.slice(start, stop))
            start = stop
        return result

    def _encode(self, histories: Jagged) -> F32:
        offsets = histories.offsets
        position = np.arange(len(histories.values)) - np.repeat(offsets[:-1], histories.lengths)
        x = self.items_ND[histories.values] * np.float32(self.dim**0.5)
        x += self._positions[position]
        for block in self._blocks[:-1]:
            x = block.whole(x, offsets)
        if self._blocks:
            x = self._blocks[-1].last(x, offsets)
        else:
            x = x[offsets[1:] - 1]
        return layer_norm(x, *self._norm, _EPS)

    def config(self) -> dict[str, Any]:
        return to_dict(self.shape)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self._tensors

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items_ND: F32) -> Self:
        return cls(build(TransformerShape, config, where="encoder"), tensors, items_ND)


def _refuse_misfits(shape: TransformerShape, tensors: Mapping[str, npt.NDArray[Any]], items_ND: F32) -> None:
    """Kernels do not check bounds: every array has the shape and the type that they rely on, or it is a BundleError."""
    dim, gated = shape.dim, shape.block == "ligr"
    vectors, dense = [("norm", (dim,))], []
    for layer in range(shape.layers):
        at = f"blocks.{layer}."
        hidden = tensors[f"{at}down.weight"].shape[-1]
        vectors += [(f"{at}norm1", (dim,)), (f"{at}norm2", (dim,))]
        dense += [(f"{at}attention.qkv", (3 * dim, dim)), (f"{at}attention.out", (dim, dim))]
        dense += [(f"{at}up", ((1 + gated) * hidden, dim)), (f"{at}down", (dim, hidden))]
        dense += [(f"{at}gate1", (dim, dim)), (f"{at}gate2", (dim, dim))] if gated else []
    wanted: dict[str, tuple[int, ...]] = {"positions.weight": (shape.max_length, dim)}
    wanted |= {f"{name}.{part}": size for name, size in vectors for part in ("weight", "bias")}
    fits = dim > 0 and shape.heads > 0 and dim % shape.heads == 0 and items_ND.shape[1:] == (dim,)
    for name, size in dense:
        coded = tensors[f"{name}.weight"].dtype == np.int8
        fits = fits and tensors[f"{name}.weight"].shape == size
        wanted |= {f"{name}.bias": size[:1], f"{name}.{'scale' if coded else 'weight'}": size[:1] if coded else size}
    if not fits or any(tensors[n].shape != s or tensors[n].dtype != np.float32 for n, s in wanted.items()):
        raise BundleError("the encoder's arrays do not have the shape its configuration says")


def _under(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, F32]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


class _Dense:
    """x W^T + b, in float32 or with an int8 weight and its scales."""

    def __init__(self, tensors: Mapping[str, F32], name: str) -> None:
        self.weight, self.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        self.scale = tensors[f"{name}.scale"] if self.weight.dtype == np.int8 else None

    def __call__(self, x_TD: F32) -> F32:
        if self.scale is not None:
            coded: F32 = dense_int8(x_TD, self.weight, self.scale, self.bias)
            return coded
        out: F32 = x_TD @ self.weight.T
        out += self.bias
        return out

    def part(self, low: int, high: int) -> _Dense:
        """Output columns low..high as a layer of their own."""
        part = object.__new__(_Dense)
        part.weight, part.bias = self.weight[low:high], self.bias[low:high]
        part.scale = None if self.scale is None else self.scale[low:high]
        return part


class _Block:
    """Attention and a feed-forward part; subclasses say how each is added to the stream."""

    def __init__(self, tensors: Mapping[str, F32], heads: int) -> None:
        self.heads = heads
        self.norm1 = tensors["norm1.weight"], tensors["norm1.bias"]
        self.norm2 = tensors["norm2.weight"], tensors["norm2.bias"]
        self.qkv, self.out = _Dense(tensors, "attention.qkv"), _Dense(tensors, "attention.out")
        self.up, self.down = _Dense(tensors, "up"), _Dense(tensors, "down")
        dim = len(self.qkv.bias) // 3
        self.q, self.kv = self.qkv.part(0, dim), self.qkv.part(dim, 3 * dim)

    def whole(self, x_TD: F32, offsets: npt.NDArray[np.int64]) -> F32:
        """Every position."""
        mixed = attend(self.qkv(layer_norm(x_TD, *self.norm1, _EPS)), offsets, self.heads)
        return self.feed_forward(self.add_attention(x_TD, self.out(mixed)))

    def last(self, x_TD: F32, offsets: npt.NDArray[np.int64]) -> F32:
        """(B, D) the last position of each sequence."""
        normed = layer_norm(x_TD, *self.norm1, _EPS)
        ends = offsets[1:] - 1
        mixed = attend_last(self.q(normed[ends]), self.kv(normed), offsets, self.heads)
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
        hidden = self.up(layer_norm(x_TD, *self.norm2, _EPS))
        relu(hidden)
        update = self.down(hidden)
        update += x_TD
        return update


class _LiGR(_Block):
    def __init__(self, tensors: Mapping[str, F32], heads: int) -> None:
        super().__init__(tensors, heads)
        self.gate1, self.gate2 = _Dense(tensors, "gate1"), _Dense(tensors, "gate2")

    def add_attention(self, x_TD: F32, update_TD: F32) -> F32:
        gate = self.gate1(x_TD)
        x_TD = x_TD.copy()
        gated_add(x_TD, update_TD, gate)
        return x_TD

    def feed_forward(self, x_TD: F32) -> F32:
        hidden = swiglu(self.up(layer_norm(x_TD, *self.norm2, _EPS)))
        gated_add(x_TD, self.down(hidden), self.gate2(x_TD))
        return x_TD


_BLOCKS: dict[str, type[_Block]] = {"sasrec": _SASRec, "ligr": _LiGR}
