"""OpenVINO over the graph of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import openvino

from leanrec.core.errors import MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.machine import cpu_flags
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.graphs import graph_of
from leanrec.runtime.ways.base import Way, padded_groups, vectors_at

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OpenVinoBfloat16Way", "OpenVinoInt8Way", "OpenVinoWay"]

F32 = npt.NDArray[np.float32]


class OpenVinoWay(Way):
    """The item table stays outside: vectors go in."""

    name: ClassVar[str] = "openvino"
    precision: ClassVar[str] = "f32"

    def __init__(self, engine: SequenceEngine[Any], threads: int) -> None:
        super().__init__(engine, threads)
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": self.precision,
            "NUM_STREAMS": 1,
        }  # fmt: skip
        model = core.read_model(self.model().SerializeToString())
        self._compiled = core.compile_model(model, "CPU", settings)

    def model(self) -> ModelProto:
        """The graph that runs."""
        return graph_of(self.engine, table=False)

    def encode(self, histories: Jagged) -> F32:
        result = np.empty((len(histories), self.engine.dim), np.float32)
        request = self._compiled.create_infer_request()
        for places, rows, lengths in padded_groups(histories):
            found = request.infer({"vectors": vectors_at(self.engine, rows), "lengths": lengths})
            result[places] = next(iter(found.values()))
        return result


class OpenVinoBfloat16Way(OpenVinoWay):
    """To measure: answers would depend on the processor. MachineError where it has no bfloat16 instructions."""

    name: ClassVar[str] = "openvino-bf16"
    precision: ClassVar[str] = "bf16"
    serves: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def __init__(self, engine: SequenceEngine[Any], threads: int) -> None:
        if not cpu_flags() & {"avx512_bf16", "amx_bf16"}:
            raise MachineError("this processor has no bfloat16 instructions: openvino-bf16 would only be slower")
        super().__init__(engine, threads)


class OpenVinoInt8Way(OpenVinoWay):
    """The graph that ONNX Runtime's tools quantise: to measure, as that one is."""

    name: ClassVar[str] = "openvino-int8"
    serves: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def model(self) -> ModelProto:
        from leanrec.runtime.ways.onnx_runtime import quantised

        return quantised(super().model())
