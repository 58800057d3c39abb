"""A table on disk, larger than memory, of which the rows in use stand in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.kernels.fresh import fresh_range, fresh_rows
from leanrec.kernels.rows import gather_rows
from leanrec.nn.tables.base import Rows, State, Table, TableOptions
from leanrec.nn.tables.optimisers import make_optimiser
from leanrec.nn.tables.rowfile import RowFile
from leanrec.nn.tables.slots import Slots

__all__ = ["MappedTable"]

_BLOCK = 1 << 15


class MappedOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a table on disk."""

    folder: str | None = None
    """Where its file stands: the run's folder, or a temporary one for a table that need not outlive the process."""
    memory: int = 1 << 30
    """Bytes of values and optimiser state that stand in memory. The maps take about 12 bytes a row on top."""


class MappedTable(Table):
    """Values and moments of a row side by side in one file; the hottest rows in memory, written back when they leave.

    A row that was never trained is not on disk at all: its fresh values come from the seed. A state is a mark into the
    file, so a checkpoint costs the rows that changed and 4 bytes for each of the others, and a run that is killed goes
    back to it bit by bit. `prefetch` has the disk read the rows of the coming step while this one computes. A disk that
    reports an error while a mapped page is read ends the process; the last checkpoint stays intact.
    """

    Options = MappedOptions

    def __init__(self, num_rows: int, dim: int, config: MappedOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        width = dim + sum(m.shape[1] for m in make_optimiser(0, dim, config).moments.values())
        self._memory, self._record = config.memory, 4 * width
        capacity = config.memory // self._record
        if capacity < 1:
            raise ConfigError(f"table_options: memory={config.memory} is less than one row, {self._record} bytes")
        slots = min(num_rows, capacity)
        self._slots = Slots(num_rows, slots)
        self.optimiser = make_optimiser(slots, dim, config)
        self._weight = np.zeros((slots, dim), np.float32)
        self._changed = np.zeros(slots, np.bool_)
        self._file = RowFile(Path(config.folder) if config.folder else None, num_rows, width)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="leanrec-prefetch")

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self.optimiser.nbytes + self._slots.nbytes + self._file.places_N.nbytes

    def prefetch(self, rows_S: Rows) -> None:
        self._reader.submit(self._fetch, rows_S)

    def _fetch(self, rows_S: Rows) -> None:
        rows_U = np.unique(rows_S)
        self._file.advise(rows_U[self._slots.slot_of_row_N[rows_U] < 0])

    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        self._file.keep(states)

    def close(self) -> None:
        self._reader.shutdown()
        self._file.close()

    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) a copy; where it would not fit into the memory allowed, in a temporary file that is mapped."""
        shape = (self.num_rows, self.dim)
        if 4 * self.num_rows * self.dim <= self._memory:
            weight_ND = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile(dir=self.config_folder()) as file:
                weight_ND = np.memmap(file, np.float32, "w+", shape=shape)
        for low in range(0, self.num_rows, _BLOCK):
            self._export(low, weight_ND[low : low + _BLOCK])
        weight_ND[self.erased] = 0.0
        return weight_ND

    def config_folder(self) -> Path | None:
        """The folder of the file, or None for a temporary one."""
        assert isinstance(self.config, MappedOptions)
        return Path(self.config.folder) if self.config.folder else None

    def _export(self, low: int, out_MD: npt.NDArray[np.float32]) -> None:
        """The present values of the rows from `low` on, without moving any into memory."""
        fresh_range(out_MD, low, self.seed, self.std)
        rows = np.arange(low, low + len(out_MD), dtype=np.int32)
        slots = self._slots.slot_of_row_N[rows]
        stored = np.flatnonzero((slots < 0) & (self._file.places_N[rows] >= 0))
        out_MD[stored] = self._file.read(rows[stored])[:, : self.dim]
        cached = np.flatnonzero(slots >= 0)
        out_MD[cached] = self._weight[slots[cached]]

    def _place(self, rows_U: Rows) -> Rows:
        """The slots of the rows, once their values stand there."""
        self._file.reserve(self._slots.leaving(rows_U))  # so that a full disk is found out before any row leaves memory
        placed = self._slots.place(rows_U)
        slots_C, rows_C = placed.slots_C, rows_U[placed.came_C]
        leaving = (placed.left_C >= 0) & self._changed[slots_C]
        self._file.write(placed.left_C[leaving], self._pack(slots_C[leaving]))
        stored = self._file.places_N[rows_C] >= 0
        self._unpack(slots_C[stored], self._file.read(rows_C[stored]))
        new = slots_C[~stored]
        fresh_rows(self._weight, new.astype(np.int64), rows_C[~stored], self.seed, self.std)
        self.optimiser.forget(new)
        self._changed[slots_C] = False
        return placed.slots_U

    def _pack(self, slots: Rows) -> npt.NDArray[np.float32]:
        return np.concatenate([self._weight[slots], *(m[slots] for m in self.optimiser.moments.values())], axis=1)

    def _unpack(self, slots: Rows, records_CW: npt.NDArray[np.float32]) -> None:
        start = 0
        for array in (self._weight, *self.optimiser.moments.values()):
            array[slots] = records_CW[:, start : start + array.shape[1]]
            start += array.shape[1]

    def _blocks(self, rows_U: Rows | None) -> list[Rows]:
        """As many rows at a time as there are slots."""
        rows_U = np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U
        slots = len(self._weight)
        return [rows_U[low : low + slots] for low in range(0, len(rows_U), slots)]

    def _read(self, rows_U: Rows | None) -> Tensor:
        parts = [torch.empty(0, self.dim)]
        for rows in self._blocks(rows_U):
            values_UD = np.empty((len(rows), self.dim), np.float32)
            gather_rows(self._weight, self._place(rows), values_UD)
            parts.append(torch.from_numpy(values_UD))
        return torch.cat(parts) if len(parts) != 2 else parts[1]

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        grad, low = grad_UD.contiguous().numpy(), 0
        self.optimiser.step += 1
        for rows in self._blocks(rows_U):
            slots = self._place(rows)
            self.optimiser.update(self._weight, slots, slots, grad[low : low + len(rows)], lr)
            self._changed[slots] = True
            low += len(rows)

    def _grow(self, num_rows: int) -> None:
        self._slots.grow(num_rows)
        self._file.grow(num_rows)

    def _forget(self, rows_E: Rows) -> None:
        slots = self._slots.drop(rows_E)
        self._weight[slots], self._changed[slots] = 0.0, False
        self.optimiser.forget(slots)
        self._file.erase(rows_E)

    def _tensors(self) -> State:
        changed = np.flatnonzero(self._changed).astype(np.int32)
        self._file.reserve(len(changed))
        for low in range(0, len(changed), _BLOCK):
            slots = changed[low : low + _BLOCK]
            self._file.write(self._slots.row_of_slot_M[slots], self._pack(slots))
            self._changed[slots] = False
        numbers = np.asarray([self.optimiser.step, self.seed], np.int64)
        return {"numbers": numbers, **self._file.mark()}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.optimiser.step, self.seed = (int(n) for n in state["numbers"])
        self._file.restore(state)
        self._slots = Slots(self.num_rows, len(self._weight))
        self._changed[:] = False
