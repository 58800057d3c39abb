"""A table that steps read and never change: item vectors that stay as they are while a network is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.kernels.rows import gather_rows
from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions

__all__ = ["FrozenTable"]


class FrozenTable(MemoryTable):
    """Rows of an array at hand, mapped or not; not part of any state, since nothing about them changes."""

    def __init__(self, items_ND: npt.NDArray[np.float32]) -> None:
        super().__init__(len(items_ND), items_ND.shape[1], TableOptions(), seed=0)
        self._items_ND = items_ND

    @property
    def nbytes(self) -> int:
        return 0

    def weight(self) -> npt.NDArray[np.float32]:
        return self._items_ND

    def _read(self, rows_U: Rows | None) -> Tensor:
        if rows_U is None:
            return torch.from_numpy(np.array(self._items_ND))
        values_UD = np.empty((len(rows_U), self.dim), np.float32)
        gather_rows(self._items_ND, rows_U, values_UD)
        return torch.from_numpy(values_UD)

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        del rows_U, grad_UD, lr

    def _grow(self, num_rows: int) -> None:
        raise NotImplementedError("a frozen table stays as it is")

    def _forget(self, rows_E: Rows) -> None:
        raise NotImplementedError("a frozen table stays as it is")

    def _tensors(self) -> State:
        return {}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        del state
