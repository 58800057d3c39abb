"""The contract of texts in item vectors: what a row of the item table becomes, given what the item is called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leanrec.core.config import Config
from leanrec.nn.text.encoder import Pooling
from leanrec.nn.text.loading import DEFAULT_ENCODER

__all__ = ["Catalogue", "ItemText", "Projection", "TextOptions"]

Rows = npt.NDArray[np.int32]


class TextOptions(Config, frozen=True, kw_only=True):
    """What every way of using texts can be told."""

    encoder: str = DEFAULT_ENCODER
    """A folder, a hub name, or one that comes as a package: all-minilm-l6-v2."""
    template: str | None = None
    """An item's text, with columns in braces; None takes title, categories, description and the like as they are."""
    pooling: Pooling | None = None
    """`mean` or `cls`; as the encoder's folder says."""
    max_tokens: int | None = None
    """Longer texts are cut; as the encoder's folder says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The items: their texts, and how often each stands in the events that are learned from."""

    texts: list[str]
    counts_N: npt.NDArray[np.int64]


class ItemText(nn.Module, ABC):
    """From rows of the item table (the leaf) to the vectors that the network reads and scores against.

    An item without events has no id of its own that could be trusted: its vector comes from its text alone, in training
    as in what is served.
    """

    Options: ClassVar[type[TextOptions]] = TextOptions
    slow_rate: float = 1.0
    """Of `slow` parameters: what their learning rate is of the others'."""

    @abstractmethod
    def __init__(self, config: Any, catalogue: Catalogue, dim: int) -> None:
        """For item vectors of `dim` dimensions."""
        super().__init__()

    @abstractmethod
    def forward(self, leaf_UD: Tensor, rows_U: Tensor, step: int) -> Tensor:
        """(U, D) vectors. rows_U: int64 numbers of the leaf's rows. step: steps taken so far."""

    @abstractmethod
    def penalty(self, leaf_UD: Tensor, rows_U: Tensor) -> Tensor | None:
        """What the loss has beyond the objective's, or None."""

    @abstractmethod
    def slow(self) -> list[nn.Parameter]:
        """Parameters that learn at `slow_rate`."""


class Projection(nn.Linear):
    """Fixed text vectors to D dimensions: standardised over the catalogue, then a linear map.

    Vectors of a language model share a large common part and differ in a few directions, so that without the first step
    all items look alike (WhitenRec, arXiv:2402.10602). What comes out is as long as a fresh row of an item table. All
    items move at every step, so inputs are short (`_REACH`): it bounds how far one step of Adam moves them.
    """

    mean_E: Tensor
    scale: Tensor

    def __init__(self, vectors_NE: npt.NDArray[np.float32], dim: int) -> None:
        super().__init__(vectors_NE.shape[1], dim)
        mean_E = vectors_NE.mean(axis=0)
        length = float(np.sqrt(np.square(vectors_NE - mean_E).sum(axis=1).mean())) or 1.0
        self.register_buffer("mean_E", torch.from_numpy(mean_E))
        self.register_buffer("scale", torch.tensor([_REACH / length]))
        nn.init.normal_(self.weight, std=dim**-0.5 / _REACH)
        nn.init.zeros_(self.bias)

    def forward(self, vectors_UE: Tensor) -> Tensor:
        """(U, D)."""
        return super().forward((vectors_UE - self.mean_E) * self.scale)


_REACH = 0.2
