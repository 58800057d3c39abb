"""What training makes small: one contract (`base.Objective`), one file per way, chosen by name from `OBJECTIVES`."""

from leanrec.core.registry import Entry, Registry
from leanrec.training.objectives.base import Objective

__all__ = ["OBJECTIVES", "Objective"]

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    {
        "softmax": Entry("leanrec.training.objectives.softmax:Softmax", "exact softmax over the catalogue", "train"),
        "sampled-softmax": Entry(
            "leanrec.training.objectives.sampled:SampledSoftmax", "softmax over shared negatives with log-Q", "train"
        ),
    },
)
