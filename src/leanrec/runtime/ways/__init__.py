"""Ways to carry out an encoder, by name; which one pays is measured on the machine at hand (`choose`)."""

from leanrec.core.registry import Entry, Registry
from leanrec.runtime.ways.base import DrivenEngine, Way, drive

__all__ = ["WAYS", "DrivenEngine", "Way", "drive"]

WAYS: Registry[Way] = Registry(
    "way to run an encoder",
    {
        "plain": Entry("leanrec.runtime.ways.own:PlainWay", "the engine itself: BLAS and loops between"),
        "packed": Entry("leanrec.runtime.ways.own:PackedWay", "one compiled call, float32"),
        "fixed": Entry("leanrec.runtime.ways.own:FixedWay", "one compiled call, products in int16 fixed point"),
        "onnxruntime": Entry("leanrec.runtime.ways.onnx_runtime:OnnxRuntimeWay", "ONNX Runtime, float32", "onnx"),
        "onnxruntime-int8": Entry(
            "leanrec.runtime.ways.onnx_runtime:OnnxRuntimeInt8Way", "ONNX Runtime, int8 weights, dynamic", "onnx"
        ),
        "openvino": Entry("leanrec.runtime.ways.open_vino:OpenVinoWay", "OpenVINO, float32", "openvino"),
        "openvino-bf16": Entry(
            "leanrec.runtime.ways.open_vino:OpenVinoBfloat16Way", "OpenVINO, bfloat16 where the processor has it",
            "openvino",
        ),
        "openvino-int8": Entry(
            "leanrec.runtime.ways.open_vino:OpenVinoInt8Way", "OpenVINO, of ONNX Runtime's int8 graph", "openvino"
        ),
        "torch": Entry("leanrec.runtime.ways.torch_eager:TorchWay", "torch, eager, to measure", "train"),
        "torch-compile": Entry("leanrec.runtime.ways.torch_eager:CompiledWay", "torch.compile, to measure", "train"),
        "aot-inductor": Entry("leanrec.runtime.ways.torch_eager:AotWay", "AOTInductor, to measure", "train"),
    },
)  # fmt: skip
