"""A table factored into three small cores: a row is a product of one slice of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from leanrec.nn.tables.base import Rows, TableOptions
from leanrec.nn.tables.composed import LayoutFree

__all__ = ["TensorTrainTable"]


class TensorTrainOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a tensor-train table."""

    rank: int = 16
    """Of both products: more is closer to a free table, and cores grow with it, the middle one with its square."""
    radix: int = 200
    """A row's number is written in this base: the last two digits pick slices of the last two cores, the rest of the
    first. Growth lengthens the first core alone."""


class TensorTrainTable(LayoutFree):
    """Row (i, j, k) is G1[i] G2[j] G3[k]: of 1 x d1 x R, R x d2 x R and R x d3 x 1 (TT-Rec, arXiv:2101.11714)."""

    Options = TensorTrainOptions
    config: TensorTrainOptions

    def _dims(self) -> tuple[int, int, int]:
        """D as a product of three factors, as even as its divisors allow."""
        first = max(d for d in range(1, round(self.dim ** (1 / 3)) + 1) if self.dim % d == 0)
        rest = self.dim // first
        second = max(d for d in range(1, int(rest**0.5) + 1) if rest % d == 0)
        return first, second, rest // second

    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        rank, radix, (d1, d2, d3) = self.config.rank, self.config.radix, self._dims()
        # a value sums R^2 products of three: its deviation is R times the cube of theirs
        std = float((self.std / rank) ** (1 / 3))
        return {
            "first": (-(-self.num_rows // radix**2), d1 * rank, std),
            "second": (radix, rank * d2 * rank, std),
            "third": (radix, rank * d3, std),
        }

    def _parts(self, rows_U: Rows) -> dict[str, Rows]:
        rest, third = np.divmod(rows_U, np.int32(self.config.radix))
        first, second = np.divmod(rest, np.int32(self.config.radix))
        return {"first": first[:, None], "second": second[:, None], "third": third[:, None]}

    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        rank, (d1, d2, d3), size = self.config.rank, self._dims(), len(parts["first"])
        front = torch.bmm(parts["first"].view(size, d1, rank), parts["second"].view(size, rank, d2 * rank))
        rows = torch.bmm(front.view(size, d1 * d2, rank), parts["third"].view(size, rank, d3))
        return rows.reshape(size, self.dim)
