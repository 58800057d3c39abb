"""Blocks of click and conversion networks, one file a family; `BLOCKS` has the names that a plan calls them by."""

from leanrec.core.registry import Entry, Registry
from leanrec.nn.ctr.plan import Plan, Step, step

__all__ = ["BLOCKS", "Plan", "Step", "step"]

BLOCKS: Registry[object] = Registry(
    "block",
    {
        "sum": Entry("leanrec.nn.ctr.dense:Sum", "inputs and a bias added up", "train"),
        "concat": Entry("leanrec.nn.ctr.dense:Concat", "inputs side by side", "train"),
        "append": Entry("leanrec.nn.ctr.dense:Append", "a vector as one more field", "train"),
        "dense": Entry("leanrec.nn.ctr.dense:DenseLayer", "one linear layer", "train"),
        "mlp": Entry("leanrec.nn.ctr.dense:MLP", "layers with ReLU and dropout", "train"),
        "pairs": Entry("leanrec.nn.ctr.interactions:Pairs", "the sum of all inner products of two fields", "train"),
        "dots": Entry("leanrec.nn.ctr.interactions:Dots", "each inner product of two fields", "train"),
        "cross": Entry("leanrec.nn.ctr.cross:Cross", "cross layers with full matrices", "train"),
        "cross-mixture": Entry("leanrec.nn.ctr.cross:CrossMixture", "cross layers, a mixture of low ranks", "train"),
        "factorised": Entry("leanrec.nn.ctr.interactions:Factorised", "layers that multiply two linear maps", "train"),
        "gates": Entry("leanrec.nn.ctr.gates:Gates", "one learned gate a field, for selection", "train"),
        "attend": Entry("leanrec.nn.ctr.attend:Attend", "the history weighed by what is asked about", "train"),
        "experts": Entry("leanrec.nn.ctr.tasks:Experts", "experts mixed for each task by a gate of its own", "train"),
        "chain": Entry("leanrec.nn.ctr.tasks:Chain", "each task given that the one before came true", "train"),
    },
)
