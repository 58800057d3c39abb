"""Two altered views of each sequence, and the loss that draws their vectors together (CL4SRec, arXiv:2010.14395)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError

__all__ = ["ContrastiveOptions", "contrast", "view"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class ContrastiveOptions(Config, frozen=True, kw_only=True):
    """How views are made and compared."""

    temperature: float = 0.2
    """Cosines of views are divided by it."""
    crop: float = 0.6
    """Share of a sequence that a crop keeps, in one piece."""
    mask: float = 0.3
    """Share of its events that masking hides."""
    reorder: float = 0.6
    """Share of a sequence, in one piece, that reordering shuffles."""

    def __post_init__(self) -> None:
        for name in ("crop", "mask", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"contrastive_options: {name}={getattr(self, name)} is not a share: use a number from 0 to 1"
                )
        if self.temperature <= 0:
            raise ConfigError(f"contrastive_options: temperature={self.temperature} is impossible: use one above 0")


def view(items_T: I32, size_W: I64, options: ContrastiveOptions, random: np.random.Generator) -> tuple[I32, I64]:
    """Each of W sequences, end to end in items_T, either cropped, masked (-1 stands for a hidden event) or reordered.

    Returns the items of the views end to end, and their sizes: at least one event each.
    """
    windows = len(size_W)
    how_W = random.integers(0, 3, windows)
    piece_W = np.where(how_W == 0, np.maximum(np.floor(size_W * options.crop), 1), np.floor(size_W * options.reorder))
    begin_W = np.floor(random.random(windows) * (size_W - piece_W + 1)).astype(np.int64)
    window_T = np.repeat(np.arange(windows), size_W)
    place_T = np.arange(len(items_T)) - np.repeat(np.cumsum(size_W) - size_W, size_W)
    inside_T = (place_T >= begin_W[window_T]) & (place_T < (begin_W + piece_W)[window_T])
    how_T, draw_T = how_W[window_T], random.random(len(items_T))
    # a shuffled event sorts by a place drawn anew within the piece, the others by their own
    drawn_T = begin_W[window_T] + draw_T * piece_W[window_T]
    order_T = np.lexsort((np.where((how_T == 2) & inside_T, drawn_T, place_T), window_T))
    hidden_T = (how_T == 1) & (draw_T < options.mask)
    kept_T = (how_T != 0) | inside_T
    moved_T = np.where(hidden_T, np.int32(-1), items_T)[order_T]
    return moved_T[kept_T].astype(np.int32), np.bincount(window_T[kept_T], minlength=windows)


def contrast(vectors_VD: Tensor, temperature: float) -> Tensor:
    """InfoNCE over 2 W views: row w and row W + w are views of one sequence, all the other rows are its negatives."""
    unit_VD = F.normalize(vectors_VD.float(), dim=1)
    scores_VV = (unit_VD @ unit_VD.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores_VV, torch.arange(len(unit_VD), device=unit_VD.device).roll(len(unit_VD) // 2))
