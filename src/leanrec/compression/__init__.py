"""Making a trained recommender smaller and faster, with what each step bought and cost."""

from typing import Any

from leanrec.compression.base import Plan, Step, StepRecord, Work
from leanrec.core.registry import Entry, Registry

__all__ = ["STEPS", "Plan", "Step", "StepRecord", "Work"]

STEPS: Registry[Step[Any]] = Registry(
    "compression step",
    {
        "int8-items": Entry(
            "leanrec.compression.int8:Int8Items", "scan int8 item vectors, rescore in full: the same answers, proven"
        ),
        "int8-dense": Entry("leanrec.compression.int8:Int8Dense", "int8 dense layers of the encoder, where that pays"),
    },
)
