"""Encoders as ONNX graphs, built from an engine's arrays without torch, by the kind of engine."""

from typing import Any

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.graphs.base import EncoderGraph, export_graph, graph_of

__all__ = ["GRAPHS", "EncoderGraph", "export_graph", "graph_of"]

GRAPHS: Registry[EncoderGraph[Any]] = Registry(
    "ONNX graph",
    {
        "transformer": Entry(
            "leanrec.runtime.graphs.transformer:TransformerGraph", "sasrec, esasrec, bert4rec", "onnx"
        ),
        "gru": Entry("leanrec.runtime.graphs.gru:GRUGraph", "gated recurrent units", "onnx"),
    },
)
