"""torch, to measure against: the network as it was trained, eager, compiled, or ahead of time. It never serves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leanrec.core.jagged import Jagged
from leanrec.nn.blocks import Transformer
from leanrec.nn.packing import Packed
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.engines.transformer import TransformerShape
from leanrec.runtime.ways.base import Way, padded_groups, refuse_kind

__all__ = ["AotWay", "CompiledWay", "Encoder", "TorchWay"]

F32 = npt.NDArray[np.float32]


class Encoder(nn.Module):
    """Item vectors (B, L, D), padded behind, and lengths (B,) to query vectors (B, D), with torch's own attention."""

    def __init__(self, shape: TransformerShape, tensors: dict[str, npt.NDArray[Any]]) -> None:
        super().__init__()
        hidden = tensors["blocks.0.down.weight"].shape[-1] if shape.layers else 1
        self.net = Transformer(
            block=shape.block, dim=shape.dim, layers=shape.layers, heads=shape.heads, hidden=hidden,
            max_length=shape.max_length, dropout=0.0, positions=shape.positions,
        )  # fmt: skip
        self.net.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in tensors.items()})
        self.eval()

    def forward(self, vectors_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        rows, length = vectors_BLD.shape[:2]
        position_RL = torch.arange(length).expand(rows, length)
        packed = Packed(torch.zeros_like(position_RL), position_RL, uniform=True)
        hidden: Tensor = self.net(vectors_BLD, packed)
        return hidden[torch.arange(rows), lengths_B - 1]


class TorchWay(Way):
    """Eager, in inference mode. Sets the threads of the whole process."""

    name: ClassVar[str] = "torch"
    serves: ClassVar[bool] = False

    def __init__(self, engine: SequenceEngine[Any], threads: int) -> None:
        super().__init__(engine, threads)
        refuse_kind(engine, self.name, ("transformer",))
        if engine.shape.bidirectional:
            raise ValueError("a network that looks both ways is not measured in torch")
        torch.set_num_threads(threads)
        self._items = torch.tensor(np.asarray(engine.items_ND))
        with torch.inference_mode():
            self._run = self.ready(Encoder(engine.shape, engine.tensors()))

    def ready(self, encoder: Encoder) -> Any:
        """What is called with vectors and lengths."""
        return encoder

    def encode(self, histories: Jagged) -> F32:
        result = np.empty((len(histories), self.engine.dim), np.float32)
        with torch.inference_mode():
            for places, rows, lengths in padded_groups(histories):
                vectors = torch.nn.functional.embedding(torch.from_numpy(rows), self._items)
                result[places] = self._run(vectors, torch.from_numpy(lengths)).numpy()
        return result


class CompiledWay(TorchWay):
    """torch.compile; the first call compiles."""

    name: ClassVar[str] = "torch-compile"

    def ready(self, encoder: Encoder) -> Any:
        return torch.compile(encoder, dynamic=True)


class AotWay(TorchWay):
    """Exported and compiled by AOTInductor; it needs a C++ compiler."""

    name: ClassVar[str] = "aot-inductor"

    def ready(self, encoder: Encoder) -> Any:
        shape = self.engine.shape
        batch = torch.export.Dim("batch", min=1, max=4096)
        length = torch.export.Dim("length", min=1, max=shape.max_length)
        example = torch.zeros(2, min(3, shape.max_length), shape.dim), torch.ones(2, dtype=torch.int64)
        dynamic = {"vectors_BLD": {0: batch, 1: length}, "lengths_B": {0: batch}}
        program = torch.export.export(encoder, example, dynamic_shapes=dynamic)
        with tempfile.TemporaryDirectory() as folder:
            made = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "encoder.pt2"))
            return torch._inductor.aoti_load_package(made)
