"""Item vectors of fewer numbers: factors in a shared basis, or the dimensions that matter most as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leanrec.compression.base import Stage, Step, StepConfig, StepRecord, Work
from leanrec.compression.tables import error_facts, rewritable, sample_queries, weighting_of, with_vectors, written
from leanrec.core.config import build
from leanrec.core.space import Choice, Dimension, Range
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.runtime.recommender import Recommender

__all__ = ["DropDimensions", "LowRankItems", "LowRankItemsConfig"]


class LowRankItemsConfig(StepConfig, frozen=True, kw_only=True):
    """How much is kept."""

    share: float = 0.5
    """Of the dimensions; at least one is kept."""
    asked: float = 0.5
    """How far errors count by what queries see of them, from 0 (alike in all directions) to 1."""
    targets: float = 0.5
    """A row weighs this power of how often it occurs in training."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "share": Choice((0.25, 0.375, 0.5, 0.75)),
        "asked": Range(0.0, 1.0),
    }

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not 0 <= self.asked <= 1 or self.targets < 0:
            raise ValueError("share lies above 0 up to 1, asked from 0 to 1, targets is at least 0")


class LowRankItems(Step[LowRankItemsConfig]):
    """Float32 factors in the directions that matter most; a step `items` after it keeps the factors in fewer bytes."""

    name = "low-rank-items"
    stage: ClassVar[Stage] = "factorise"
    Config = LowRankItemsConfig
    turned: ClassVar[bool] = True
    """Whether directions may be any, or are single dimensions."""

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = rewritable(model)
        if isinstance(source, str):
            return self.left(model, source)
        before = source.items
        config = self.config
        weighting = weighting_of(source, sample_queries(model, work), work, targets=config.targets, asked=config.asked)
        rank = max(1, round(config.share * before.shape[1]))
        options = {"rank": rank, "factors": "float32", "turned": self.turned}
        vectors = LowRankVectors.encode(
            before.table(), build(LowRankVectors.Options, options, where=self.name), weighting
        )
        what = f"{rank} of {before.shape[1]} {'directions' if self.turned else 'dimensions'}"
        record = written(self.name, what, error_facts(before, vectors, weighting))
        return with_vectors(model, vectors, "coded"), record


class DropDimensions(LowRankItems):
    """The dimensions that matter least read as 0."""

    name = "drop-dimensions"
    stage: ClassVar[Stage] = "prune"
    turned = False
