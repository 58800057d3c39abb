"""An encoder's query vector against item vectors, through an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.index import INDEXES, Index
from leanrec.index.vectors import VECTORS, Float32Vectors, scores_of
from leanrec.runtime.base import Engine, Parts, PersonalEngine, QueryEngine, Source, TimedEngine
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.ways.base import DrivenEngine, drive

__all__ = ["EmbeddingSource"]


class EmbeddingSource(Source):
    """encode -> index.search. engine and index read the same vectors; `score` gives the scores that `search` gives."""

    kind = "embedding"

    def __init__(self, name: str, engine: Engine, index: Index) -> None:
        self.items = index.vectors
        assert engine.dim == self.items.shape[1], "engine and item vectors have the same D"
        self.name, self.engine, self.index = name, engine, index
        self.num_items = len(self.items)
        # what the engine can do is asked once: the question takes as long as a short scan
        self._by_time = engine if isinstance(engine, TimedEngine) else None
        self._by_user = engine if isinstance(engine, PersonalEngine) else None
        self._by_query = engine if isinstance(engine, QueryEngine) else None
        self.timed = self._by_time is not None
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
        return self.index.search(self.encode(queries), queries.k, queries.exclude, queries.allowed)

    def _answerable(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) whether anything is known to encode: a history, or a user with a vector."""
        if self._by_query is not None:
            return self._by_query.answerable(queries)
        return (queries.histories.lengths > 0) | self._kept(queries)

    def _kept(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) whether the engine keeps a vector for the user who asks."""
        if queries.users is None or self._by_user is None:
            return np.zeros(len(queries), np.bool_)
        return self._by_user.knows(queries.users)

    def encode(self, queries: Queries) -> npt.NDArray[np.float32]:
        """(B, D) query vectors of questions about which something is known."""
        if self._by_query is not None:
            return self._by_query.encode_queries(queries)
        kept_B = self._kept(queries)
        if not kept_B.any() or queries.users is None or self._by_user is None:
            return self._encode_histories(queries)
        vectors_BD = np.empty((len(queries), self.engine.dim), np.float32)
        vectors_BD[kept_B] = self._by_user.encode_users(queries.users[kept_B])
        if not kept_B.all():
            vectors_BD[~kept_B] = self._encode_histories(queries.take(np.flatnonzero(~kept_B)))
        return vectors_BD

    def _encode_histories(self, queries: Queries) -> npt.NDArray[np.float32]:
        if queries.times is not None and self._by_time is not None:
            return self._by_time.encode_timed(queries.histories, queries.times)
        return self.engine.encode(queries.histories)

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        """-inf for a query that nothing is known about."""
        answerable_B = self._answerable(queries)
        known = np.flatnonzero(answerable_B)
        vectors_BD = np.zeros((len(queries), self.engine.dim), np.float32)
        if len(known):
            vectors_BD[known] = self.encode(queries.take(known))
        query_of_T = items.row_of()
        scores_T = scores_of(self.items, items.values, vectors_BD, query_of_T)
        scores_T[~answerable_B[query_of_T]] = -np.inf
        return scores_T

    def similar(self, item: int, k: int) -> Hits:
        """By the cosine of the item vectors; reads the whole table once."""
        query_D = _unit(self.items.block(item, item + 1))[0]
        scores_N = np.empty(self.num_items, np.float32)
        for start, rows_nD in self.items.blocks():
            scores_N[start : start + len(rows_nD)] = _unit(rows_nD) @ query_D
        scores_N[item] = -np.inf
        count = min(k, self.num_items - 1)
        best = np.lexsort((np.arange(self.num_items), -scores_N))[:count]
        hits = Hits.none(1, k)
        hits.items_BK[0, :count], hits.scores_BK[0, :count] = best, scores_N[best]
        return hits

    def config(self) -> dict[str, Any]:
        engine: dict[str, Any] = {"kind": self.engine.kind, "config": self.engine.config()}
        if isinstance(self.engine, DrivenEngine):
            engine["way"] = self.engine.way
        config: dict[str, Any] = {"engine": engine, "index": self.index.name}
        if isinstance(self.items, Float32Vectors):  # as in bundles written before there were other kinds
            return config
        return {**config, "items": {"kind": self.items.kind, "config": self.items.config()}}

    def parts(self) -> Parts:
        return {"engine": self.engine.tensors(), "items": self.items.tensors(), "index": self.index.tensors()}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        kept = config.get("items", {"kind": Float32Vectors.kind, "config": {}})
        try:
            vectors_type = VECTORS[kept["kind"]]
            index_type, engine_type = INDEXES[config["index"]], ENGINES[config["engine"]["kind"]]
        except ConfigError as error:
            raise BundleError(f"{error}: update leanrec, or write the bundle again") from error
        items = vectors_type.from_tensors(kept["config"], parts["items"])
        index = index_type.restore(items, parts["index"])
        engine: Engine = engine_type.load(config["engine"]["config"], parts["engine"], index.vectors)
        return cls(name, drive(engine, config["engine"].get("way")), index)


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms: npt.NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    norms[norms == 0] = 1
    return vectors / norms[:, None]
