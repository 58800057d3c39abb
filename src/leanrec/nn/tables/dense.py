"""A table in memory, updated by the rows a batch touches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.kernels.fresh import fresh_range
from leanrec.kernels.rows import gather_rows
from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions
from leanrec.nn.tables.optimisers import make_optimiser

__all__ = ["DenseTable"]


class DenseTable(MemoryTable):
    """Rows in one float32 array, the optimiser's state in others."""

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        self.optimiser = make_optimiser(num_rows, dim, config)
        self._weight = np.empty((num_rows, dim), np.float32)
        fresh_range(self._weight, 0, seed, self.std)

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self.optimiser.nbytes

    def weight(self) -> npt.NDArray[np.float32]:
        return self._weight

    def _read(self, rows_U: Rows | None) -> Tensor:
        if rows_U is None:  # a view: a step is done with it before it updates, and erased rows are zeros already
            return torch.from_numpy(self._weight)
        values_UD = np.empty((len(rows_U), self.dim), np.float32)
        gather_rows(self._weight, rows_U, values_UD)
        return torch.from_numpy(values_UD)

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        rows_U = np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U
        self.optimiser.step += 1
        self.optimiser.update(self._weight, rows_U, rows_U, grad_UD.contiguous().numpy(), lr)

    def _grow(self, num_rows: int) -> None:
        more = np.empty((num_rows - self.num_rows, self.dim), np.float32)
        fresh_range(more, self.num_rows, self.seed, self.std)
        self._weight = np.concatenate([self._weight, more])
        self.optimiser.grow(num_rows)

    def _forget(self, rows_E: Rows) -> None:
        self._weight[rows_E] = 0.0
        self.optimiser.forget(rows_E)

    def _tensors(self) -> State:
        return {"weight": self._weight, **self.optimiser.state()}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weight[:] = state["weight"]
        self.optimiser.load_state(state)
