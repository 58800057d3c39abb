"""Gated recurrent units over packed sequences (GRU4Rec, arXiv:1511.06939)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leanrec.nn.dropout import Dropout
from leanrec.nn.packing import Packed

__all__ = ["GRU"]


class GRU(nn.Module):
    """Item vectors of packed sequences in, one vector a slot out; a slot knows only its own past.

    Every sequence starts from zero. hidden: width of the recurrent state; `out` brings it back to D.
    """

    def __init__(self, *, dim: int, layers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, hidden, layers)
        self.out = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, items_RLD: Tensor, packed: Packed) -> Tensor:
        rows, length, dim = items_RLD.shape
        flat = self.dropout(items_RLD * dim**0.5).view(rows * length, dim)
        slots_T, sizes = _in_step(packed)
        run, _ = self.gru(PackedSequence(flat.index_select(0, slots_T), sizes))
        out_TD = self.norm(self.out(self.dropout(run.data)))
        out: Tensor = out_TD.new_zeros(rows * length, dim).index_copy(0, slots_T, out_TD)
        return out.view(rows, length, dim)


def _in_step(packed: Packed) -> tuple[Tensor, Tensor]:
    """Slots by position, sequences in the same order at each, longest first; and how many sequences reach a position.

    That is torch's layout of a PackedSequence, where all sequences advance together.
    """
    position, segment = packed.position_RL.reshape(-1), packed.segment_RL.reshape(-1)
    slot_T = (segment >= 0).nonzero().squeeze(1)
    first_T = slot_T - position[slot_T]
    length = torch.zeros_like(position).index_add_(0, first_T, torch.ones_like(first_T))
    order = (first_T - length[first_T] * len(position)).argsort(stable=True)  # longest first, then as they stand
    order = order[position[slot_T][order].argsort(stable=True)]
    return slot_T[order], torch.bincount(position[slot_T]).cpu()
