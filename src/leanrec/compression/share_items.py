"""Rare items share: the rows that matter keep a vector of their own, the others have that of their cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.tables import error_facts, rewritable, weighting_of, with_vectors, written
from leanrec.core.config import build
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.core.space import Choice, Dimension, Range
from leanrec.index.vectors.shared import SharedVectors
from leanrec.runtime.recommender import Recommender

__all__ = ["ShareItems", "ShareItemsConfig"]


class ShareItemsConfig(StepConfig, frozen=True, kw_only=True):
    """Who shares, and how the vectors are kept."""

    own: float = 0.3
    """Part of the items that keep their own vector: those that occur most in training."""
    clusters: int = 4096
    """Vectors that the others share, at most."""
    kind: str = "int8"
    """How the vectors are kept: float32, bfloat16, int8, int6, int5, int4 or int2."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "own": Range(0.01, 0.9, log=True),
        "clusters": Choice((256, 1024, 4096, 16384)),
        "kind": Choice(("int8", "int4")),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.own <= 1 or self.clusters < 1:
            raise ValueError("own lies from 0 to 1, clusters is at least 1")


class ShareItems(Step[ShareItemsConfig]):
    """Also what becomes of rows that hardly were trained: a cluster's vector is steadier than theirs."""

    name = "share-items"
    stage = "items"
    Config = ShareItemsConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = rewritable(model)
        if isinstance(source, str):
            return self.left(model, source)
        before = source.items
        weighting = weighting_of(source, Queries(Jagged.empty(0), 1), work, targets=1.0, asked=0.0)
        config = self.config
        options = {"own": config.own, "clusters": config.clusters, "vectors": config.kind, "seed": work.seed}
        vectors = SharedVectors.encode(
            before.table(), build(SharedVectors.Options, options, where=self.name), weighting
        )
        what = f"{config.kind}, {1 - config.own:.0%} of them shared"
        record = written(self.name, what, error_facts(before, vectors, weighting))
        return with_vectors(model, vectors, "coded"), record
