"""Ways to make a better list of a good ranking: one contract (`base.Reranker`), one file per way."""

from leanrec.core.registry import Entry, Registry
from leanrec.rerank.base import Catalogue, Reranker

__all__ = ["RERANKERS", "Catalogue", "Reranker"]

RERANKERS: Registry[Reranker] = Registry(
    "re-ranker",
    {
        "mmr": Entry("leanrec.rerank.mmr:MaximalMarginalRelevance", "relevant and unlike what stands above"),
        "dpp": Entry("leanrec.rerank.dpp:DeterminantalPointProcess", "relevant and unlike each other, as a whole"),
        "calibrated": Entry("leanrec.rerank.calibrated:Calibrated", "categories in proportion to the history"),
        "freshness": Entry("leanrec.rerank.freshness:Freshness", "new items higher"),
        "rules": Entry("leanrec.rerank.rules:Rules", "boost, bury or pin items by attribute"),
        "block": Entry("leanrec.rerank.block:Block", "items that are never answered"),
        "caps": Entry("leanrec.rerank.caps:Caps", "at most so many of a category"),
    },
)
