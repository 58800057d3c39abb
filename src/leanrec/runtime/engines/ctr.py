"""Click networks in NumPy: the steps of a plan over stored weights (nn/ctr is the same in torch).

Every step works row by row and in the same order for each, so that an item's score does not depend on which items
share its block: the scorer always asks for blocks of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.features.batch import LONGEST_HISTORY, FeatureBatch, Layout
from leanrec.features.stacked import Stacked, blank, padded
from leanrec.kernels.row_products import row_products

__all__ = ["OPS", "PlanEngine"]

F32 = npt.NDArray[np.float32]
Weights = Mapping[str, F32]
Op = Callable[[Sequence[F32], Weights, Mapping[str, Any]], F32]


class PlanEngine:
    """Feature rows to logits. table: (R, D + 1) a row for each value of each field, the last column for `first`.

    plan: steps as plain values, see nn.ctr.plan. weights: `step.parameter` -> array. history: events of it that count.
    """

    kind: ClassVar[str] = "plan"

    def __init__(
        self, plan: Sequence[Mapping[str, Any]], layout: Layout, table_RE: F32, weights: Weights, *, history: int
    ) -> None:
        self.plan, self.layout, self.table_RE, self.weights, self.history = plan, layout, table_RE, weights, history
        self.stacked = Stacked.of(layout)
        self._of_step = {
            step["name"]: {
                name.partition(".")[2]: array
                for name, array in weights.items()
                if name.partition(".")[0] == step["name"]
            }
            for step in plan
        }
        self._wanted = {name for step in plan for name in step["inputs"]}

    def raw(self, batch: FeatureBatch) -> F32:
        """(B, tasks) logits."""
        values = self._embedded(batch)
        for step in self.plan:
            inputs = [values[name] for name in step["inputs"]]
            if step["op"] == "attend":
                inputs.append(values["mask"])
            values[step["name"]] = OPS[step["op"]](inputs, self._of_step[step["name"]], step["options"])
        return values[self.plan[-1]["name"]]

    def _embedded(self, batch: FeatureBatch) -> dict[str, F32]:
        table, stacked = self.table_RE, self.stacked
        parts = [table[batch.categories_BF + stacked.categories_C]]
        parts += [
            _mean(table, one.values + start, one.offsets)[:, None]
            for start, one in zip(stacked.lists, batch.lists, strict=True)
        ]
        if len(stacked.numbers_M):
            parts.append(batch.numbers_BF[:, :, None] * table[stacked.numbers_M])
        fields_BFE = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        fields = np.ascontiguousarray(fields_BFE[:, :, :-1])
        values = {
            "fields": fields, "flat": fields.reshape(len(fields), -1), "numbers": batch.numbers_BF,
            "first": fields_BFE[:, :, -1].sum(axis=1, keepdims=True),
        }  # fmt: skip
        if "history" in self._wanted:
            assert batch.history is not None
            codes_BL, mask_BL = padded(batch.history, self.history)
            values["target"] = np.ascontiguousarray(fields[:, stacked.target])
            values["history"] = table[codes_BL + stacked.history][:, :, :-1]
            values["mask"] = mask_BL.astype(np.float32)
        return values

    def config(self) -> dict[str, Any]:
        """Plain values; with `tensors` and the layout, all that `load` needs."""
        return {"plan": [dict(step) for step in self.plan], "history": self.history}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The table of fields and the weights of the steps."""
        return {"table": self.table_RE, **self.weights}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], layout: Layout) -> Self:
        """A BundleError where the arrays are not those of the plan: one empty row is answered to see that they fit."""
        try:
            plan, history = config["plan"], config["history"]
            table = tensors["table"]
            weights = {name: array for name, array in tensors.items() if name != "table"}
            if any(array.dtype != np.float32 for array in tensors.values()):
                raise ValueError("arrays of other types")
            if table.ndim != 2 or len(table) != Stacked.of(layout).total or not 0 <= history <= LONGEST_HISTORY:
                raise ValueError("the table of fields has other rows than the features have values")
            engine = cls(plan, layout, table, weights, history=history)
            engine.raw(blank(layout, 1))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise BundleError(f"the network does not fit its arrays ({error}): write the bundle again") from error
        return engine


def _mean(table_RE: F32, rows_T: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> F32:
    """(B, E) the mean of each row's table rows, 0 where there are none."""
    lengths = np.diff(offsets)
    out_BE = np.zeros((len(lengths), table_RE.shape[1]), np.float32)
    held = np.flatnonzero(lengths)
    if len(held):
        out_BE[held] = np.add.reduceat(table_RE[rows_T], offsets[held], axis=0)
        out_BE[held] /= lengths[held, None]
    return out_BE


def _relu(x: F32) -> F32:
    return np.maximum(x, 0, out=x)


def _softmax(x: F32) -> F32:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: F32 = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _layers(weights: Weights) -> list[tuple[F32, F32]]:
    count = sum(name.endswith(".weight") for name in weights)
    return [(weights[f"layers.{n}.weight"], weights[f"layers.{n}.bias"]) for n in range(count)]


def _sum(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    total = inputs[0] + weights["bias"]
    for value in inputs[1:]:
        total += value
    return total


def _concat(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    return np.concatenate([value.reshape(len(value), -1) for value in inputs], axis=1)


def _append(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    return np.concatenate([inputs[0], inputs[1][:, None]], axis=1)


def _dense(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    return np.asarray(row_products(inputs[0], weights["layer.weight"]) + weights["layer.bias"])


def _mlp(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    hidden = inputs[0]
    for weight, bias in _layers(weights):
        hidden = _relu(row_products(hidden, weight) + bias)
    return hidden


def _pairs(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    squared = np.square(inputs[0].sum(axis=1)) - np.square(inputs[0]).sum(axis=1)
    return np.asarray(np.float32(0.5) * squared.sum(axis=1, keepdims=True))


def _dots(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    first, second = np.triu_indices(inputs[0].shape[1], 1)
    return np.asarray(np.matmul(inputs[0], inputs[0].transpose(0, 2, 1))[:, first, second])


def _factorised(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    hidden = inputs[0]
    for weight, bias in _layers(weights):
        both = row_products(hidden, weight) + bias
        half = both.shape[1] // 2
        hidden = _relu(both[:, :half] * (1 + both[:, half:]))
    return hidden


def _cross(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    start = crossed = inputs[0]
    for weight, bias in _layers(weights):
        crossed = start * (row_products(crossed, weight) + bias) + crossed
    return crossed


def _cross_mixture(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    start = crossed = inputs[0]
    for down, core, up, bias, gate in zip(*(weights[k] for k in ("down", "core", "up", "bias", "gate")), strict=True):
        experts, rank, width = down.shape
        small = np.tanh(row_products(crossed, down.reshape(-1, width)).reshape(-1, experts, rank))
        small = np.tanh(np.matmul(small[:, :, None], core.transpose(0, 2, 1))[:, :, 0])
        mixed = (_softmax(row_products(crossed, gate))[:, :, None] * small).reshape(-1, experts * rank)
        crossed = start * (row_products(mixed, up.transpose(1, 0, 2).reshape(width, -1)) + bias) + crossed
    return crossed


def _gates(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    return np.asarray(inputs[0] * weights["gate"][:, None])


def _attend(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    """The layer over (q, h, q - h, q * h) multiplied out, so that nothing four times as wide is made."""
    target_BD, history_BLD, mask_BL = inputs
    own, other, apart, both = np.split(weights["hidden.weight"], 4, axis=1)
    asked_BH = row_products(target_BD, own + apart) + weights["hidden.bias"]
    hidden_BLH = row_products(history_BLD, other - apart)
    hidden_BLH += row_products(target_BD[:, None] * history_BLD, both)
    hidden_BLH += asked_BH[:, None]
    weight_BL = (_relu(hidden_BLH) @ weights["weight.weight"][0] + weights["weight.bias"]) * mask_BL
    return np.asarray(np.matmul(weight_BL[:, None], history_BLD)[:, 0])


def _experts(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    experts, tasks, rows = options["experts"], options["tasks"], len(inputs[0])
    found_BEH = _relu(row_products(inputs[0], weights["expert.weight"]) + weights["expert.bias"]).reshape(
        rows, experts, -1
    )
    gate_BTE = _softmax(
        (row_products(inputs[0], weights["gate.weight"]) + weights["gate.bias"]).reshape(rows, tasks, experts)
    )
    mixed_BTH = np.matmul(gate_BTE, found_BEH)
    return np.asarray((mixed_BTH * weights["tower.weight"]).sum(axis=2) + weights["tower.bias"])


def _chain(inputs: Sequence[F32], weights: Weights, options: Mapping[str, Any]) -> F32:
    log_p = np.minimum(np.cumsum(-np.logaddexp(0, -inputs[0]), axis=1), np.float32(-1e-6))
    return np.asarray(log_p - np.log(-np.expm1(log_p)))


OPS: Mapping[str, Op] = {
    "sum": _sum, "concat": _concat, "append": _append, "dense": _dense, "mlp": _mlp, "pairs": _pairs, "dots": _dots,
    "factorised": _factorised, "cross": _cross, "cross-mixture": _cross_mixture, "gates": _gates, "attend": _attend,
    "experts": _experts, "chain": _chain,
}  # fmt: skip
"""What each step of a plan does, by name: the same names as in nn.ctr.BLOCKS."""
