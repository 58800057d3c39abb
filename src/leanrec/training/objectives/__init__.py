"""What training makes small: one contract (`base.Objective`), one file per way, chosen by name from `OBJECTIVES`."""

from collections.abc import Mapping
from typing import Any

from leanrec.core.config import build
from leanrec.core.registry import Entry, Registry
from leanrec.training.objectives.base import Objective, Predictions

__all__ = ["OBJECTIVES", "Objective", "Predictions", "make_objective"]

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    {
        "softmax": Entry("leanrec.training.objectives.softmax:Softmax", "exact softmax over the catalogue", "train"),
        "sampled-softmax": Entry(
            "leanrec.training.objectives.sampled:SampledSoftmax", "softmax over shared negatives with log-Q", "train"
        ),
    },
)


def make_objective(name: str, options: Mapping[str, Any], num_items: int, negatives: int) -> Objective:
    """The objective of that name; an option it does not have is a ConfigError naming the nearest."""
    kind = OBJECTIVES[name]
    return kind(build(kind.Options, options, where=f"objective {name}"), num_items, negatives)
