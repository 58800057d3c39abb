"""Convolutions over the last few items (Caser, Tang & Wang, WSDM 2018, arXiv:1809.07426)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.nn.dropout import Dropout
from leanrec.nn.packing import Packed

__all__ = ["Caser"]


class Caser(nn.Module):
    """Item vectors of packed sequences in, one vector a slot out, made of the last `window` items of its sequence.

    Horizontal filters of every height 1 .. window slide over those items and keep their largest answer; vertical
    filters weigh them by age. Before the first item stand zeros. Unlike the paper's, it has no vector a user, so that
    any history is answered.
    """

    def __init__(self, *, dim: int, window: int, filters: int, vertical: int, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.horizontal = nn.ModuleList(nn.Linear(height * dim, filters) for height in range(1, window + 1))
        self.vertical = nn.Linear(window, vertical)
        self.hidden = nn.Linear(window * filters + vertical * dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, items_RLD: Tensor, packed: Packed) -> Tensor:
        dim = items_RLD.shape[-1]
        seen_RLWD = self._windows(items_RLD * dim**0.5, packed, items_RLD.new_zeros(dim))
        parts = [self.vertical(seen_RLWD.transpose(2, 3)).flatten(2)]
        for height, layer in enumerate(self.horizontal, 1):
            assert isinstance(layer, nn.Linear)
            answer_RLF = F.relu(layer(seen_RLWD[:, :, self.window - height :].flatten(2)))
            # the filter's answers at the slots where it ends inside the window; before the first item it saw zeros
            slid = self._windows(answer_RLF, packed, F.relu(layer.bias).to(answer_RLF.dtype))
            parts.append(slid[:, :, height - 1 :].amax(2))
        hidden = F.relu(self.hidden(self.dropout(torch.cat(parts, dim=-1))))
        return self.norm(self.out(self.dropout(hidden)))  # type: ignore[no-any-return]

    def _windows(self, x_RLE: Tensor, packed: Packed, before_E: Tensor) -> Tensor:
        """(R, L, W, E) the last W values of each slot's own sequence, oldest first; `before` where it had not begun."""
        age = torch.arange(self.window - 1, -1, -1, device=x_RLE.device)
        begun = (packed.position_RL[:, :, None] >= age)[..., None]
        padded = F.pad(x_RLE, (0, 0, self.window - 1, 0))
        return torch.where(begun, padded.unfold(1, self.window, 1).transpose(2, 3), before_E)
