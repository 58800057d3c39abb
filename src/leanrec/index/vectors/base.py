"""The contract of item vectors: N rows of D values that are kept in some way and read as float32.

A row's float32 values depend on the row alone: not on the others that are read with it, on threads or on how often it
is read. Encoding may lose; what is decoded afterwards is the table that is served and scored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import BundleError, InputError
from leanrec.kernels.topk import canonical_scores

__all__ = ["F32", "ItemVectors", "Weighting", "refuse", "scores_of"]

F32 = npt.NDArray[np.float32]
_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True)
class Weighting:
    """What encoding should be careful about; None is equal weight.

    rows_N: how much an error in a row matters, at least 0, such as how often it is a target. metric_DD: the second
    moments of the queries: an error e of a row costs e^T metric e in squared error of its scores.
    """

    rows_N: npt.NDArray[np.float64] | None = None
    metric_DD: npt.NDArray[np.float64] | None = None


class ItemVectors(ABC):
    """N vectors of D values. Arrays may be mapped read-only and are kept, not copied."""

    kind: ClassVar[str]
    Options: ClassVar[type[Config]]
    """What `encode` can be told."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(N, D)."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of everything that reading rows needs."""
        return sum(array.nbytes for array in self.tensors().values())

    @abstractmethod
    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        """(U, D) float32 values of rows (U,) within 0 .. N - 1; in `out` when it is given."""

    def block(self, low: int, high: int) -> F32:
        """(high - low, D) consecutive rows; may be a view."""
        return self.gather(np.arange(low, high))

    def blocks(self) -> Iterator[tuple[int, F32]]:
        """All rows, with the first row of each block."""
        for low in range(0, len(self), _BLOCK):
            yield low, self.block(low, min(low + _BLOCK, len(self)))

    def table(self) -> F32:
        """(N, D) float32, decoded as a whole: for training and tests, not for serving."""
        table_ND = np.empty(self.shape, np.float32)
        for low, rows_nD in self.blocks():
            table_ND[low : low + len(rows_nD)] = rows_nD
        return table_ND

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors`, all that `from_tensors` needs."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The vectors as they were stored. BundleError when arrays do not fit together or codes point nowhere."""

    @classmethod
    @abstractmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        """The vectors that stand for a table of finite float32 values; the same for the same table and config."""

    @abstractmethod
    def first(self, count: int) -> Self:
        """The first rows alone; arrays are shared."""

    def added(self, rows_UD: F32) -> Self:
        """These vectors with U more at the end, encoded by the same rule; the old ones stay as they are.

        InputError where the kind has no room for rows that it was not made for.
        """
        raise InputError(f"{self.kind} item vectors cannot take new rows: encode the grown table again")


def scores_of(
    vectors: ItemVectors,
    rows_T: npt.NDArray[np.integer[Any]],
    queries_BD: F32,
    query_of_T: npt.NDArray[np.integer[Any]],
) -> F32:
    """(T,) the scores that exact indexes give: item rows_T[t] for query query_of_T[t]."""
    scores_T = np.empty(len(rows_T), np.float32)
    for low in range(0, len(rows_T), _BLOCK):
        part = slice(low, low + _BLOCK)
        rows_tD = vectors.gather(rows_T[part])
        scores_T[part] = canonical_scores(rows_tD, np.arange(len(rows_tD)), queries_BD, query_of_T[part])
    return scores_T


def refuse(fits: bool, kind: str) -> None:
    """A BundleError unless the arrays fit together."""
    if not fits:
        raise BundleError(f"the {kind} item vectors' arrays do not fit together: the bundle is damaged")
