"""Several models as one: candidates of each, merged by a fixed or a learned rule, re-ranked, with a fallback chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from leanrec.core.config import Config, build
from leanrec.core.console import say
from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import parse_metric
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts_trained import hybrid_memory
from leanrec.models.merging import choose_ranker, choose_weights, gather_judged
from leanrec.models.parts import Part, Spec, check_specs, fit_parts, parts_memory
from leanrec.rerank import RERANKERS, Catalogue, Reranker
from leanrec.runtime.base import Source
from leanrec.runtime.merging import Merge
from leanrec.runtime.merging.features import ItemFacts, feature_names
from leanrec.runtime.merging.fixed import ReciprocalRank, Weighted
from leanrec.runtime.merging.learned import Learned
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.chain import ChainSource
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.sources.hybrid import HybridSource
from leanrec.training.memory import MemoryNeed

__all__ = ["Hybrid", "HybridConfig", "parse_reranker"]

DEFAULTS_VERSION = 1
_ENOUGH_JUDGES = 50


class HybridConfig(Config, frozen=True, kw_only=True):
    """What is None is chosen from the data (defaults version 1) and printed."""

    sources: list[Spec] = msgspec.field(default_factory=lambda: ["item-knn", "popular"])
    """The parts: names of models, tables `{model = "item-knn", neighbours = 100}`, bundles or run folders."""
    merge: Literal["rrf", "weighted", "learned"] | None = None
    """rrf: sum of reciprocal ranks; weighted: sum of scaled scores; learned: a ranker over ranks, scores, popularity
    and repeats. learned where at least 50 users that tune have validation targets, else rrf."""
    weights: list[float] | None = None
    """Of the sources, for rrf (all alike by default) and weighted (fitted to validation by default)."""
    ranker: Literal["linear", "trees"] | None = None
    """Of the learned merge: the one that predicts held-out judges better."""
    depth: int = 100
    """Candidates that every source is asked for."""
    rerank: list[str | dict[str, Any]] = msgspec.field(default_factory=list)
    """Re-rankers, one after the other: names, or tables `{kind = "mmr", diversity = 0.3}`; see leanrec.rerank."""
    fallback: list[str] = msgspec.field(default_factory=lambda: ["popular"])
    """Models that answer, in this order, where nothing is known of a user or the sources find nothing."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "merge": Choice(("rrf", "weighted", "learned")),
        "depth": Choice((30, 100, 300)),
    }

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}")
        if self.weights is not None and len(self.weights) != len(self.sources):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sources)} sources: give each source one")
        if self.weights is not None and self.merge not in ("rrf", "weighted"):
            raise ValueError("weights are for merge=rrf and merge=weighted: choose one of them")


class Hybrid(Model[HybridConfig]):
    """Everything that is fitted to validation events is fitted to users that tune.

    With refit, or when validation was drawn from train, the parts are fitted again on train + validation, and the merge
    stays as it was found.
    """

    name: ClassVar[str] = "hybrid"
    Config = HybridConfig

    def __init__(self, config: HybridConfig | None = None, **overrides: Any) -> None:
        super().__init__(config, **overrides)
        check_specs(self.config.sources, self.name)
        check_specs(self.config.fallback, f"{self.name} fallback")
        self._rerank = [parse_reranker(one) for one in self.config.rerank]

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.config
        if options.distributed:
            raise ConfigError(
                f"{self.name}: its parts are fitted one by one in one process: train them with --workers on their own, "
                "then name their run folders as sources"
            )
        parts = fit_parts(config.sources, data, options, self.name)
        merge, chosen = self._merge([part.searched for part in parts], data, options)
        source = HybridSource(
            self.name, [part.final for part in parts], merge, depth=config.depth, repeats=data.protocol.repeats,
            rerankers=self._rerankers(parts, data, options),
        )  # fmt: skip
        chosen["parts"] = [dict(part.card) for part in parts]
        fallbacks = [one.final for one in fit_parts(config.fallback, data, _quick(options), f"{self.name} fallback")]
        fallback = fallbacks[0] if len(fallbacks) == 1 else ChainSource("fallback", fallbacks)
        return assemble(self, source, data, options, fallback=fallback, chosen=chosen)

    def memory(self, data: Dataset) -> MemoryNeed:
        """Of the part that needs most, and of the merge; InputError where a part has no forecast."""
        config = self.config
        parts = [*parts_memory(config.sources, data, self.name), *parts_memory(config.fallback, data, self.name)]
        return hybrid_memory(data, parts, sources=len(config.sources), depth=config.depth)

    def _merge(self, sources: list[Source], data: Dataset, options: FitOptions) -> tuple[Merge, dict[str, Any]]:
        """The merge, fitted where it has to be, and what was found."""
        config, metric = self.config, parse_metric(options.metric)
        equal = ReciprocalRank(np.ones(len(sources)))
        asked = HybridSource(self.name, sources, equal, depth=config.depth, repeats=data.protocol.repeats)
        cases = data.cases("valid", "tune")
        judges = int((cases.histories.lengths > 0).sum())
        kind = config.merge or ("learned" if judges >= _ENOUGH_JUDGES else "rrf")
        if kind == "rrf":
            return (equal if config.weights is None else ReciprocalRank(config.weights)), {"merge": kind}
        if config.weights is not None:
            return Weighted(config.weights), {"merge": kind}
        if not judges:
            raise ConfigError(
                f"{self.name}: no user that tunes has validation targets to fit a {kind} merge to: use rrf"
            )
        judged = gather_judged(asked, data)
        if kind == "weighted":
            weights_S = choose_weights(judged, metric)
            said = {source.name: round(float(weight), 3) for source, weight in zip(sources, weights_S, strict=True)}
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): merge=weighted weights={said}")
            return Weighted(weights_S.tolist()), {"merge": kind, "weights": weights_S.tolist()}
        facts = ItemFacts.of(data.train(), data.train_times(), len(data.items))
        ranker, tried = choose_ranker(judged, facts, metric, config.ranker)
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): merge=learned ranker={ranker.kind}")
        if options.refit:
            facts = ItemFacts.of(data.train(True), data.train_times(True), len(data.items))
        names = feature_names(asked.brings[:-1])
        return Learned(ranker, facts, names), {"merge": kind, "ranker": ranker.kind, "tried": tried}

    def _rerankers(self, parts: list[Part], data: Dataset, options: FitOptions) -> list[Reranker]:
        vectors = [part.final.index.items_ND for part in parts if isinstance(part.final, EmbeddingSource)]
        catalogue = Catalogue(
            items=data.items, events=data.train(options.refit), times=data.train_times(options.refit),
            vectors_ND=vectors[0] if vectors else None, attributes=data.attributes,
        )  # fmt: skip
        return [kind.fit(settings, catalogue) for kind, settings in self._rerank]


def parse_reranker(spec: str | dict[str, Any]) -> tuple[type[Reranker], Config]:
    """The re-ranker that a spec names, and its settings."""
    settings = dict(spec) if isinstance(spec, dict) else {"kind": spec}
    name = settings.pop("kind", None)
    if not isinstance(name, str):
        raise ConfigError(f"rerank: {spec!r} does not say which re-ranker it is: write {{kind = 'mmr', ...}}")
    kind = RERANKERS[name]
    return kind, build(kind.Options, settings, where=f"rerank {name}")


def _quick(options: FitOptions) -> FitOptions:
    """For fallbacks: in memory, and on all there is in the end."""
    return FitOptions(seed=options.seed, refit=options.refit, metric=options.metric, track=())
