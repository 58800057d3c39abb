"""Query encoders that serve without torch, chosen by their `kind` from `ENGINES`."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.base import Engine

__all__ = ["ENGINES", "Engine"]

ENGINES: Registry[Engine] = Registry(
    "engine",
    {
        "factors": Entry("leanrec.runtime.engines.factors:FactorsEngine", "users' vectors, or a history folded in"),
        "transformer": Entry("leanrec.runtime.engines.transformer:TransformerEngine", "a transformer in Numba"),
        "gru": Entry("leanrec.runtime.engines.gru:GRUEngine", "gated recurrent units in Numba"),
        "caser": Entry("leanrec.runtime.engines.caser:CaserEngine", "convolutions over the last items in NumPy"),
        "hstu": Entry("leanrec.runtime.engines.hstu:HSTUEngine", "HSTU in Numba"),
    },
)
