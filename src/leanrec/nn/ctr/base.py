"""The contract of a block of a click network."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Block", "Shape"]

Shape = tuple[int, ...]
"""Of one row: the batch left out. A history's length is 0 here, for it differs."""


class Block(nn.Module):
    """An operation of a plan. Its parameters are all that `runtime.engines.ctr` needs to do the same without torch.

    output: the shape of what it gives for one row.
    """

    masked: ClassVar[bool] = False
    """Whether `forward` gets the (B, L) mask of the history as its last argument."""
    output: Shape

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, *shape) each, as the plan names them, to (B, *output)."""
