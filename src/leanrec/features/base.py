"""The contract of a feature: one raw column to fields, learnt as the column streams by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged

if TYPE_CHECKING:
    from leanrec.features.series import Column

__all__ = ["Encoded", "Feature", "Learner"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """B rows of some features, side by side: see FeatureBatch. moments_BM: float64 Unix seconds, NaN where missing."""

    numbers_BF: npt.NDArray[np.float32]
    categories_BF: npt.NDArray[np.int32]
    lists: tuple[Jagged, ...]
    moments_BM: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.categories_BF)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Encoded:
        """Some of the rows; -1 is the last one."""
        rows = np.where(rows < 0, len(self) - 1, rows)
        lists = tuple(one.take(rows) for one in self.lists)
        return Encoded(self.numbers_BF[rows], self.categories_BF[rows], lists, self.moments_BM[rows])

    @classmethod
    def beside(cls, parts: Sequence[Encoded], count: int) -> Encoded:
        """The fields of all parts, in their order; of `count` rows even if there is no part."""
        return cls(
            np.concatenate([np.empty((count, 0), np.float32), *(part.numbers_BF for part in parts)], axis=1),
            np.concatenate([np.empty((count, 0), np.int32), *(part.categories_BF for part in parts)], axis=1),
            tuple(one for part in parts for one in part.lists),
            np.concatenate([np.empty((count, 0)), *(part.moments_BM for part in parts)], axis=1),
        )


class Feature(ABC):
    """A learnt column. Whatever a column holds, `encode` answers: what cannot be read or is new counts as missing."""

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]
    column: str

    numbers: tuple[str, ...] = ()
    """Names of its number fields."""
    categories: tuple[tuple[str, int], ...] = ()
    """Its category fields and how many codes each has, 0 included."""
    lists: tuple[tuple[str, int], ...] = ()
    """The same for list fields."""
    moments: int = 0
    """How many moments it gives (0 or 1)."""

    @abstractmethod
    def encode(self, column: Column) -> Encoded:
        """(B rows) the fields of a column."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors`, all that `load` needs."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the bundle."""

    @classmethod
    @abstractmethod
    def learner(cls, column: str, config: Any) -> Learner:
        """What learns this kind of feature from a column."""

    @classmethod
    @abstractmethod
    def load(cls, column: str, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The feature as it was stored; ValueError, KeyError or TypeError when that cannot be."""

    def encoded(
        self,
        count: int,
        *,
        numbers: Sequence[npt.NDArray[Any]] = (),
        categories: Sequence[npt.NDArray[Any]] = (),
        lists: tuple[Jagged, ...] = (),
        moments: Sequence[npt.NDArray[Any]] = (),
    ) -> Encoded:
        """Fields as an Encoded."""
        return Encoded(
            np.stack([*numbers], axis=1).astype(np.float32) if numbers else np.empty((count, 0), np.float32),
            np.stack([*categories], axis=1).astype(np.int32) if categories else np.empty((count, 0), np.int32),
            lists,
            np.stack([*moments], axis=1).astype(np.float64) if moments else np.empty((count, 0)),
        )


class Learner(ABC):
    """Sees the training part of a column, batch by batch, in bounded memory."""

    def __init__(self, column: str) -> None:
        self.column, self.rows = column, 0

    @abstractmethod
    def add(self, column: Column) -> None:
        """The next batch."""

    @abstractmethod
    def finish(self) -> Feature:
        """The feature; deterministic."""
