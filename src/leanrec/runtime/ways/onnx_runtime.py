"""ONNX Runtime over the graph of an engine, in float32 or with int8 weights and activations quantised as they come."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnxruntime

from leanrec.core.jagged import Jagged
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.graphs import graph_of
from leanrec.runtime.ways.base import Way, padded_groups, vectors_at

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxRuntimeInt8Way", "OnnxRuntimeWay", "quantised"]

F32 = npt.NDArray[np.float32]


class OnnxRuntimeWay(Way):
    """The item table stays outside: vectors go in."""

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, engine: SequenceEngine[Any], threads: int) -> None:
        super().__init__(engine, threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            self.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def model(self) -> ModelProto:
        """The graph that runs."""
        return graph_of(self.engine, table=False)

    def encode(self, histories: Jagged) -> F32:
        result = np.empty((len(histories), self.engine.dim), np.float32)
        for places, rows, lengths in padded_groups(histories):
            inputs = {"vectors": vectors_at(self.engine, rows), "lengths": lengths}
            result[places] = self._session.run(["query"], inputs)[0]
        return result


class OnnxRuntimeInt8Way(OnnxRuntimeWay):
    """Weights by output in int8, activations in uint8 by matrix, so by what else is in the batch: to measure."""

    name: ClassVar[str] = "onnxruntime-int8"
    serves: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def model(self) -> ModelProto:
        return quantised(super().model())


def quantised(model: ModelProto) -> ModelProto:
    """The graph with dynamically quantised products."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save_model(model, str(before))
        quantize_dynamic(before, after, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
        return onnx.load_model(str(after))
