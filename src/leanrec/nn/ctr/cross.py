"""Deep & cross network, version 2 (Wang et al. 2021): x' = x0 * (W x + b) + x."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["Cross", "CrossMixture"]


class Cross(Block):
    """Equation 1, full matrices."""

    def __init__(self, shapes: Sequence[Shape], *, layers: int) -> None:
        super().__init__()
        ((width,),) = shapes
        self.output = (width,)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, *inputs: Tensor) -> Tensor:
        (start,) = inputs
        crossed = start
        for layer in self.layers:
            crossed = start * layer(crossed) + crossed
        return crossed


class CrossMixture(Block):
    """Equations 3 and 4: `experts` maps of low rank, each through a smaller space with tanh, mixed by a gate."""

    def __init__(self, shapes: Sequence[Shape], *, layers: int, experts: int, rank: int) -> None:
        super().__init__()
        ((width,),) = shapes
        self.output = (width,)
        self.down = _weights(layers, experts, rank, width)
        self.core = _weights(layers, experts, rank, rank)
        self.up = _weights(layers, experts, width, rank)
        self.bias = nn.Parameter(torch.zeros(layers, width))
        self.gate = nn.Parameter(torch.zeros(layers, experts, width))

    def forward(self, *inputs: Tensor) -> Tensor:
        (start,) = inputs
        crossed = start
        for down, core, up, bias, gate in zip(self.down, self.core, self.up, self.bias, self.gate, strict=True):
            small = torch.tanh(torch.einsum("bx,erx->ber", crossed, down))
            small = torch.tanh(torch.einsum("ber,eqr->beq", small, core))
            mixed = torch.softmax(crossed @ gate.T, dim=1)[:, :, None] * small
            # The bias and the product with x0 are the same for every expert, and the gate sums to one.
            crossed = start * (torch.einsum("beq,exq->bx", mixed, up) + bias) + crossed
        return crossed


def _weights(layers: int, experts: int, out: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(layers, experts, out, width) * (2 / (out + width)) ** 0.5)
