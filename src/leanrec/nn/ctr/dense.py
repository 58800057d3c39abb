"""Sums, dense layers and what puts values together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["MLP", "Append", "Concat", "DenseLayer", "Sum"]


class Sum(Block):
    """All inputs of one shape added up, and a bias."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        assert len(set(shapes)) == 1, "only values of one shape can be added up"
        self.output = shapes[0]
        self.bias = nn.Parameter(torch.zeros(self.output))

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack(inputs).sum(0) + self.bias


class Concat(Block):
    """Inputs side by side, each made flat."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.output = (sum(math.prod(shape) for shape in shapes),)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat([value.flatten(1) for value in inputs], dim=1)


class Append(Block):
    """(F, D) fields and a vector (D,) as one more of them."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        (fields, dim), (other,) = shapes
        assert dim == other, "the vector is as wide as a field"
        self.output = (fields + 1, dim)

    def forward(self, *inputs: Tensor) -> Tensor:
        fields_BFD, vector_BD = inputs
        return torch.cat([fields_BFD, vector_BD[:, None]], dim=1)


class DenseLayer(Block):
    """x W^T + b."""

    def __init__(self, shapes: Sequence[Shape], *, out: int = 1) -> None:
        super().__init__()
        ((width,),) = shapes
        self.output = (out,)
        self.layer = nn.Linear(width, out)

    def forward(self, *inputs: Tensor) -> Tensor:
        layered: Tensor = self.layer(inputs[0])
        return layered


class MLP(Block):
    """Dense layers, each followed by ReLU and dropout; weights start as He et al. (2015) say."""

    def __init__(self, shapes: Sequence[Shape], *, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        ((width,),) = shapes
        self.output = (widths[-1],)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise([width, *widths]))
        self.dropout = nn.Dropout(dropout)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        (hidden,) = inputs
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return hidden
