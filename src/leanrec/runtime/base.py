"""The contracts of what a Recommender is made of: a Source answers queries; most are a QueryEncoder and an Index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.features.batch import FeatureBatch, Layout

if TYPE_CHECKING:
    from leanrec.index.vectors import ItemVectors  # brings Numba, which the server loads in its own time

__all__ = ["Engine", "Parts", "PersonalEngine", "QueryEncoder", "QueryEngine", "ScoringEngine", "Source", "TimedEngine"]

F32 = npt.NDArray[np.float32]
Parts = Mapping[str, Mapping[str, npt.NDArray[Any]]]
"""File stem in the bundle -> array name -> array."""


class QueryEncoder(Protocol):
    """Histories to query vectors. Batch and single give the same vector up to rounding; no state between calls."""

    @property
    def dim(self) -> int:
        """D of the vectors."""

    def encode(self, histories: Jagged) -> npt.NDArray[np.float32]:
        """(B, D) vectors of B non-empty histories (int32 item rows, oldest first).

        Events older than the encoder's window are ignored.
        """


class Engine(QueryEncoder, Protocol):
    """A QueryEncoder that a bundle can hold."""

    kind: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors` and the item vectors, all that `load` needs."""

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The encoder's own arrays, the item vectors apart."""

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> Self:
        """The encoder as it was stored, reading rows with `gather`. Arrays may be mapped read-only.

        A BundleError says what does not fit.
        """


@runtime_checkable
class TimedEngine(Engine, Protocol):
    """An Engine that also looks at when events were, where that is known."""

    def encode_timed(self, histories: Jagged, times: Jagged) -> npt.NDArray[np.float32]:
        """`encode` with float64 Unix seconds in the layout of histories, NaN where unknown."""


@runtime_checkable
class PersonalEngine(Engine, Protocol):
    """An Engine that also keeps a vector for each user it was trained with; the others are encoded by their history."""

    @property
    def num_users(self) -> int:
        """U, the users that it has rows for; 0 when it keeps none."""

    def knows(self, users_B: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """(B,) whether it keeps something for a user row; -1 is nobody."""

    def encode_users(self, users_B: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """(B, D) the vectors of users that it knows."""


@runtime_checkable
class QueryEngine(Engine, Protocol):
    """An Engine that looks at more of a query than its history, such as what is known of the user."""

    @property
    def num_users(self) -> int:
        """U, the users that it has rows for; 0 when it keeps none."""

    def answerable(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) whether there is anything to encode."""

    def encode_queries(self, queries: Queries) -> npt.NDArray[np.float32]:
        """(B, D) vectors of queries that are answerable."""


class ScoringEngine(Protocol):
    """Features of a pair of query and item to raw scores, row by row; what `sources.scorer` calibrates and ranks by."""

    kind: ClassVar[str]

    def raw(self, batch: FeatureBatch) -> npt.NDArray[np.float32]:
        """(B, tasks) raw scores. For batches of one size, a row's do not depend on the other rows."""

    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors` and the layout, all that `load` needs."""

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The engine's own arrays."""

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], layout: Layout) -> Self:
        """The engine as it was stored, for features of that layout. A BundleError says what does not fit."""


class Source(ABC):
    """One way to find items for a query: popularity, neighbours, an encoder with an index, later others.

    Answers keep the promises of `Hits`: sorted by falling score, equal scores by rising row, nothing excluded or
    forbidden, -1 where there are no more. A source that knows nothing for a query answers -1 throughout.
    """

    kind: ClassVar[str]
    name: str
    num_items: int
    timed: bool = False
    """Whether `Queries.times` matter to it."""
    personal: bool = False
    """Whether `Queries.users` matter to it: something is kept for each known user."""
    num_users: int = 0
    """How many users a personal source knows."""

    @property
    def brings(self) -> tuple[str, ...]:
        """The names that `Hits.brought` points to."""
        return (self.name,)

    @abstractmethod
    def search(self, queries: Queries) -> Hits:
        """(B, k) answers."""

    @abstractmethod
    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        """(T,) the score of each listed item for its query: row i of `items` is asked of query i.

        The scores that `search` gives; k, exclude and allowed do not matter. -inf where nothing can be said.
        """

    def similar(self, item: int, k: int) -> Hits:
        """(1, k) items most like one item, itself left out; by default: what a history of just that item brings."""
        one = Jagged.from_rows([[item]])
        return self.search(Queries(one, k, exclude=one))

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values for the manifest; with `parts`, all that `load` needs."""

    @abstractmethod
    def parts(self) -> Parts:
        """Arrays for the bundle, by file stem."""

    @classmethod
    @abstractmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        """The source as it was stored; arrays may be mapped read-only."""
