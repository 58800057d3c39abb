"""Making a trained recommender smaller and faster, with what each step bought and cost."""

from typing import Any

from leanrec.compression.base import Plan, Step, StepRecord, Work
from leanrec.core.registry import Entry, Registry

__all__ = ["STEPS", "Plan", "Step", "StepRecord", "Work"]

STEPS: Registry[Step[Any]] = Registry(
    "compression step",
    {
        "items": Entry("leanrec.compression.items:Items", "item vectors as 8 to 2 bits, bfloat16 or product codes"),
        "low-rank-items": Entry(
            "leanrec.compression.low_rank_items:LowRankItems", "item vectors as factors in a shared basis"
        ),
        "drop-dimensions": Entry(
            "leanrec.compression.low_rank_items:DropDimensions", "item vectors without the dimensions that matter least"
        ),
        "share-items": Entry("leanrec.compression.share_items:ShareItems", "rare items share the vector of a cluster"),
        "int8-items": Entry(
            "leanrec.compression.int8:Int8Items", "scan int8 item vectors, rescore in full: the same answers, proven"
        ),
        "index": Entry("leanrec.compression.index:SearchBy", "item vectors searched by another index, exact or not"),
        "distil": Entry("leanrec.compression.distil:Distil", "a smaller sequence model learns from this one", "train"),
        "prune": Entry("leanrec.compression.prune:Prune", "fewer layers, heads and channels, the rest fitted anew"),
        "sparsify": Entry("leanrec.compression.sparsify:Sparsify", "weights go to zero, and zeros are not stored"),
        "low-rank": Entry("leanrec.compression.factorise:Factorise", "dense layers as two thin factors"),
        "quantise": Entry("leanrec.compression.quantise:Quantise", "dense layers in fewer bits"),
        "mixed-precision": Entry(
            "leanrec.compression.quantise:MixedPrecision", "for each dense layer the fewest bits that it tolerates"
        ),
        "quantise-aware": Entry(
            "leanrec.compression.quantise_aware:QuantiseAware", "fine-tuned for the rounding to come", "train"
        ),
        "engine": Entry("leanrec.compression.engine:RunBy", "the encoder run in the way that measured fastest here"),
        "serving": Entry(
            "leanrec.compression.serving:AnswerAs", "how a process answers: batches, threads, cores, answers kept"
        ),
        "int8-dense": Entry("leanrec.compression.int8:Int8Dense", "int8 dense layers of the encoder, where that pays"),
    },
)
