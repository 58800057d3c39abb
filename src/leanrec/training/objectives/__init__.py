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
        "softmax": Entry(
            "leanrec.training.objectives.softmax:Softmax", "exact softmax over the catalogue, in blocks", "train"
        ),
        "sampled-softmax": Entry(
            "leanrec.training.objectives.sampled:SampledSoftmax", "softmax over shared negatives with log-Q", "train"
        ),
        "gbce": Entry("leanrec.training.objectives.pairwise:GBCE", "binary cross-entropy calibrated by t", "train"),
        "bpr": Entry("leanrec.training.objectives.pairwise:BPR", "each target above each negative", "train"),
        "ccl": Entry("leanrec.training.objectives.pairwise:CCL", "cosines with a margin, as SimpleX", "train"),
        "sce": Entry("leanrec.training.objectives.sce:SCE", "softmax over buckets of hard items", "train"),
    },
)


def make_objective(name: str, options: Mapping[str, Any], num_items: int, negatives: int) -> Objective:
    """The objective of that name; an option it does not have is a ConfigError naming the nearest."""
    kind = OBJECTIVES[name]
    return kind(build(kind.Options, options, where=f"objective {name}"), num_items, negatives)
