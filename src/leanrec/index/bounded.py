"""What the exact indexes share: a scan gives bounds, the rows that may still win are rescored in full, with a proof."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.base import Index, answerable, marked, padded, removed_rows, stored_removed
from leanrec.index.growth import Growth
from leanrec.kernels.scan import finish_all, finish_all_parallel
from leanrec.kernels.topk import State, new_state, row_norms

__all__ = [
    "MAX_NORM",
    "BoundedIndex",
    "Exclusions",
    "NormedIndex",
    "Proof",
    "checked_norms",
    "frozen",
    "longest_of",
    "stored",
]

MAX_NORM = 2.0**60
"""Larger vectors are refused, so that no score overflows float32."""

_QUERIES = 256
_WORTH_THREADS = 16  # queries below which starting threads to finish them costs more than it saves

G = TypeVar("G", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Proof:
    """Why a search was exact, for a batch of B queries.

    thresholds_B: the k-th largest lower bound met in the scan (-inf when fewer than k rows may be answered): a row
    whose upper bound is below it cannot be among the best k. rescored_B: rows scored in full precision. refined_B: rows
    of which more than a first plane of codes was read, for indexes that have more.
    """

    thresholds_B: npt.NDArray[np.float64]
    rescored_B: npt.NDArray[np.int64]
    refined_B: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a scan must skip: rising rows by query (`rows_E` between `offsets`), and a mask of N or of none."""

    rows_E: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    allowed_N: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, batch: int, exclude: Jagged | None, allowed_N: npt.NDArray[np.bool_] | None, size: int) -> Exclusions:
        if exclude is None:
            exclude = Jagged.empty(batch)
        assert len(exclude) == batch, "exclude has one row per query"
        rows = exclude.values.astype(np.int32, copy=False)
        if len(rows) > 1:
            rows = rows[np.lexsort((rows, exclude.row_of()))]
        assert allowed_N is None or allowed_N.shape == (size,), "allowed_N has one entry per item"
        mask = np.empty(0, np.bool_) if allowed_N is None else allowed_N
        return cls(frozen(rows, np.int32), frozen(exclude.offsets, np.int64), frozen(mask, np.bool_))


def frozen(array: npt.NDArray[Any], dtype: type[G]) -> npt.NDArray[G]:
    """A read-only, contiguous view: kernels compile once, whether an array is mapped from disk or not."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def checked_norms(vectors: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.float32]:
    """Upper bounds of the norms of the rows; a row that is not finite, or too long, is an InputError naming it."""
    norms: npt.NDArray[np.float32] = row_norms(vectors)
    good = norms <= MAX_NORM
    if not good.all():
        row = int(np.argmin(good))
        found = "holds NaN or infinity" if not np.isfinite(vectors[row]).all() else f"has a norm above {MAX_NORM:.3g}"
        raise InputError(f"row {row} of the {what} {found}: the model that made it has diverged, train it again")
    return norms


def stored(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """An array of a stored index; BundleError when it is of another type or shape, for kernels do not check bounds."""
    array = tensors.get(name)
    if array is None or array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"the index has no array {name!r} of {np.dtype(dtype)} and shape {shape}: the bundle is damaged"
        )
    return array


class BoundedIndex(Index):
    """An exact index whose `scan` offers every row with a lower and an upper bound of its score.

    The bounds hold for the score as answered (rounded to float32), so ties are found and go by row. What an index keeps
    of each row are the arrays of `per_row`.
    """

    exact = True
    per_row: ClassVar[Mapping[str, str]]
    """Attributes by the name under which they are stored: {"codes": "codes_ND"}."""
    per_block: ClassVar[Mapping[str, tuple[str, int]]] = {}
    """The same for arrays with one entry for so many rows, the last one for what is left."""
    _growth: Growth | None = None

    @abstractmethod
    def __init__(self, items_ND: npt.NDArray[np.float32], **arrays: npt.NDArray[Any]) -> None:
        """The index of a table and what `encoded` made of it, by attribute."""

    @classmethod
    def build(cls, items_ND: npt.NDArray[np.float32]) -> Self:
        table = frozen(items_ND, np.float32)
        checked_norms(table, "item table")
        return cls(table, **cls.encoded(table))

    @classmethod
    @abstractmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """What is kept of some rows, by attribute: what `__init__` takes beside the table.

        after: the index behind whose rows they come; arrays by block then begin with its unfinished block, if any.
        """

    @classmethod
    def attributes(cls) -> dict[str, str]:
        """Attributes by the name under which they are stored."""
        return {**cls.per_row, **{name: attribute for name, (attribute, _) in cls.per_block.items()}}

    def add(self, items_MD: npt.NDArray[np.float32]) -> Self:
        table = frozen(items_MD, np.float32)
        assert table.shape[1:] == self.items_ND.shape[1:], "items: (M, D)"
        checked_norms(table, "added items")
        arrays = {attribute: getattr(self, attribute) for attribute in ("items_ND", *self.attributes().values())}
        more = {"items_ND": table, **self.encoded(table, self)}
        growth, arrays = Growth.extended(self._growth, arrays, more, dict(self.per_block.values()))
        grown = type(self)(**arrays)
        grown._growth = growth
        if len(self.removed_N):
            grown.removed_N = padded(self.removed_N, len(grown.items_ND))
        return grown

    def remove(self, rows: npt.NDArray[np.integer]) -> Self:
        left = copy(self)
        left.removed_N = marked(self, rows)
        return left

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        stored = {name: getattr(self, attribute) for name, attribute in self.attributes().items()}
        return {**stored, **removed_rows(self)}

    @classmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        like, size = cls.encoded(frozen(items_ND[:1], np.float32)), len(items_ND)
        counts = {attribute: -(-size // block) for attribute, block in cls.per_block.values()}
        arrays = {
            attribute: stored(
                tensors, name, like[attribute].dtype, (counts.get(attribute, size), *like[attribute].shape[1:])
            )
            for name, attribute in cls.attributes().items()
        }
        index = cls(items_ND, **arrays)
        index.removed_N = stored_removed(tensors, len(items_ND))
        return index

    def search(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        return self.search_with_proof(queries_BD, k, exclude, allowed_N)[0]

    def search_with_proof(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Hits, Proof]:
        """`search`, and what shows that it is exact: with `bounds`, anyone can check that no other row could win."""
        batch, size = len(queries_BD), len(self.items_ND)
        assert queries_BD.ndim == 2 and queries_BD.shape[1] == self.items_ND.shape[1], "queries: (B, D)"
        assert k >= 1, "k starts at 1"
        hits = Hits.none(batch, k)
        proof = Proof(np.full(batch, -np.inf), np.zeros(batch, np.int64), np.zeros(batch, np.int64))
        kept = min(k, size)
        if kept == 0 or batch == 0:
            return hits, proof
        allowed_N = answerable(self, allowed_N)
        for start in range(0, batch, _QUERIES):
            part = slice(start, min(start + _QUERIES, batch))
            queries = frozen(queries_BD[part], np.float32)
            some = None if exclude is None else exclude.slice(part.start, part.stop)
            skip = Exclusions.of(len(queries), some, allowed_N, size)
            norms_B = checked_norms(queries, "query vectors")
            state = new_state(self.scans(len(queries)), len(queries), kept)
            self.scan(state, queries, norms_B, skip)
            end = finish_all if len(queries) < _WORTH_THREADS else finish_all_parallel
            end(state, self.items_ND, queries, hits.items_BK[part], hits.scores_BK[part])
            proof.thresholds_B[part] = state.heaps_SBK[0, :, 0]
            proof.rescored_B[part] = state.rescored_SB[0]
            proof.refined_B[part] = state.refined_SB[0]
        return hits, proof

    @abstractmethod
    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(N,) lower and (N,) upper bounds of every row's score, as the scan sees them, computed by plain NumPy."""

    @abstractmethod
    def scans(self, batch: int) -> int:
        """How many scans share the rows."""

    @abstractmethod
    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        """Offer every row that may be answered, with its bounds, to every query's state."""


class NormedIndex(BoundedIndex):
    """One whose arrays have rows in an order of their own: by falling norm, those that came later behind them, so that
    a scan may end early. What is said of norms holds for any order.

    order_N: int32, the row at each place of the other arrays, stored as "order". longest_J: norms of blocks of places
    at most, rest_J: from there on.
    """

    order_N: npt.NDArray[np.int32]
    longest_J: npt.NDArray[np.float32]

    def _stand(self, longest_J: npt.NDArray[np.float32], order_N: npt.NDArray[np.int32]) -> None:
        self.longest_J, self.order_N = frozen(longest_J, np.float32), frozen(order_N, np.int32)
        self.rest_J = frozen(np.maximum.accumulate(longest_J[::-1])[::-1], np.float32)

    @classmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        as_they_came = {"order": np.arange(len(items_ND), dtype=np.int32)}  # in bundles from before rows were sorted
        index = super().from_tensors(items_ND, {**as_they_came, **tensors})
        if not np.array_equal(np.sort(index.order_N), as_they_came["order"]):
            raise BundleError("the order of the index does not name every row once: the bundle is damaged")
        return index

    def by_row(self, *places: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        """Numbers of places as numbers of rows."""
        found = tuple(np.empty_like(part) for part in places)
        for rows, part in zip(found, places, strict=True):
            rows[self.order_N] = part
        return found


def longest_of(
    norms_M: npt.NDArray[np.float32], block: int, after: NormedIndex | None = None
) -> npt.NDArray[np.float32]:
    """The largest norm in each block of places, when these come behind those of `after`, whose unfinished block comes
    again."""
    if after is not None:
        before = len(after.items_ND)
        norms_M = np.concatenate([np.repeat(after.longest_J[before // block :], before % block), norms_M])
    starts = np.arange(0, len(norms_M), block)
    return np.maximum.reduceat(norms_M, starts) if len(norms_M) else np.empty(0, np.float32)
