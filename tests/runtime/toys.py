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
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources import SOURCES
from leanrec.runtime.sources.embedding import EmbeddingSource


class MeanEngine:
    """Mean of the item vectors of the whole history."""

    kind: ClassVar[str] = "toy-mean"

    def __init__(self, items_ND: npt.NDArray[np.float32]) -> None:
        self.items_ND = items_ND

    @property
    def dim(self) -> int:
        return self.items_ND.shape[1]

    def encode(self, histories: Jagged) -> npt.NDArray[np.float32]:
        assert len(histories) == 0 or histories.lengths.min() > 0
        return np.stack([self.items_ND[row].mean(axis=0, dtype=np.float64) for row in histories]).astype(np.float32)

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, Any], items_ND: npt.NDArray[np.float32]) -> Self:
        return cls(items_ND)


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
