"""The same items for everybody, most popular first: a baseline, and the answer when nothing is known of a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.runtime.base import Parts, Source

__all__ = ["PopularSource"]


class PopularSource(Source):
    """Answers by falling score whatever the history; every item that may be answered is, in the end.

    scores_N: (N,) float32, finite.
    """

    kind: ClassVar[str] = "popular"

    def __init__(self, name: str, scores_N: npt.NDArray[np.float32]) -> None:
        self.name = name
        self.num_items = len(scores_N)
        self.scores_N = scores_N
        self._order_N = np.argsort(-scores_N, kind="stable").astype(np.int32)

    def search(self, queries: Queries) -> Hits:
        order = self._order_N if queries.allowed is None else self._order_N[queries.allowed[self._order_N]]
        hits = Hits.none(len(queries), queries.k)
        for row in range(len(queries)):
            taken = set() if queries.exclude is None else set(queries.exclude[row].tolist())
            # Sets of a few items beat vector operations here, and nothing beyond the answer is looked at.
            head = [item for item in order[: queries.k + len(taken)].tolist() if item not in taken][: queries.k]
            hits.items_BK[row, : len(head)] = head
            hits.scores_BK[row, : len(head)] = self.scores_N[head]
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        return np.asarray(self.scores_N[items.values])

    def config(self) -> dict[str, Any]:
        return {}

    def parts(self) -> Parts:
        return {"popular": {"scores": self.scores_N}}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        scores_N = parts.get("popular", {}).get("scores")
        if scores_N is None or scores_N.ndim != 1 or scores_N.dtype != np.float32 or not np.isfinite(scores_N).all():
            raise BundleError(f"the source {name!r} has no usable popularity scores: make the bundle again")
        return cls(name, scores_N)
