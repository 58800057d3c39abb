"""What the engines share: histories in chunks, and the refusal of arrays that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build
from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.runtime.dense import dense_size

__all__ = ["EPS", "Shape", "chunks", "named_misfits", "read_config", "refuse_misfits", "under"]

F32 = npt.NDArray[np.float32]
Shape = tuple[int, ...]
C = TypeVar("C", bound=Config)
EPS = 1e-5  # torch.nn.LayerNorm's
_CHUNK_TOKENS = 8192  # activations of a chunk stay in the cache


def under(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, F32]:
    """The arrays whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def read_config(kind: type[C], config: Mapping[str, Any]) -> C:
    """What a bundle says of its engine; a BundleError where it cannot be so."""
    try:
        return build(kind, config, where="the engine")
    except ValueError as error:
        raise BundleError(f"{error}: the bundle is damaged") from error


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

    dense: (O, D) of dense layers, of whatever kind. plain: float32 arrays. fits: whether the sizes themselves are
    possible.
    """
    fits = fits and all(dense_size(tensors, name) == size for name, size in dense.items())
    if not fits or any(tensors[n].shape != s or tensors[n].dtype != np.float32 for n, s in plain.items()):
        raise BundleError("the encoder's arrays do not have the shape its configuration says")


@contextmanager
def named_misfits() -> Iterator[None]:
    """An array that is not there is a BundleError with its name."""
    try:
        yield
    except KeyError as error:
        raise BundleError(f"the encoder's array {error.args[0]!r} is missing: the bundle is incomplete") from error
