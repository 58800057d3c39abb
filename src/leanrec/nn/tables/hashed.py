"""The hashing trick: every row is the sum of a few rows of a table of fixed size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from leanrec.nn.tables.base import Rows, TableOptions
from leanrec.nn.tables.composed import LayoutFree, hashed_rows

__all__ = ["HashedTable"]


class HashedOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a hashed table."""

    buckets: int = 100_000
    functions: int = 2
    """Rows that share all of their buckets cannot be told apart: with k functions one pair in buckets^k does."""


class HashedTable(LayoutFree):
    """Row r is the sum of k bucket rows picked by k hashes of r (hash embeddings, arXiv:1709.03933, equal weights)."""

    Options = HashedOptions
    config: HashedOptions

    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        return {"buckets": (self.config.buckets, self.dim, self.std * self.config.functions**-0.5)}

    def _parts(self, rows_U: Rows) -> dict[str, Rows]:
        return {"buckets": hashed_rows(rows_U, self.config.functions, self.config.buckets, self.seed)}

    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        return parts["buckets"].sum(dim=1)
