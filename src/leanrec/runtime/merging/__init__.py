"""Ways to make one ranking of what several sources found: one contract (`base.Merge`), one file per way."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.merging.base import Evidence, Merge

__all__ = ["MERGES", "Evidence", "Merge"]

MERGES: Registry[Merge] = Registry(
    "merge",
    {
        "rrf": Entry("leanrec.runtime.merging.fixed:ReciprocalRank", "sum of 1 / (60 + rank) over the sources"),
        "weighted": Entry("leanrec.runtime.merging.fixed:Weighted", "weighted sum of the sources' scaled scores"),
        "learned": Entry("leanrec.runtime.merging.learned:Learned", "a ranker over ranks, scores, popularity, repeats"),
    },
)
