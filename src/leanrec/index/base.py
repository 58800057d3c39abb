"""The contract of an index: the k items with the largest inner product with a query.

Every index that calls itself exact gives the same answer: scores are the inner product of the float32 rows (as they
decode, where they are kept in another way: `index.vectors`) summed in
float64 in order of dimension and rounded once to float32; equal scores go by rising item row. So ids do not depend on
the batch, on blocks, on threads, or on which exact index answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build
from leanrec.core.errors import BundleError, ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.vectors import Float32Vectors, ItemVectors

__all__ = ["Index", "answerable", "marked", "removed_rows", "stored_removed"]


class Index(ABC):
    """Top-k by inner product over item vectors.

    items_ND: (N, D) float32, C order, finite; may be mapped read-only. It is kept, not copied. removed_N: rows that are
    never answered, (N,), or (0,) when there are none. An index does not change: `add` and `remove` give another one,
    so that the old one can answer until the new one takes its place.
    An index over vectors of other kinds overrides `vectors`, `over` and `restore`, and decodes where `items_ND` is
    asked for.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]
    Options: ClassVar[type[Config]] = Config
    """What `build` can be told beside the table; this one: nothing."""

    items_ND: npt.NDArray[np.float32]
    removed_N: npt.NDArray[np.bool_] = np.empty(0, np.bool_)

    @classmethod
    @abstractmethod
    def build(cls, items_ND: npt.NDArray[np.float32]) -> Self:
        """Index a table."""

    @property
    def vectors(self) -> ItemVectors:
        """What is searched, for everyone who reads item rows."""
        return Float32Vectors(self.items_ND)

    @classmethod
    def over(cls, vectors: ItemVectors) -> Self:
        """Index vectors of any kind that this index can read; a ConfigError for the others."""
        return cls.build(_table(cls.name, vectors))

    @classmethod
    def made(cls, vectors: ItemVectors, settings: Mapping[str, Any], *, where: str = "") -> Self:
        """`over` with settings of `Options`; a ConfigError names one that there is not."""
        options = build(cls.Options, settings, where=where or cls.name)
        if cls.Options is Config:
            return cls.over(vectors)
        told: Any = cls  # `build` of an index with options takes them
        index: Self = told.build(_table(cls.name, vectors), options)
        return index

    @classmethod
    def restore(cls, vectors: ItemVectors, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The index as it was stored, over the same vectors."""
        return cls.from_tensors(_table(cls.name, vectors), tensors)

    @abstractmethod
    def search(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        """The best k items of each query, never one of its `exclude` rows nor one that `allowed_N` forbids.

        Answers are (B, k); where fewer than k items remain, items are -1 and scores -inf.
        """

    @abstractmethod
    def add(self, items_MD: npt.NDArray[np.float32]) -> Self:
        """An index with M more items, after the others: row N is the first. What is there is not indexed again."""

    @abstractmethod
    def remove(self, rows: npt.NDArray[np.integer]) -> Self:
        """An index that never answers these rows; the other rows keep their numbers. InputError for a row beyond N."""

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What has to be stored beside the table itself; `from_tensors` reads it back."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The index as it was stored, over the same table."""

    @property
    @abstractmethod
    def bytes_scanned(self) -> int:
        """Bytes that one query reads in the scan at most, rescoring apart."""


def marked(index: Index, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """(N,) the removed rows of an index and these; for `Index.remove`."""
    size = len(index.vectors)
    rows = np.asarray(rows).reshape(-1)
    wrong = (rows < 0) | (rows >= size)
    if wrong.any():
        raise InputError(f"row {int(rows[np.argmax(wrong)])} cannot be removed from an index of {size:,} items")
    mask_N = padded(index.removed_N, size)
    mask_N[rows] = True
    return mask_N


def padded(removed_N: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """A copy of (size,) of a mask of removed rows that may be shorter."""
    mask_N = np.zeros(size, np.bool_)
    mask_N[: len(removed_N)] = removed_N
    return mask_N


def answerable(index: Index, allowed_N: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """What a search may answer: what is allowed and was not removed; None for everything."""
    if not len(index.removed_N):
        return allowed_N
    return ~index.removed_N if allowed_N is None else allowed_N & ~index.removed_N


def removed_rows(index: Index) -> dict[str, npt.NDArray[Any]]:
    """The removed rows as a tensor to store, when there are any."""
    rows = np.flatnonzero(index.removed_N).astype(np.int32)
    return {"removed": rows} if len(rows) else {}


def stored_removed(tensors: Mapping[str, npt.NDArray[Any]], size: int) -> npt.NDArray[np.bool_]:
    """What `removed_rows` stored."""
    if "removed" not in tensors:
        return np.empty(0, np.bool_)
    rows = tensors["removed"]
    if rows.ndim != 1 or rows.dtype != np.int32 or (len(rows) and not 0 <= rows.min() <= rows.max() < size):
        raise BundleError("the removed rows of the index are not rows of its table: the bundle is damaged")
    mask_N = np.zeros(size, np.bool_)
    mask_N[rows] = True
    return mask_N


def _table(name: str, vectors: ItemVectors) -> npt.NDArray[np.float32]:
    if not isinstance(vectors, Float32Vectors):
        raise ConfigError(f"the index {name!r} reads float32 item vectors, these are {vectors.kind}: use 'coded'")
    return vectors.table_ND
