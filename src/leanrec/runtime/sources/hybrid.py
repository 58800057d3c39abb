"""Several sources as one: their candidates united, merged into one ranking, and re-ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.rerank import RERANKERS, Reranker
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.merging import MERGES, Evidence, Merge
from leanrec.runtime.merging.gather import history_lists, ranked, unite, weigh
from leanrec.runtime.sources.nested import load_nested, nested_config, nested_parts

__all__ = ["HISTORY", "HybridSource"]

HISTORY = "history"
"""What brought an item that the history holds and that no source found."""

_DEEPEST = 1 << 16


class HybridSource(Source):
    """Asks every source for `depth` candidates, more when more answers are wanted, and scores their union by `merge`.

    Where items may be repeated (`repeats`), the items of the history are candidates too. Places and scaled scores are
    among what a query may be answered with; `score` takes a query that excludes nothing as `repeats` says. Scores of
    a re-ranked list are those of the merge, lowered where the new order asks for it; `score` gives them as they were.
    """

    kind: ClassVar[str] = "hybrid"

    def __init__(
        self, name: str, sources: Sequence[Source], merge: Merge, *, depth: int, repeats: bool,
        rerankers: Sequence[Reranker] = (),
    ) -> None:  # fmt: skip
        assert sources and len({source.num_items for source in sources}) == 1, "sources over the same items"
        self.name, self.sources, self.merge, self.rerankers = name, list(sources), merge, list(rerankers)
        self.num_items = sources[0].num_items
        self.depth, self.repeats = depth, repeats
        self.timed = any(source.timed for source in sources)
        self.personal = any(source.personal for source in sources)
        self.num_users = max(source.num_users for source in sources)
        self._allowed_N = _all_of([one.allowed_N for one in rerankers if one.allowed_N is not None])

    @property
    def brings(self) -> tuple[str, ...]:
        return (*(source.name for source in self.sources), HISTORY)

    def search(self, queries: Queries) -> Hits:
        evidence, brought_T = self.gather(queries)
        pool = ranked(evidence.candidates, self.merge.score(evidence), brought_T, evidence.queries.k)
        for reranker in self.rerankers:
            pool = reranker.rerank(pool, queries, queries.k)
        return Hits(*(_first(array, queries.k) for array in (pool.items_BK, pool.scores_BK, pool.brought_BK)))

    def gather(self, queries: Queries) -> tuple[Evidence, npt.NDArray[np.int8]]:
        """The candidates with their evidence, and (T,) which part brought each."""
        queries = self._restricted(queries, max(self.depth, queries.k), queries.exclude)
        lists = [source.search(queries) for source in self.sources]
        histories = history_lists(queries, self.num_items) if self.repeats else None
        candidates, brought_T = unite(lists, histories, self.num_items)
        return weigh(self.sources, lists, queries, candidates), brought_T

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        """-inf for a query that no source finds anything for."""
        exclude = queries.histories if queries.exclude is None and not self.repeats else queries.exclude
        queries = self._restricted(queries, self.depth, exclude)
        lists = [source.search(queries) for source in self.sources]
        scores_T = self.merge.score(weigh(self.sources, lists, queries, items))
        nothing_B = np.logical_and.reduce([hits.items_BK[:, 0] < 0 for hits in lists])
        return np.where(nothing_B[items.row_of()], np.float32(-np.inf), scores_T)

    def _restricted(self, queries: Queries, k: int, exclude: Jagged | None) -> Queries:
        """The questions that the sources are asked."""
        allowed = _all_of([one for one in (queries.allowed, self._allowed_N) if one is not None])
        return Queries(queries.histories, k, exclude, allowed, queries.times, queries.users, queries.context)

    def config(self) -> dict[str, Any]:
        return {
            "sources": nested_config(self.sources),
            "merge": {"kind": self.merge.kind, "config": self.merge.config()},
            "rerank": [{"kind": one.kind, "config": one.config()} for one in self.rerankers],
            "depth": self.depth,
            "repeats": self.repeats,
        }

    def parts(self) -> Parts:
        """Those of source n under `n-`, those of re-ranker n under `rerank-n`, the merge's under `merge`."""
        own = {"merge": self.merge.tensors()}
        own |= {f"rerank-{number}": one.tensors() for number, one in enumerate(self.rerankers)}
        return nested_parts(self.sources) | {stem: tensors for stem, tensors in own.items() if tensors}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            sources = load_nested(config["sources"], parts)
            depth, repeats, items = config["depth"], config["repeats"], sources[0].num_items
            if type(depth) is not int or not 1 <= depth <= _DEEPEST or type(repeats) is not bool:
                raise ValueError(f"depth {depth!r}, repeats {repeats!r}")
            merge, tensors = config["merge"], parts.get("merge", {})
            merged = MERGES[merge["kind"]].load(merge["config"], tensors, len(sources), items)
            rerankers = [
                RERANKERS[one["kind"]].load(one["config"], parts.get(f"rerank-{number}", {}), items)
                for number, one in enumerate(config["rerank"])
            ]
        except ConfigError as error:
            raise BundleError(f"{error}: update leanrec, or write the bundle again") from error
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        return cls(name, sources, merged, depth=depth, repeats=repeats, rerankers=rerankers)


def _all_of(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_] | None:
    return np.logical_and.reduce(list(masks)) if masks else None


def _first(array: npt.NDArray[Any] | None, k: int) -> Any:
    return None if array is None else np.ascontiguousarray(array[:, :k])
