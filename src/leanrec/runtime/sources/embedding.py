"""An encoder's query vector against a table of item vectors, through an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.index import INDEXES, Index
from leanrec.kernels.topk import canonical_scores
from leanrec.runtime.base import Engine, Parts, PersonalEngine, QueryEngine, Source, TimedEngine
from leanrec.runtime.engines import ENGINES

__all__ = ["EmbeddingSource"]

_BLOCK = 1 << 16


class EmbeddingSource(Source):
    """encode -> index.search. engine and index share one item table; `score` gives the scores that `search` gives."""

    kind = "embedding"

    def __init__(self, name: str, engine: Engine, index: Index) -> None:
        assert engine.dim == index.items_ND.shape[1], "engine and item table have the same D"
        self.name, self.engine, self.index = name, engine, index
        self.num_items = len(index.items_ND)
        self.timed = isinstance(engine, TimedEngine)
        self.num_users = engine.num_users if isinstance(engine, PersonalEngine | QueryEngine) else 0
        self.personal = self.num_users > 0

    def search(self, queries: Queries) -> Hits:
        known = np.flatnonzero(self._answerable(queries))
        if len(known) == len(queries):
            return self._search(queries)
        hits = Hits.none(len(queries), queries.k)
        if len(known):
            some = self._search(queries.take(known))
            hits.items_BK[known], hits.scores_BK[known] = some.items_BK, some.scores_BK
        return hits

    def _search(self, queries: Queries) -> Hits:
        return self.index.search(self._encode(queries), queries.k, queries.exclude, queries.allowed)

    def _answerable(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) whether anything is known to encode: a history, or a user with a vector."""
        if isinstance(self.engine, QueryEngine):
            return self.engine.answerable(queries)
        return (queries.histories.lengths > 0) | self._kept(queries)

    def _kept(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) whether the engine keeps a vector for the user who asks."""
        if queries.users is None or not isinstance(self.engine, PersonalEngine):
            return np.zeros(len(queries), np.bool_)
        return self.engine.knows(queries.users)

    def _encode(self, queries: Queries) -> npt.NDArray[np.float32]:
        if isinstance(self.engine, QueryEngine):
            return self.engine.encode_queries(queries)
        kept_B = self._kept(queries)
        if not kept_B.any() or queries.users is None or not isinstance(self.engine, PersonalEngine):
            return self._encode_histories(queries)
        vectors_BD = np.empty((len(queries), self.engine.dim), np.float32)
        vectors_BD[kept_B] = self.engine.encode_users(queries.users[kept_B])
        if not kept_B.all():
            vectors_BD[~kept_B] = self._encode_histories(queries.take(np.flatnonzero(~kept_B)))
        return vectors_BD

    def _encode_histories(self, queries: Queries) -> npt.NDArray[np.float32]:
        if queries.times is not None and isinstance(self.engine, TimedEngine):
            return self.engine.encode_timed(queries.histories, queries.times)
        return self.engine.encode(queries.histories)

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        """-inf for a query that nothing is known about."""
        answerable_B = self._answerable(queries)
        known = np.flatnonzero(answerable_B)
        vectors_BD = np.zeros((len(queries), self.engine.dim), np.float32)
        if len(known):
            vectors_BD[known] = self._encode(queries.take(known))
        query_of_T = items.row_of()
        scores_T: npt.NDArray[np.float32] = canonical_scores(self.index.items_ND, items.values, vectors_BD, query_of_T)
        scores_T[~answerable_B[query_of_T]] = -np.inf
        return scores_T

    def similar(self, item: int, k: int) -> Hits:
        """By the cosine of the item vectors; reads the whole table once."""
        items_ND = self.index.items_ND
        query_D = _unit(items_ND[item : item + 1])[0]
        scores_N = np.empty(self.num_items, np.float32)
        for start in range(0, self.num_items, _BLOCK):
            scores_N[start : start + _BLOCK] = _unit(items_ND[start : start + _BLOCK]) @ query_D
        scores_N[item] = -np.inf
        count = min(k, self.num_items - 1)
        best = np.lexsort((np.arange(self.num_items), -scores_N))[:count]
        hits = Hits.none(1, k)
        hits.items_BK[0, :count], hits.scores_BK[0, :count] = best, scores_N[best]
        return hits

    def config(self) -> dict[str, Any]:
        return {"engine": {"kind": self.engine.kind, "config": self.engine.config()}, "index": self.index.name}

    def parts(self) -> Parts:
        return {"engine": self.engine.tensors(), "items": {"table": self.index.items_ND}, "index": self.index.tensors()}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        items_ND = parts["items"]["table"]
        if items_ND.ndim != 2 or items_ND.dtype != np.float32:
            raise BundleError(f"the item table of {name} is not a matrix of float32: the bundle is damaged")
        try:
            index_type, engine_type = INDEXES[config["index"]], ENGINES[config["engine"]["kind"]]
        except ConfigError as error:
            raise BundleError(f"{error}: update leanrec, or write the bundle again") from error
        index = index_type.from_tensors(items_ND, parts["index"])
        return cls(name, engine_type.load(config["engine"]["config"], parts["engine"], index.items_ND), index)


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms: npt.NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    norms[norms == 0] = 1
    return vectors / norms[:, None]
