"""The quotient-remainder trick: every row is a pair of rows of two small tables, and no two rows are the same pair."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from leanrec.nn.tables.base import Rows, TableOptions
from leanrec.nn.tables.composed import LayoutFree

__all__ = ["QuotientRemainderTable"]


class QuotientRemainderOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a quotient-remainder table."""

    remainders: int = 1_000
    """Rows of the one table; the other has N / remainders. Growth lengthens the other alone."""


class QuotientRemainderTable(LayoutFree):
    """Row r is quotient[r // m] * remainder[r % m], value by value (arXiv:1909.02107)."""

    Options = QuotientRemainderOptions
    config: QuotientRemainderOptions

    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        m, std = self.config.remainders, self.std**0.5
        return {"quotients": (-(-self.num_rows // m), self.dim, std), "remainders": (m, self.dim, std)}

    def _parts(self, rows_U: Rows) -> dict[str, Rows]:
        quotients, remainders = np.divmod(rows_U, np.int32(self.config.remainders))
        return {"quotients": quotients[:, None], "remainders": remainders[:, None]}

    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        return parts["quotients"][:, 0] * parts["remainders"][:, 0]
