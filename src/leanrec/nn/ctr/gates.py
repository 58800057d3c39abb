"""A gate for each field: what selection by training looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["Gates"]


class Gates(Block):
    """Each field times its gate, which starts open at 1; an L1 penalty on them (`gate_l1`) closes the idle ones."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        ((fields, dim),) = shapes
        self.output = (fields, dim)
        self.gate = nn.Parameter(torch.ones(fields))

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.gate[:, None]
