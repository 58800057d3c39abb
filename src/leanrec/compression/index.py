"""How item vectors are searched: by another index over the same vectors, exact or not, or by the fastest of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np

from leanrec.compression.base import Step, StepConfig, StepRecord, Work, with_source
from leanrec.compression.tables import sample_queries
from leanrec.core.config import build
from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension
from leanrec.index import INDEXES, Index
from leanrec.index.choose import choose, recall_of
from leanrec.index.vectors import Float32Vectors
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["SearchBy", "SearchByConfig"]

FASTEST = "fastest"
_QUERIES, _K = 256, 10


class SearchByConfig(StepConfig, frozen=True, kw_only=True):
    """Which index, and its settings."""

    kind: str = "certified-int4"
    """A name of an index, or `fastest`: the fastest on this machine that has the recall."""
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    """Of that index: {probes = 64}."""
    recall: float = 1.0
    """fastest: the share of the true best 10 that has to be found; 1 leaves exact indexes alone to choose from."""

    space: ClassVar[Mapping[str, Dimension]] = {"kind": Choice(("certified-int8", "certified-int4", "ivf-int4"))}

    def __post_init__(self) -> None:
        if self.kind == FASTEST and self.settings:
            raise ValueError("the fastest index is found with its settings: name an index to set some")
        if not 0 < self.recall <= 1:
            raise ValueError("recall lies above 0 and at most at 1")


class SearchBy(Step[SearchByConfig]):
    """The vectors stay as they are. An approximate index is measured against the true best 10 of sample queries."""

    name = "index"
    stage = "index"
    Config = SearchByConfig

    def __init__(self, config: SearchByConfig | None = None, *, where: str = "", **overrides: Any) -> None:
        super().__init__(config, where=where, **overrides)
        if self.config.kind != FASTEST:
            build(INDEXES[self.config.kind].Options, self.config.settings, where=where or self.name)

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source, kind = model.source, self.config.kind
        if not isinstance(source, EmbeddingSource):
            return self.left(model, f"{source.name} has no item vectors to search")
        if source.index.name == kind and not self.config.settings:
            return self.left(model, f"{source.name} is searched by {kind} already")
        try:
            index, facts = self._made(model, source, work)
        except ConfigError as error:
            return self.left(model, str(error))
        if source.index.removed_N.any():
            index = index.remove(np.flatnonzero(source.index.removed_N))
        before, after = source.index.bytes_scanned, index.bytes_scanned
        lossless = index.exact and source.index.exact
        found = "same answers" if lossless else f"{facts['recall']:.2%} of the true best {_K} are found"
        said = f"{index.name}: a query scans about {after:,} bytes instead of {before:,}, {found}"
        facts = {"index": index.name, "bytes_before": before, "bytes_after": after, **facts}
        lean = with_source(model, EmbeddingSource(source.name, source.engine, index))
        return lean, StepRecord(step=self.name, applied=True, lossless=lossless, said=said, facts=facts)

    def _made(self, model: Recommender, source: EmbeddingSource, work: Work) -> tuple[Index, dict[str, Any]]:
        """The index, its recall on queries of users that tune, and what was measured."""
        queries_QD = source.encode(sample_queries(model, work, _QUERIES))
        if self.config.kind == FASTEST:
            if not isinstance(source.items, Float32Vectors):
                raise ConfigError(f"the item vectors of {source.name} are scanned as {source.items.kind} already")
            chosen = choose(source.items, queries_QD, k=_K, recall=self.config.recall)
            measured = [
                {
                    "index": one.candidate.kind, "settings": dict(one.candidate.settings), "recall": one.recall,
                    "us": 1e6 * one.seconds, "build_seconds": one.build_seconds,
                }
                for one in chosen.table
            ]  # fmt: skip
            return chosen.best.index, {"recall": chosen.best.recall, "measured": measured}
        index = INDEXES[self.config.kind].made(source.items, self.config.settings, where=self.name)
        if index.exact or not len(queries_QD):
            return index, {"recall": 1.0 if index.exact else float("nan")}
        truth_QK = INDEXES["exact"].over(source.items).search(queries_QD, _K).items_BK
        return index, {"recall": recall_of(index, queries_QD, truth_QK)}
