"""What passes between the parts: questions and answers, inside (rows) and outside (ids).

Legend for array names: B queries, L positions, T tokens of all sequences end to end, N items, K answers, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.ids import Id
from leanrec.core.jagged import Jagged

__all__ = ["Hits", "Queries", "Ranking", "Request"]


@dataclass(frozen=True, slots=True)
class Queries:
    """A batch of questions in rows.

    histories: (B) rows of int32 item rows, oldest first, already known to the model (no -1).
    exclude: (B) rows of int32 item rows that must not be answered, or None.
    allowed: (N,) the only items that may be answered, or None.
    times: float64 Unix seconds in the layout of histories, NaN where unknown, for models that look at them; or None.
    users: (B,) int32 user rows as the model was trained with, -1 where unknown, for models that keep something for each
    user; or None.
    context: column -> B raw values (None where missing), what a request says of its situation, for models that look at
    it; or None.
    """

    histories: Jagged
    k: int
    exclude: Jagged | None = None
    allowed: npt.NDArray[np.bool_] | None = None
    times: Jagged | None = None
    users: npt.NDArray[np.int32] | None = None
    context: Mapping[str, Sequence[Any]] | None = None

    def __len__(self) -> int:
        return len(self.histories)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Queries:
        """Some of the questions."""
        exclude, times = (None if some is None else some.take(rows) for some in (self.exclude, self.times))
        users = None if self.users is None else self.users[rows]
        context = None
        if self.context is not None:
            context = {column: [values[row] for row in rows.tolist()] for column, values in self.context.items()}
        return Queries(self.histories.take(rows), self.k, exclude, self.allowed, times, users, context)


@dataclass(frozen=True, slots=True)
class Hits:
    """Answers in rows, best first; equal scores by rising item row.

    items: (B, K) int32, -1 where there are no more. scores: (B, K) float32, -inf there. brought: (B, K) int8 places in
    the source's `brings`, the part of it that found each answer; None for a source of one part.
    """

    items_BK: npt.NDArray[np.int32]
    scores_BK: npt.NDArray[np.float32]
    brought_BK: npt.NDArray[np.int8] | None = None

    @classmethod
    def none(cls, batch: int, k: int) -> Hits:
        return cls(np.full((batch, k), -1, np.int32), np.full((batch, k), -np.inf, np.float32))


@dataclass(frozen=True, slots=True)
class Request:
    """One question from outside: a known user, or a bare history (which wins when both are given).

    context: column -> value, what is known of the situation, for models that look at it.
    """

    user_id: Id | None = None
    history: Sequence[Id] | None = None
    k: int = 10
    exclude: Sequence[Id] = ()
    include_seen: bool | None = None
    """None: as the data set's protocol says."""
    filter: Mapping[str, Sequence[str]] = field(default_factory=dict)
    explain: bool = False
    """Say which item of the history each answer is owed to."""
    context: Mapping[str, Any] = field(default_factory=dict)
    resolved: bool = False
    """The history is that of user_id, filled in by whoever keeps histories: the user is known all the same."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to one Request, best first. degraded: the fallback answered (unknown user, nothing known of them)."""

    item_ids: Sequence[Id]
    scores: Sequence[float]
    sources: Sequence[str]
    degraded: bool = False
    why: Sequence[Id | None] | None = None
    """When asked: the item of the history without which each answer's score falls most (runtime/explain.py)."""
