"""Query encoders that serve without torch, chosen by their `kind` from `ENGINES`."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.base import Engine

__all__ = ["ENGINES", "Engine"]

ENGINES: Registry[Engine] = Registry(
    "engine",
    {"transformer": Entry("leanrec.runtime.engines.transformer:TransformerEngine", "a causal transformer in Numba")},
)
