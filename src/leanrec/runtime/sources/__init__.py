"""Ways to find items for a query: one contract (`runtime.base.Source`), one file per way, by `kind` in `SOURCES`."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.base import Source

__all__ = ["SOURCES", "Source"]

SOURCES: Registry[Source] = Registry(
    "source",
    {
        "embedding": Entry(
            "leanrec.runtime.sources.embedding:EmbeddingSource", "an encoder's query vector against the item table"
        ),
        "neighbours": Entry(
            "leanrec.runtime.sources.neighbours:NeighbourSource", "stored similarities of items, added up"
        ),
        "scorer": Entry("leanrec.runtime.sources.scorer:ScoringSource", "probabilities from features, item by item"),
        "content": Entry(
            "leanrec.runtime.sources.content:ContentSource", "items whose attributes are like those of the history"
        ),
        "similar-users": Entry(
            "leanrec.runtime.sources.similar_users:SimilarUsersSource", "what the users most like a history had"
        ),
        "popular": Entry("leanrec.runtime.sources.popular:PopularSource", "the same items for everybody"),
        "chain": Entry("leanrec.runtime.sources.chain:ChainSource", "the first source that knows anything answers"),
        "hybrid": Entry("leanrec.runtime.sources.hybrid:HybridSource", "several sources merged and re-ranked"),
    },
)
