"""What serves without torch: query encoders by their `kind` in `ENGINES`, scorers of features in `SCORERS`."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.base import Engine, ScoringEngine

__all__ = ["ENGINES", "SCORERS", "Engine", "ScoringEngine"]

ENGINES: Registry[Engine] = Registry(
    "engine",
    {
        "factors": Entry("leanrec.runtime.engines.factors:FactorsEngine", "users' vectors, or a history folded in"),
        "transformer": Entry("leanrec.runtime.engines.transformer:TransformerEngine", "a transformer in Numba"),
        "gru": Entry("leanrec.runtime.engines.gru:GRUEngine", "gated recurrent units in Numba"),
        "caser": Entry("leanrec.runtime.engines.caser:CaserEngine", "convolutions over the last items in NumPy"),
        "towers": Entry("leanrec.runtime.engines.towers:TowersEngine", "pooled history and user attributes in NumPy"),
        "hstu": Entry("leanrec.runtime.engines.hstu:HSTUEngine", "HSTU in Numba"),
    },
)

SCORERS: Registry[ScoringEngine] = Registry(
    "scoring engine",
    {
        "plan": Entry("leanrec.runtime.engines.ctr:PlanEngine", "click networks in NumPy"),
        "trees": Entry("leanrec.runtime.engines.trees:TreeEngine", "boosted trees in Numba"),
    },
)
"""What gives a raw score to a pair of query and item from their features."""
