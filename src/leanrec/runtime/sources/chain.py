"""Sources asked one after the other for what is still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.sources.nested import load_nested, nested_config, nested_parts

__all__ = ["ChainSource"]


class ChainSource(Source):
    """The first source that knows anything of a query answers it.

    Scores of different sources do not compare, so a list is one source's alone.
    """

    kind: ClassVar[str] = "chain"

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        assert sources and len({source.num_items for source in sources}) == 1, "sources over the same items"
        self.name, self.sources = name, list(sources)
        self.num_items = sources[0].num_items
        self.timed = any(source.timed for source in sources)
        self.personal = any(source.personal for source in sources)
        self.num_users = max(source.num_users for source in sources)

    @property
    def brings(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources)

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        brought_BK = np.zeros(hits.items_BK.shape, np.int8)
        for number, source in enumerate(self.sources):
            ask = np.flatnonzero(hits.items_BK[:, 0] < 0)
            if not len(ask):
                break
            found = source.search(queries.take(ask))
            hits.items_BK[ask], hits.scores_BK[ask], brought_BK[ask] = found.items_BK, found.scores_BK, number
        return Hits(hits.items_BK, hits.scores_BK, brought_BK)

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        """By the source that would answer."""
        first = Queries(
            queries.histories, 1, queries.exclude, queries.allowed, queries.times, queries.users, queries.context
        )
        found = self.search(first)
        assert found.brought_BK is not None
        brought_B = np.where(found.items_BK[:, 0] >= 0, found.brought_BK[:, 0], -1)
        scores_T = np.full(len(items.values), -np.inf, np.float32)
        query_T = items.row_of()
        for number, source in enumerate(self.sources):
            own_T = brought_B[query_T] == number
            if own_T.any():
                scores_T[own_T] = source.score(queries, items)[own_T]
        return scores_T

    def config(self) -> dict[str, Any]:
        return {"sources": nested_config(self.sources)}

    def parts(self) -> Parts:
        return nested_parts(self.sources)

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            sources = load_nested(config["sources"], parts)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        return cls(name, sources)
