"""A table that gives memory only to the rows that are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.kernels.fresh import fresh_range, fresh_rows
from leanrec.kernels.rows import gather_rows
from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions
from leanrec.nn.tables.optimisers import make_optimiser
from leanrec.nn.tables.slots import Slots

__all__ = ["BoundedTable"]


class BoundedOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a bounded table."""

    slots: int = 1_000_000
    """Rows that may have values of their own at the same time."""


class BoundedTable(MemoryTable):
    """N rows, M of which have values: a row gets a slot, to itself, when a step first asks for it.

    When no slot is free a rarely used row loses its own and is fresh again. Memory is that of M rows however many ids
    there will be, as with the managed collisions of TorchRec.
    """

    Options = BoundedOptions

    def __init__(self, num_rows: int, dim: int, config: BoundedOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        slots = config.slots
        self._slots = Slots(num_rows, slots)
        self.optimiser = make_optimiser(slots, dim, config)
        self._weight = np.zeros((slots, dim), np.float32)

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self.optimiser.nbytes + self._slots.nbytes

    def evict(self, count: int) -> Rows:
        """Make the `count` rows that were used longest ago fresh again, and their slots free; those rows."""
        rows = self._slots.coldest(count)
        self._slots.drop(rows)
        return rows

    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) a copy: rows without a slot have their fresh values."""
        weight_ND = np.empty((self.num_rows, self.dim), np.float32)
        fresh_range(weight_ND, 0, self.seed, self.std)
        taken = np.flatnonzero(self._slots.row_of_slot_M >= 0)
        weight_ND[self._slots.row_of_slot_M[taken]] = self._weight[taken]
        weight_ND[self.erased] = 0.0
        return weight_ND

    def _place(self, rows_U: Rows | None) -> Rows:
        rows_U = np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U
        placed = self._slots.place(rows_U)
        slots_C = placed.slots_C
        fresh_rows(self._weight, slots_C.astype(np.int64), rows_U[placed.came_C], self.seed, self.std)
        self.optimiser.forget(slots_C)
        return placed.slots_U

    def _read(self, rows_U: Rows | None) -> Tensor:
        slots_U = self._place(rows_U)
        values_UD = np.empty((len(slots_U), self.dim), np.float32)
        gather_rows(self._weight, slots_U, values_UD)
        return torch.from_numpy(values_UD)

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        slots_U = self._place(rows_U)
        self.optimiser.step += 1
        self.optimiser.update(self._weight, slots_U, slots_U, grad_UD.contiguous().numpy(), lr)

    def _grow(self, num_rows: int) -> None:
        self._slots.grow(num_rows)

    def _forget(self, rows_E: Rows) -> None:
        slots = self._slots.drop(rows_E)
        self._weight[slots] = 0.0
        self.optimiser.forget(slots)

    def _tensors(self) -> State:
        return {"weight": self._weight, **self.optimiser.state(), **self._slots.state()}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weight[:] = state["weight"]
        self.optimiser.load_state(state)
        self._slots.load_state(state)
