"""Rare items share: the rows that matter keep a vector of their own, the others have that of their cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.tables import KINDS, error_facts, kept_as, rewritable, weighting_of, with_vectors, written
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
    """How the vectors are kept: float32, or a kind of the step `items`."""
    code_bytes: int = 32
    """product: at most so many bytes a vector, and one for its length."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "own": Range(0.01, 0.9, log=True),
        "clusters": Choice((256, 1024, 4096, 16384)),
        "kind": Choice(("int8", "int6", "int4", "product")),
        "code_bytes": Choice((16, 32)),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.own <= 1 or self.clusters < 1 or self.code_bytes < 1:
            raise ValueError("own lies from 0 to 1, clusters and code_bytes are at least 1")
        if self.kind not in ("float32", *KINDS):
            raise ValueError(f"kind is one of float32, {', '.join(KINDS)}, not {self.kind!r}")

    def idle(self) -> Collection[str]:
        return () if self.kind == "product" else ("code_bytes",)


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
        kind, kept = kept_as(config.kind, before.shape[1], config.code_bytes)
        shared = {"own": config.own, "clusters": config.clusters, "seed": work.seed}
        options = {**shared, "vectors": kind, "vectors_options": kept}
        vectors = SharedVectors.encode(
            before.table(), build(SharedVectors.Options, options, where=self.name), weighting
        )
        what = f"{config.kind}, {1 - config.own:.0%} of them shared"
        record = written(self.name, what, error_facts(before, vectors, weighting))
        return with_vectors(model, vectors, "coded"), record
