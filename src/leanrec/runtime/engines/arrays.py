"""What the engines share: dense layers in float32 or int8, and the refusal of arrays that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.kernels.dense import dense_int8

__all__ = ["EPS", "Dense", "Shape", "chunks", "named_misfits", "refuse_misfits", "under"]

F32 = npt.NDArray[np.float32]
Shape = tuple[int, ...]
EPS = 1e-5  # torch.nn.LayerNorm's
_CHUNK_TOKENS = 8192  # activations of a chunk stay in the cache


class Dense:
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

    def part(self, low: int, high: int) -> Dense:
        """Output columns low..high as a layer of their own."""
        part = object.__new__(Dense)
        part.weight, part.bias = self.weight[low:high], self.bias[low:high]
        part.scale = None if self.scale is None else self.scale[low:high]
        return part


def under(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, F32]:
    """The arrays whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def chunks(histories: Jagged) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about as many tokens as fit in the cache, one row at least."""
    ends = np.cumsum(histories.lengths)
    start = 0
    while start < len(histories):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK_TOKENS, side="right")))
        yield start, stop
        start = stop


def refuse_misfits(
    tensors: Mapping[str, npt.NDArray[Any]], *, fits: bool, dense: Mapping[str, Shape], plain: Mapping[str, Shape]
) -> None:
    """Kernels do not check bounds: every array has the shape and the type that they rely on, or it is a BundleError.

    dense: (O, D) of layers with a weight, float32 or int8 with a scale an output, and a bias. plain: float32 arrays.
    fits: whether the sizes themselves are possible.
    """
    wanted = dict(plain)
    for name, size in dense.items():
        coded = tensors[f"{name}.weight"].dtype == np.int8
        fits = fits and tensors[f"{name}.weight"].shape == size
        wanted |= {f"{name}.bias": size[:1], f"{name}.{'scale' if coded else 'weight'}": size[:1] if coded else size}
    if not fits or any(tensors[n].shape != s or tensors[n].dtype != np.float32 for n, s in wanted.items()):
        raise BundleError("the encoder's arrays do not have the shape its configuration says")


@contextmanager
def named_misfits() -> Iterator[None]:
    """An array that is not there is a BundleError with its name."""
    try:
        yield
    except KeyError as error:
        raise BundleError(f"the encoder's array {error.args[0]!r} is missing: the bundle is incomplete") from error
