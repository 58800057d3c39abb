"""Random offset block embedding: every row is read from one circular array, in pieces that start anywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.nn.tables.base import Rows, TableOptions
from leanrec.nn.tables.composed import LayoutFree, hashed_rows

__all__ = ["RobeTable"]


class RobeOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a ROBE table."""

    values: int = 1_000_000
    """Floats in the array, whatever the number of rows."""
    piece: int = 16
    """Values that stand side by side, a divisor of D: longer pieces read faster, shorter ones collide more evenly."""


class RobeTable(LayoutFree):
    """Row r is D / Z pieces of Z values, each from a hashed place of an array that all rows share (arXiv:2108.02191).

    Pieces overlap anywhere, so the optimiser's state is that of single values.
    """

    Options = RobeOptions
    config: RobeOptions

    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        if self.dim % self.config.piece:
            raise ConfigError(f"table_options: piece={self.config.piece} does not divide dim={self.dim}")
        return {"array": (self.config.values, 1, self.std)}

    def _parts(self, rows_U: Rows) -> dict[str, Rows]:
        values, piece = self.config.values, self.config.piece
        starts = hashed_rows(rows_U, self.dim // piece, values, self.seed)
        places = (starts[:, :, None].astype(np.int64) + np.arange(piece)) % values
        return {"array": places.reshape(len(rows_U), self.dim).astype(np.int32)}

    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        return parts["array"][:, :, 0]
