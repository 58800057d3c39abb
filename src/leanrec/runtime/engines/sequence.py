"""What the engines of sequence models share: arrays checked once, histories cut to the window and encoded in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.jagged import Jagged
from leanrec.index.vectors import ItemVectors, vectors_of
from leanrec.runtime.engines.arrays import chunks, named_misfits

__all__ = ["EncoderShape", "SequenceEngine"]

F32 = npt.NDArray[np.float32]
_LARGEST = 1 << 16


class EncoderShape(Config, frozen=True, kw_only=True):
    """What the arrays are arranged into."""

    dim: int

    def __post_init__(self) -> None:
        """Sizes are counted to before arrays are looked at: impossible ones end here."""
        for name in self.__struct_fields__:
            size = getattr(self, name)
            if isinstance(size, int) and not 0 <= size <= _LARGEST:
                raise ValueError(f"{name} must be between 0 and {_LARGEST}, not {size}")


S = TypeVar("S", bound=EncoderShape)


class SequenceEngine(ABC, Generic[S]):
    """(B, D) query vectors of histories: the last `window` items, encoded at the last position.

    tensors: as the network names them. items: (N, D) the item vectors, also the input. A BundleError says which arrays
    do not fit the shape.
    """

    kind: ClassVar[str]
    Shape: ClassVar[type[EncoderShape]]

    @final
    def __init__(self, shape: S, tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> None:
        self.shape, self.items = shape, vectors_of(items)
        self._tensors = dict(tensors)
        with named_misfits():
            self._arrange(tensors)

    @property
    @final
    def items_ND(self) -> F32:
        """(N, D) the whole item table, decoded where it is not kept as float32: for graphs, not for encoding."""
        return self.items.table()

    @property
    @final
    def dim(self) -> int:
        return self.shape.dim

    @property
    @abstractmethod
    def window(self) -> int:
        """Events of a history that count, the newest."""

    @abstractmethod
    def _arrange(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check every array's shape, which kernels rely on (`refuse_misfits`), and keep layers of them."""

    @abstractmethod
    def _encode(self, histories: Jagged, times_T: npt.NDArray[np.float64]) -> F32:
        """(B, D) of non-empty histories within the window. times_T: beside the events, or empty where unknown."""

    @final
    def encode(self, histories: Jagged) -> F32:
        """(B, D) vectors of B non-empty histories (int32 item rows, oldest first)."""
        return self._in_chunks(histories, None)

    @final
    def _in_chunks(self, histories: Jagged, times: Jagged | None) -> F32:
        histories = histories.last(self.window)
        assert len(histories) == 0 or histories.lengths.min() > 0, "an encoder gets non-empty histories"
        times = None if times is None else times.last(self.window)
        result = np.empty((len(histories), self.dim), np.float32)
        for start, stop in chunks(histories):
            at = np.empty(0) if times is None else times.slice(start, stop).values.astype(np.float64, copy=False)
            result[start:stop] = self._encode(histories.slice(start, stop), at)
        return result

    @final
    def config(self) -> dict[str, Any]:
        return to_dict(self.shape)

    @final
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self._tensors

    @classmethod
    @final
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> Self:
        shape: Any = build(cls.Shape, config, where="encoder")
        return cls(shape, tensors, items)
