"""No table: every row is zeros, for models whose item vectors come from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions

__all__ = ["NoTable"]


class NoTable(MemoryTable):
    """N rows of zeros that no step changes and that take no memory; gradients end here."""

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        self._zeros = np.zeros((1, dim), np.float32)

    @property
    def nbytes(self) -> int:
        return self._zeros.nbytes

    def weight(self) -> npt.NDArray[np.float32]:
        return np.broadcast_to(self._zeros, (self.num_rows, self.dim))

    def _read(self, rows_U: Rows | None) -> Tensor:
        return torch.zeros(self.num_rows if rows_U is None else len(rows_U), self.dim)

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        del rows_U, grad_UD, lr

    def _grow(self, num_rows: int) -> None:
        del num_rows

    def _forget(self, rows_E: Rows) -> None:
        del rows_E

    def _tensors(self) -> State:
        return {}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        del state
