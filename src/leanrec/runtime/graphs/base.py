"""What graphs of encoders share: inputs, outputs, the item table in or out, and a builder of nodes.

A graph takes histories as item rows, padded at their end to one length, and gives what `Engine.encode` gives:

    rows     int64 (B, L)    item rows, oldest first; beyond a history's length any rows
    lengths  int64 (B,)      events of each history, 1 to L; L at most the model's window (the newest events count)
    query    float32 (B, D)  the query vector of each history

Without the item table, `vectors` float32 (B, L, D), the item vectors of the rows, comes in the place of `rows`. With it
and `k`, there are instead of the query `items` int64 (B, k) and `scores` float32 (B, k), best first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError, MissingExtra
from leanrec.runtime.base import Engine
from leanrec.runtime.dense import make_dense
from leanrec.runtime.engines.sequence import EncoderShape, SequenceEngine

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["EncoderGraph", "Nodes", "export_graph", "graph_of"]

OPSET, IR_VERSION = 17, 8
"""What ONNX Runtime 1.12 and OpenVINO 2023 and all later ones read."""
_EXTERNAL = 1 << 30
"""Bytes of arrays from which they stand in a file of their own: a graph file ends at 2 GiB."""

F32 = npt.NDArray[np.float32]
S = TypeVar("S", bound=EncoderShape)


class Nodes:
    """A graph under construction: `add` puts a node and names its output, `keep` an array."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._arrays = helper, numpy_helper
        self.nodes: list[Any] = []
        self.kept: list[Any] = []
        self._count = 0
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """One node with one output."""
        return self.several(kind, *inputs, outputs=1 if name is None else [name], **attributes)[0]

    def several(self, kind: str, *inputs: str, outputs: int | Sequence[str], **attributes: Any) -> list[str]:
        """One node; the names of its outputs."""
        if isinstance(outputs, int):
            self._count += 1
            outputs = [f"{kind.lower()}_{self._count}_{place}" for place in range(outputs)]
        self.nodes.append(self._helper.make_node(kind, list(inputs), list(outputs), **attributes))
        return list(outputs)

    def keep(self, name: str, array: npt.NDArray[Any]) -> str:
        """An array of the model, under its own name."""
        self.kept.append(self._arrays.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """A small array, kept once."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.keep(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def dense(self, x: str, tensors: Mapping[str, npt.NDArray[Any]], name: str, part: slice = slice(None)) -> str:
        """x W^T + b of a layer, whatever its kind, or of some of its outputs."""
        layer = make_dense(tensors, name)
        weight, bias = layer.weight()[part], layer.bias[part]
        mark = "" if part == slice(None) else f"_{part.start}_{part.stop}"
        product = self.add("MatMul", x, self.keep(f"{name}.weight{mark}", weight.T))
        return self.add("Add", product, self.keep(f"{name}.bias{mark}", bias))

    def norm(self, x: str, tensors: Mapping[str, npt.NDArray[Any]], name: str, epsilon: float) -> str:
        """Layer norm over the last axis."""
        parts = [self.keep(f"{name}.{part}", tensors[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.add("LayerNormalization", x, *parts, axis=-1, epsilon=epsilon)


class EncoderGraph(ABC, Generic[S]):
    """The graph of one kind of engine; subclasses add what lies between item vectors and query vector."""

    kind: ClassVar[str]

    def __init__(self, shape: S, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self.shape, self.tensors = shape, tensors

    @abstractmethod
    def encode(self, nodes: Nodes, vectors: str, lengths: str) -> str:
        """From item vectors (B, L, D) and lengths (B,) to the query (B, D): the name of the last output."""


def graph_of(
    engine: Engine, *, table: bool = True, k: int | None = None, exclude_seen: bool = False,
    never_N: npt.NDArray[np.bool_] | None = None, about: str = "",
) -> ModelProto:  # fmt: skip
    """An engine's ONNX model, as the head of this file says. InputError when its kind, or the configuration, has none.

    table: with the item table inside. k: answer with so many items. exclude_seen: never with those of the history;
    never_N: nor with those.
    """
    from leanrec.runtime.graphs import GRAPHS

    if engine.kind not in GRAPHS or not isinstance(engine, SequenceEngine):
        known = ", ".join(GRAPHS)
        raise InputError(
            f"an encoder of kind {engine.kind!r} cannot be written as an ONNX graph: that works for {known}"
        )
    if k is not None and not table:
        raise InputError("an answer of k items needs the item table in the graph: leave out one of the two")
    try:
        import onnx
        from onnx import TensorProto, helper
    except ModuleNotFoundError as error:
        raise MissingExtra("onnx", "onnx", "writing ONNX graphs") from error
    nodes, dim = Nodes(), engine.dim
    if table:
        items = nodes.keep("item_table", engine.items_ND)
        first = helper.make_tensor_value_info("rows", TensorProto.INT64, ["batch", "length"])
        vectors = nodes.add("Gather", items, "rows", axis=0)
    else:
        first = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", "length", dim])
        vectors = "vectors"
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"])
    query = GRAPHS[engine.kind](engine.shape, engine.tensors()).encode(nodes, vectors, "lengths")
    if k is None:
        nodes.add("Identity", query, name="query")
        outputs = [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", dim])]
    else:
        outputs = _answers(nodes, query, min(k, len(engine.items)), exclude_seen, never_N)
    graph = helper.make_graph(nodes.nodes, "leanrec", [first, lengths], outputs, nodes.kept, doc_string=about or None)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="leanrec")
    model.ir_version = IR_VERSION
    if sum(array.ByteSize() for array in nodes.kept) < _EXTERNAL:
        onnx.checker.check_model(model)
    return model


def _answers(nodes: Nodes, query: str, k: int, exclude_seen: bool, never_N: npt.NDArray[np.bool_] | None) -> list[Any]:
    from onnx import TensorProto, helper

    scores = nodes.add("MatMul", query, nodes.add("Transpose", "item_table", perm=[1, 0]))
    if never_N is not None and never_N.any():
        scores = nodes.add("Add", scores, nodes.keep("never", np.where(never_N, -np.inf, 0).astype(np.float32)))
    if exclude_seen:
        length = nodes.add("Gather", nodes.add("Shape", "rows"), nodes.constant(1), axis=0)
        place = nodes.add("Range", nodes.constant(0), length, nodes.constant(1))
        inside = nodes.add("Less", place, nodes.add("Unsqueeze", "lengths", nodes.constant([1])))
        oldest = nodes.add("Slice", "rows", nodes.constant([0]), nodes.constant([1]), nodes.constant([1]))
        seen = nodes.add("Where", inside, "rows", oldest)
        never = nodes.add("Expand", nodes.constant(-np.inf, np.float32), nodes.add("Shape", seen))
        scores = nodes.add("ScatterElements", scores, seen, never, axis=1)
    nodes.several("TopK", scores, nodes.constant([k]), outputs=["scores", "items"], axis=-1)
    return [
        helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", k]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", k]),
    ]


def export_graph(model: ModelProto, path: Path) -> None:
    """Write a model; arrays of a gigabyte and more stand beside it in FILE.data."""
    import onnx

    large = model.ByteSize() >= _EXTERNAL
    onnx.save_model(
        model, str(path), save_as_external_data=large, location=f"{path.name}.data" if large else None,
        all_tensors_to_one_file=True,
    )  # fmt: skip
