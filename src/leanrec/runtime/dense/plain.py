"""Dense layers that are float32 products: the plain one, two thin factors, and the one that watches its inputs."""

from __future__ import annotations

from typing import Self

import numpy as np

from leanrec.runtime.dense.base import BINS, F32, F64, Arrays, DenseLayer, Inputs, is_f32, range_of

__all__ = ["Float32", "LowRank", "Observed"]


class Float32(DenseLayer):
    """x W^T + b."""

    kind = "float32"
    parts = ("weight", "bias")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        weight = arrays["weight"]
        fits = weight.ndim == 2 and is_f32(weight, *weight.shape) and is_f32(arrays["bias"], len(weight))
        return (weight.shape[0], weight.shape[1]) if fits and weight.size else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        return cls({"weight": weight_OD, "bias": bias_O}, weight_OD.shape)

    def __call__(self, x_TD: F32) -> F32:
        out_TO: F32 = x_TD @ self.arrays["weight"].T
        out_TO += self.bias
        return out_TO

    def part(self, low: int, high: int) -> Self:
        return self.encode(self.arrays["weight"][low:high], self.bias[low:high])

    def weight(self) -> F32:
        matrix: F32 = self.arrays["weight"]
        return matrix


class LowRank(DenseLayer):
    """(x down^T) up^T + b, of rank R.

    The factors lose least on the inputs that were seen: the matrix times the square root of their second moments is
    cut off by its singular values, and the root taken out again (as in ASVD and SVD-LLM, arXiv:2403.07378).
    """

    kind = "low-rank"
    parts = ("down", "up", "bias")
    energy = 0.99
    """Share of the squared outputs that `encode` keeps."""

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        down, up = arrays["down"], arrays["up"]
        if down.ndim != 2 or up.ndim != 2 or not down.size or not up.size:
            return None
        outputs, rank = up.shape
        fits = is_f32(up, outputs, rank) and is_f32(down, rank, down.shape[1]) and is_f32(arrays["bias"], outputs)
        return (outputs, down.shape[1]) if fits else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        strength = cls.spectrum(weight_OD, inputs)
        kept = np.cumsum(strength**2) / max(float((strength**2).sum()), 1e-300)
        return cls.of_rank(weight_OD, bias_O, 1 + int(np.searchsorted(kept, cls.energy)), inputs)

    @classmethod
    def of_rank(cls, weight_OD: F32, bias_O: F32, rank: int, inputs: Inputs | None = None) -> Self:
        """The best factors of a rank, 1 to min(O, D)."""
        root_DD, inverse_DD = _roots(inputs, weight_OD.shape[1])
        left, strength, right = np.linalg.svd(weight_OD @ root_DD, full_matrices=False)
        rank = min(rank, len(strength))
        share = np.sqrt(strength[:rank])
        down = ((share[:, None] * right[:rank]) @ inverse_DD).astype(np.float32)
        up = np.ascontiguousarray((left[:, :rank] * share).astype(np.float32))
        return cls({"down": np.ascontiguousarray(down), "up": up, "bias": bias_O}, weight_OD.shape)

    @classmethod
    def spectrum(cls, weight_OD: F32, inputs: Inputs | None = None) -> F64:
        """The singular values, largest first; their squares are what each rank adds to the outputs' second moment."""
        scaled_OD: F64 = weight_OD.astype(np.float64) @ _roots(inputs, weight_OD.shape[1])[0]
        return np.asarray(np.linalg.svd(scaled_OD, compute_uv=False), np.float64)

    def __call__(self, x_TD: F32) -> F32:
        out_TO: F32 = (x_TD @ self.arrays["down"].T) @ self.arrays["up"].T
        out_TO += self.bias
        return out_TO

    def part(self, low: int, high: int) -> Self:
        arrays = {"down": self.arrays["down"], "up": self.arrays["up"][low:high], "bias": self.bias[low:high]}
        return type(self)(arrays, (high - low, self.size[1]))

    def weight(self) -> F32:
        matrix: F32 = self.arrays["up"] @ self.arrays["down"]
        return matrix


def _roots(inputs: Inputs | None, dim: int) -> tuple[F64, F64]:
    """The symmetric root of the inputs' second moments, and its inverse; directions never seen count a little."""
    if inputs is None:
        return np.eye(dim), np.eye(dim)
    values, vectors = np.linalg.eigh(inputs.square_DD)
    values = np.maximum(values, max(float(values[-1]), 1e-12) * 1e-6)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


class Observed(DenseLayer):
    """A plain layer that adds to an account of its inputs, in arrays that a bundle cannot hold: they are written to."""

    kind = "observed"
    parts = ("weight", "bias", "square", "sizes", "count")

    @classmethod
    def size_of(cls, arrays: Arrays) -> tuple[int, int] | None:
        return Float32.size_of(arrays) if arrays["square"].flags.writeable else None

    @classmethod
    def encode(cls, weight_OD: F32, bias_O: F32, inputs: Inputs | None = None) -> Self:
        dim = weight_OD.shape[1]
        account = {"square": np.zeros((dim, dim)), "sizes": np.zeros(BINS, np.int64), "count": np.zeros(1, np.int64)}
        return cls({"weight": weight_OD, "bias": bias_O, **account}, weight_OD.shape)

    def __call__(self, x_TD: F32) -> F32:
        self.arrays["square"][:] += x_TD.T @ x_TD
        self.arrays["sizes"][:] += range_of(x_TD)
        self.arrays["count"][:] += len(x_TD)
        out_TO: F32 = x_TD @ self.arrays["weight"].T + self.bias
        return out_TO

    def part(self, low: int, high: int) -> Self:
        changed = {"weight": self.arrays["weight"][low:high], "bias": self.bias[low:high]}
        return type(self)({**self.arrays, **changed}, (high - low, self.size[1]))

    def weight(self) -> F32:
        matrix: F32 = self.arrays["weight"]
        return matrix

    def seen(self) -> Inputs:
        """The account so far."""
        return Inputs(self.arrays["square"] / max(1, int(self.arrays["count"][0])), self.arrays["sizes"])
