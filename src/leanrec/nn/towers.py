"""Two towers: items from their ids and attributes, users from what they had and their attributes, into one space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.features.base import Encoded

__all__ = ["Fields", "Towers"]


class Fields(nn.Module):
    """The attributes of M users or items as (M, D): embeddings of categories, means over lists, numbers times a matrix,
    added up.

    fields: a row each. sizes, list_sizes: codes of each category and list field, 0 (unknown) included.
    """

    def __init__(self, fields: Encoded, sizes: Sequence[int], list_sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        starts = np.cumsum([0, *sizes, *list_sizes])
        self.table = nn.Parameter(torch.randn(int(starts[-1]), dim) * dim**-0.5)
        self.numbers = nn.Parameter(torch.randn(fields.numbers_BF.shape[1], dim) * dim**-0.5)
        self._categories = torch.from_numpy(fields.categories_BF.astype(np.int64) + starts[: len(sizes)])
        self._numbers = torch.from_numpy(fields.numbers_BF)
        self._lists = [(one, int(start)) for one, start in zip(fields.lists, starts[len(sizes) :], strict=False)]

    def forward(self, rows_B: Tensor) -> Tensor:
        """(B, D) of the rows."""
        total: Tensor = self._numbers[rows_B] @ self.numbers
        if self._categories.shape[1]:
            total = total + F.embedding(self._categories[rows_B], self.table).sum(1)
        for lists, start in self._lists:
            some = lists.take(rows_B.numpy())
            codes_T = torch.from_numpy(some.values.astype(np.int64) + start)
            starts_B = torch.from_numpy(some.offsets[:-1])
            total = total + F.embedding_bag(codes_T, self.table, starts_B, mode="mean")
        return total


class _Tower(nn.Module):
    """x + W2 relu(W1 x + b1) + b2."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x_BD: Tensor) -> Tensor:
        raised: Tensor = x_BD + self.outer(self.dropout(torch.relu(self.inner(x_BD))))
        return raised


class Towers(nn.Module):
    """items, users: the fields of all of them, or None where nothing is known of them beside their ids.

    pooling: `mean` of the history's item vectors, or `attention`: weights from each vector and from how many events ago
    it was, of at most `window`.
    """

    def __init__(
        self, dim: int, hidden: int, dropout: float, *, pooling: str, window: int, items: Fields | None,
        users: Fields | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.item_fields, self.user_fields = items, users
        self.item_tower, self.user_tower = _Tower(dim, hidden, dropout), _Tower(dim, hidden, dropout)
        self.dropout = nn.Dropout(dropout)
        self.pooling = pooling
        if pooling == "attention":
            self.look, self.weigh = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)
            self.ago_L = nn.Parameter(torch.zeros(window))

    def items(self, ids_UD: Tensor, rows_U: Tensor) -> Tensor:
        """(U, D) from the rows of the id table."""
        raised: Tensor = self.item_tower(self.dropout(self._with_fields(ids_UD, self.item_fields, rows_U)))
        return raised

    def queries(self, items_BLD: Tensor, there_BL: Tensor, users_B: Tensor) -> Tensor:
        """(B, D) from vectors of the history, aligned to the right, and user rows. there_BL: where there is an item."""
        pooled_BD = self._pool(items_BLD, there_BL)
        raised: Tensor = self.user_tower(self._with_fields(pooled_BD, self.user_fields, users_B))
        return raised

    def _with_fields(self, x_BD: Tensor, fields: Fields | None, rows_B: Tensor) -> Tensor:
        return x_BD if fields is None else x_BD + fields(rows_B)

    def _pool(self, items_BLD: Tensor, there_BL: Tensor) -> Tensor:
        if self.pooling == "mean":
            return items_BLD.sum(1) / there_BL.sum(1, keepdim=True).clamp(min=1)
        length = items_BLD.shape[1]
        weights_BL = self.weigh(torch.tanh(self.look(items_BLD)))[..., 0] + self.ago_L[-length:]
        weights_BL = weights_BL.masked_fill(~there_BL, -1e9).softmax(1) * there_BL
        return torch.einsum("bl,bld->bd", weights_BL, items_BLD)
