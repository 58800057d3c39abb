"""Sequences of different lengths packed into rows without padding waste; attention sees only its own sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packed"]


@dataclass(frozen=True, slots=True)
class Packed:
    """R rows of L slots that hold several sequences each, end to end.

    segment_RL: which sequence of its row a slot belongs to, -1 where the slot is empty. position_RL: place in its own
    sequence, from 0. Both int64. When every row holds exactly one full sequence, `uniform` is True. times_RL: float64
    Unix seconds of the slots' events, where the data has times and the network asks for them.
    """

    segment_RL: Tensor
    position_RL: Tensor
    uniform: bool = False
    times_RL: Tensor | None = None

    def attention_mask(self, *, causal: bool = True) -> Tensor | None:
        """(R, 1, L, L) bool, True where a query slot may look at a key slot; None when the plain mask does (causal: the
        lower triangle; not causal: everything).
        """
        if self.uniform:
            return None
        length = self.segment_RL.shape[1]
        same = self.segment_RL[:, :, None] == self.segment_RL[:, None, :]
        if causal:
            same &= torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
        return same[:, None]
