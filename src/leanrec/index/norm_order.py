"""In which order to scan rows that are kept as they are: short blocks of consecutive rows, those with a long row first.

No score exceeds the product of the norms, so a query is done where what is left is too short to win (LEMP, Teflioudi et
al. 2015). Rows stay where they are kept; only numbers of blocks are sorted. Norms within 5 % of each other count as
alike, so that blocks that follow each other are mostly read one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from leanrec.index.vectors import ItemVectors
from leanrec.kernels.candidates import BLOCK
from leanrec.kernels.topk import row_norms

__all__ = ["NormOrder", "blocks_from", "norms_differ"]

F32 = npt.NDArray[np.float32]
_ALIKE = 0.05
_WORTH = 0.5
"""Where less than a quarter of the blocks have no row as long as this part of the longest of all, hardly a query would
end early."""


def norms_differ(norms_J: F32) -> bool:
    """Whether a query may be done before all blocks, with norms_J of their longest rows, were scanned."""
    return len(norms_J) > 0 and bool(np.quantile(norms_J, 0.25) < _WORTH * norms_J.max() < np.inf)


def blocks_from(rest_M: F32, norm: float) -> int:
    """How many blocks have to be scanned where only rows at least so long can win; rest_M: falling norms."""
    least = np.nextafter(np.float32(norm), np.float32(-np.inf))
    return len(rest_M) - int(np.searchsorted(rest_M[::-1], least))


@dataclass(frozen=True, slots=True)
class NormOrder:
    """norms_J: at least the norm of every row of block J, which has rows BLOCK J to BLOCK (J + 1) - 1. order_M: blocks
    as they are to be scanned, rest_M: at least the norm of every row from there on."""

    norms_J: F32
    order_M: npt.NDArray[np.int32]
    rest_M: F32  # a view of rising numbers, read backwards

    @property
    def longest(self) -> float:
        """At least every norm; NaN or infinite where a row is."""
        return float(self.norms_J.max(initial=0.0))

    @property
    def useful(self) -> bool:
        """Whether a query may end before all rows were scanned."""
        return len(self.rest_M) > 0 and bool(self.rest_M[-1] < self.rest_M[0])

    @classmethod
    def of(cls, vectors: ItemVectors, before: NormOrder | None = None, kept: int = 0) -> Self:
        """The order for vectors; the first `kept` rows are those of `before`."""
        whole = kept // BLOCK
        norms_J = np.zeros(-(-len(vectors) // BLOCK), np.float32)
        if before is not None:
            norms_J[:whole] = before.norms_J[:whole]
        step = BLOCK << 7
        for low in range(whole * BLOCK if before is not None else 0, len(vectors), step):
            norms_n = row_norms(vectors.block(low, min(low + step, len(vectors))))
            most = np.maximum.reduceat(norms_n, np.arange(0, len(norms_n), BLOCK))
            norms_J[low // BLOCK : low // BLOCK + len(most)] = most
        order_M = np.arange(len(norms_J), dtype=np.int32)
        rest_M = np.full(len(norms_J), norms_J.max(initial=0.0), np.float32)
        if norms_differ(norms_J):
            wide_J = norms_J.astype(np.float64)
            levels_J = np.floor(np.log(np.maximum(wide_J, wide_J.max() * 1e-6)) / np.log1p(_ALIKE))
            order_M = np.argsort(-levels_J, kind="stable").astype(np.int32)
            rest_M = np.maximum.accumulate(norms_J[order_M][::-1])[::-1]
        return cls(norms_J, order_M, rest_M)
