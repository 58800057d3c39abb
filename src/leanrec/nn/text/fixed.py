"""Ways of using the vectors of a language model that stands still: texts alone, mixed with ids, or to guide them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.config import to_dict
from leanrec.nn.text.base import Catalogue, ItemText, Projection, TextOptions
from leanrec.nn.text.cache import VectorCache
from leanrec.nn.text.encoder import TextEncoder
from leanrec.nn.text.loading import encoder_folder, fingerprint

__all__ = ["AlignedText", "GatedText", "TextAlone", "text_vectors"]

F32 = npt.NDArray[np.float32]


def text_vectors(texts: Sequence[str], config: TextOptions) -> F32:
    """(N, E) vectors of texts, from the cache where they are known; the model is loaded only if one is missing."""
    folder = encoder_folder(config.encoder)
    said = {key: value for key, value in to_dict(config).items() if key in ("pooling", "max_tokens")}
    digest = fingerprint(folder, f"{sorted(said.items())}")
    return VectorCache(digest).vectors(texts, partial(_encode, folder=str(folder), config=config))


def _encode(texts: Sequence[str], *, folder: str, config: TextOptions) -> F32:
    encoder = TextEncoder(folder, pooling=config.pooling, max_tokens=config.max_tokens)
    return encoder.vectors(texts, progress="encoding texts")


class _Fixed(ItemText):
    """Vectors of all items' texts, encoded once, and a projection that learns."""

    vectors_NE: Tensor
    seen_N: Tensor

    def __init__(self, config: TextOptions, catalogue: Catalogue, dim: int) -> None:
        super().__init__(config, catalogue, dim)
        vectors_NE = text_vectors(catalogue.texts, config)
        self.register_buffer("vectors_NE", torch.from_numpy(vectors_NE), persistent=False)
        self.register_buffer("seen_N", torch.from_numpy(catalogue.counts_N > 0), persistent=False)
        self.projection = Projection(vectors_NE, dim)

    def texts(self, rows_U: Tensor) -> Tensor:
        """(U, D) projected text vectors."""
        projected: Tensor = self.projection(self.vectors_NE.index_select(0, rows_U))
        return projected

    def slow(self) -> list[nn.Parameter]:
        return []


class TextAlone(_Fixed):
    """An item is its text: the table adds nothing (its rows are zeros, `table=none`)."""

    def forward(self, leaf_UD: Tensor, rows_U: Tensor, step: int) -> Tensor:
        del step
        return leaf_UD + self.texts(rows_U)

    def penalty(self, leaf_UD: Tensor, rows_U: Tensor) -> None:
        return None


class GateOptions(TextOptions, frozen=True, kw_only=True):
    """Settings of the gate."""

    id_dropout: float = 0.02
    """Share of the items of a step that have to do without their id, so that texts learn to stand alone."""


class GatedText(_Fixed):
    """g x id + (1 - g) x text: g is learned from the text and from how many events the item has, 0 without any.

    Ids are dropped by chance in training as DropoutNet does (Volkovs et al., NeurIPS 2017).
    """

    Options = GateOptions
    log_counts_N: Tensor

    def __init__(self, config: GateOptions, catalogue: Catalogue, dim: int) -> None:
        super().__init__(config, catalogue, dim)
        self._dropout = config.id_dropout
        counts_N = np.log1p(catalogue.counts_N).astype(np.float32)
        self.register_buffer("log_counts_N", torch.from_numpy(counts_N), persistent=False)
        self.gate = nn.Linear(dim + 1, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, leaf_UD: Tensor, rows_U: Tensor, step: int) -> Tensor:
        del step
        texts_UD = self.texts(rows_U)
        asked_UD = torch.cat([texts_UD, self.log_counts_N.index_select(0, rows_U)[:, None]], dim=1)
        gate_U = torch.sigmoid(self.gate(asked_UD)) * self.seen_N.index_select(0, rows_U)[:, None]
        if self.training and self._dropout:
            gate_U = gate_U * (torch.rand_like(gate_U) >= self._dropout)
        return gate_U * leaf_UD + (1 - gate_U) * texts_UD

    def penalty(self, leaf_UD: Tensor, rows_U: Tensor) -> None:
        return None


class AlignOptions(TextOptions, frozen=True, kw_only=True):
    """Settings of the alignment."""

    weight: float = 0.1
    """What the alignment counts for beside the objective."""
    temperature: float = 0.2


class AlignedText(_Fixed):
    """An item with events is its id; a loss pulls ids towards their texts, and those without events are their text.

    The loss is InfoNCE both ways between the ids and the texts of a step's items, as CLIP's (arXiv:2103.00020).
    """

    Options = AlignOptions

    def __init__(self, config: AlignOptions, catalogue: Catalogue, dim: int) -> None:
        super().__init__(config, catalogue, dim)
        self._weight, self._temperature = config.weight, config.temperature

    def forward(self, leaf_UD: Tensor, rows_U: Tensor, step: int) -> Tensor:
        del step
        seen_U = self.seen_N.index_select(0, rows_U)[:, None]
        return torch.where(seen_U, leaf_UD, self.texts(rows_U))

    def penalty(self, leaf_UD: Tensor, rows_U: Tensor) -> Tensor:
        seen = torch.nonzero(self.seen_N.index_select(0, rows_U))[:, 0]
        ids, texts = leaf_UD.index_select(0, seen), self.texts(rows_U.index_select(0, seen))
        near = F.normalize(ids, dim=1) @ F.normalize(texts, dim=1).T / self._temperature
        own = torch.arange(len(near))
        both: Any = F.cross_entropy(near, own) + F.cross_entropy(near.T, own)
        length = (ids.norm(dim=1) - texts.norm(dim=1)).square().mean()  # scores compare lengths too
        loss: Tensor = self._weight * (both / 2 + length)
        return loss
