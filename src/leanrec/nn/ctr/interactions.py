"""Second-order interactions of fields."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["Dots", "Factorised", "Pairs"]


class Pairs(Block):
    """The sum over all pairs of fields of their inner product, in linear time (Rendle 2010, lemma 3.1)."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.output = (1,)

    def forward(self, *inputs: Tensor) -> Tensor:
        (fields_BFD,) = inputs
        return 0.5 * (fields_BFD.sum(1).square() - fields_BFD.square().sum(1)).sum(1, keepdim=True)


class Dots(Block):
    """Each pair's inner product as a value of its own (DLRM, Naumov et al. 2019)."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        ((fields, _),) = shapes
        self.output = (fields * (fields - 1) // 2,)
        first, second = torch.triu_indices(fields, fields, 1)
        self.register_buffer("_places", first * fields + second, persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        (fields_BFD,) = inputs
        assert isinstance(self._places, Tensor)
        return torch.bmm(fields_BFD, fields_BFD.transpose(1, 2)).flatten(1)[:, self._places]


class Factorised(Block):
    """h' = act(a + a * b) with a and b linear in h: each layer doubles the order (FINAL, Zhu et al. 2023)."""

    def __init__(self, shapes: Sequence[Shape], *, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        ((width,),) = shapes
        self.output = (widths[-1],)
        self.layers = nn.ModuleList(nn.Linear(i, 2 * o) for i, o in itertools.pairwise([width, *widths]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, *inputs: Tensor) -> Tensor:
        (hidden,) = inputs
        for layer in self.layers:
            one, other = layer(hidden).chunk(2, dim=1)
            hidden = self.dropout(torch.relu(one + one * other))
        return hidden
