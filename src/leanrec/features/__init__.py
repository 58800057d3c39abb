"""Raw columns to arrays, the same code in training and in serving: one file per kind of feature, by name in `KINDS`.

`space.FeatureSpace` puts them together, `tables.FeatureTables` keeps users and items transformed; `items` has filters
and titles.
"""

from leanrec.core.registry import Entry, Registry
from leanrec.features.base import Feature

__all__ = ["KINDS", "Feature"]

KINDS: Registry[Feature] = Registry(
    "kind of feature",
    {
        "number": Entry("leanrec.features.number:Number", "clipped, logarithm where skewed, scaled; buckets on demand"),
        "category": Entry("leanrec.features.category:Category", "a code each, rare ones cut off; or hashed"),
        "list": Entry("leanrec.features.category:Listed", "any number of categories"),
        "time": Entry("leanrec.features.moment:Moment", "hour and weekday; age at the event"),
    },
)
