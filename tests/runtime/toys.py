"""A small recommender for tests: the query vector is the mean of the vectors of the history's items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.core.registry import Entry
from leanrec.events.base import HistoryStore
from leanrec.index import INDEXES
from leanrec.index.vectors import ItemVectors, vectors_of
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources import SOURCES
from leanrec.runtime.sources.embedding import EmbeddingSource


class MeanEngine:
    """Mean of the item vectors of the whole history."""

    kind: ClassVar[str] = "toy-mean"

    def __init__(self, items: npt.NDArray[np.float32] | ItemVectors) -> None:
        self.items = vectors_of(items)

    @property
    def dim(self) -> int:
        return self.items.shape[1]

    def encode(self, histories: Jagged) -> npt.NDArray[np.float32]:
        assert len(histories) == 0 or histories.lengths.min() > 0
        return np.stack([self.items.gather(row).mean(axis=0, dtype=np.float64) for row in histories]).astype(np.float32)

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @classmethod
    def load(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Any], items: npt.NDArray[np.float32] | ItemVectors
    ) -> Self:
        return cls(items)


class FixedSource(Source):
    """The same order for everyone: row 0 first."""

    kind = "toy-fixed"

    def __init__(self, name: str, num_items: int) -> None:
        self.name, self.num_items = name, num_items

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        for b in range(len(queries)):
            skip = set() if queries.exclude is None else set(queries.exclude[b].tolist())
            rows = [
                n for n in range(self.num_items) if n not in skip and (queries.allowed is None or queries.allowed[n])
            ]
            rows = rows[: queries.k]
            hits.items_BK[b, : len(rows)], hits.scores_BK[b, : len(rows)] = rows, -np.asarray(rows, np.float32)
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        return -items.values.astype(np.float32)

    def config(self) -> dict[str, Any]:
        return {"num_items": self.num_items}

    def parts(self) -> Parts:
        return {}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        return cls(name, config["num_items"])


class ForgetfulSource(FixedSource):
    """Reads only the first of the rows that its configuration lists."""

    kind = "toy-forgetful"

    def __init__(self, name: str, num_items: int, rows: Sequence[int] = ()) -> None:
        super().__init__(name, num_items)
        self.rows = list(rows)

    def config(self) -> dict[str, Any]:
        return {"num_items": self.num_items, "rows": self.rows}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        return cls(name, config["num_items"], config["rows"][:1])


class PersonalSource(FixedSource):
    """Row u first for user u, and with `context` {"first": [row]} that row before it; for others the fixed order."""

    kind = "toy-personal"
    personal = True

    def __init__(self, name: str, num_items: int, num_users: int) -> None:
        super().__init__(name, num_items)
        self.num_users = num_users

    @property
    def brings(self) -> tuple[str, ...]:
        return ("rest", "favourite")

    def search(self, queries: Queries) -> Hits:
        rows = Jagged.from_rows([np.arange(self.num_items, dtype=np.int32)] * len(queries))
        scores_BN = self.score(queries, rows).reshape(len(queries), -1)
        if queries.exclude is not None:
            scores_BN[queries.exclude.row_of(), queries.exclude.values] = -np.inf
        if queries.allowed is not None:
            scores_BN[:, ~queries.allowed] = -np.inf
        order_BN = np.argsort(-scores_BN, axis=1, kind="stable")[:, : queries.k]
        hits = Hits.none(len(queries), queries.k)
        found = np.take_along_axis(scores_BN, order_BN, 1).astype(np.float32)
        hits.scores_BK[:, : found.shape[1]] = found
        hits.items_BK[:, : found.shape[1]] = np.where(np.isfinite(found), order_BN, -1)
        return Hits(hits.items_BK, hits.scores_BK, (hits.scores_BK > 0).astype(np.int8))

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        scores_T = -items.values.astype(np.float32) - 1
        users_B = np.full(len(queries), -1) if queries.users is None else queries.users
        scores_T[items.values == users_B[items.row_of()]] = 1.0
        if queries.context is not None:
            first_B = np.array([-1 if row is None else row for row in queries.context["first"]])
            scores_T[items.values == first_B[items.row_of()]] = 2.0
        return scores_T

    def config(self) -> dict[str, Any]:
        return {"num_items": self.num_items, "num_users": self.num_users}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        return cls(name, config["num_items"], config["num_users"])


class DictHistory(HistoryStore):
    """Histories in a dict."""

    def __init__(self, histories: Mapping[Id, Sequence[Id]]) -> None:
        self.histories = dict(histories)

    def get(self, user_id: Id) -> Sequence[Id] | None:
        return self.histories.get(user_id)

    def parse(self, text: str) -> Id:
        return text

    def users(self) -> list[Id]:
        return list(self.histories)


ENGINES.entries.setdefault("toy-mean", Entry(f"{__name__}:MeanEngine", "for tests"))
SOURCES.entries.setdefault("toy-fixed", Entry(f"{__name__}:FixedSource", "for tests"))
SOURCES.entries.setdefault("toy-forgetful", Entry(f"{__name__}:ForgetfulSource", "for tests"))
SOURCES.entries.setdefault("toy-personal", Entry(f"{__name__}:PersonalSource", "for tests"))


def item_table(size: int = 50, dim: int = 8, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((size, dim), dtype=np.float32)


def recommender(
    size: int = 50, dim: int = 8, *, index: str = "exact", text_ids: bool = True, seed: int = 0, **options: Any
) -> Recommender:
    """Items i0, i1, ... (or 100, 101, ...) with Gaussian vectors, a fixed fallback, seen items excluded."""
    table = item_table(size, dim, seed)
    ids: list[Id] = [f"i{n}" if text_ids else 100 + n for n in range(size)]
    source = EmbeddingSource("toy", MeanEngine(table), INDEXES[index].build(table))
    settings: dict[str, Any] = {"repeats": False, "fallback": FixedSource("fixed", size)}
    return Recommender(source, Vocabulary(ids), **{**settings, **options})
