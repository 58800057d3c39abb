"""Item vectors kept in few bytes, as what is served: whole numbers of 8, 6, 5, 4 or 2 bits, bfloat16, or product codes.

Errors count, if wanted, by what queries see of them (`asked`). Product codes stand in a basis that shares what matters
evenly over their bytes; rows weigh by how often they are targets; and codes can learn to rank as the original did
(`epochs`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.tables import (
    KINDS,
    error_facts,
    inputs_of,
    kept_as,
    rewritable,
    sample_queries,
    weighting_of,
    with_inputs,
    with_vectors,
    written,
)
from leanrec.core.config import build
from leanrec.core.space import Choice, Dimension, Range
from leanrec.index.vectors import VECTORS, ItemVectors, Weighting
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.runtime.recommender import Recommender

__all__ = ["Items", "ItemsConfig"]


class ItemsConfig(StepConfig, frozen=True, kw_only=True):
    """How item vectors are kept."""

    kind: str = "int8"
    """One of bfloat16, int8, int6, int5, int4, int2, product."""
    code_bytes: int = 16
    """product: at most so many bytes an item, and one for its length; as many as share its values evenly."""
    targets: float = 0.5
    """product: a row weighs this power of how often it occurs in training."""
    asked: float = 0.0
    """How far errors count by what queries see of them, from 0 (alike in all directions) to 1. Values are rounded one
    after the other then, each making up for what those before it missed."""
    epochs: int = 0
    """product: passes over a sample of queries in which codes learn to rank as before; needs torch."""
    index: str = "coded"
    """How they are searched."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "kind": Choice(KINDS),
        "code_bytes": Choice((8, 16, 32)),
        "targets": Range(0.0, 1.0),
        "asked": Range(0.0, 1.0),
    }

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 <= self.asked <= 1 or self.targets < 0 or self.epochs < 0 or self.code_bytes < 1:
            raise ValueError("asked lies from 0 to 1; targets and epochs are at least 0, code_bytes at least 1")

    def idle(self) -> Collection[str]:
        if self.kind == "product":
            return ()
        return ("code_bytes", "targets", "epochs", *(["asked"] if self.kind == "bfloat16" else []))


class Items(Step[ItemsConfig]):
    """The item table of an encoder's recommender, read and searched as it is kept."""

    name = "items"
    stage = "items"
    Config = ItemsConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = rewritable(model, low_rank=True)
        if isinstance(source, str):
            return self.left(model, source)
        before = source.items
        queries = sample_queries(model, work)
        weighting = weighting_of(source, queries, work, targets=self.config.targets, asked=self.config.asked)
        vectors = self._encoded(before, weighting)
        if self.config.epochs and isinstance(vectors, LowRankVectors):
            from leanrec.compression.codebooks import distilled

            vectors = distilled(model, vectors, queries, epochs=self.config.epochs, index=self.config.index, work=work)
        second = inputs_of(source)
        inputs = None if second is None else self._encoded(second, Weighting(rows_N=weighting.rows_N))
        lean = with_vectors(model, vectors, self.config.index, inputs)
        what = self.config.kind if self.config.kind != "product" else f"{self.config.code_bytes} bytes of product codes"
        facts = with_inputs(error_facts(before, vectors, weighting), second, inputs)
        return lean, written(self.name, what, facts)

    def _encoded(self, before: ItemVectors, weighting: Weighting) -> ItemVectors:
        config = self.config
        dim = before.factors.shape[1] if isinstance(before, LowRankVectors) else before.shape[1]
        kind, options = kept_as(config.kind, dim, config.code_bytes)
        settings = build(VECTORS[kind].Options, options, where=self.name)
        if isinstance(before, LowRankVectors) and config.kind != "product":
            seen = before.seen_by(weighting)
            return before.with_factors(VECTORS[kind].encode(before.factors.table(), settings, seen))
        return VECTORS[kind].encode(before.table(), settings, weighting)
