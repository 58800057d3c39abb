"""Tables whose rows are bfloat16: half the bytes to keep, or half the bytes to read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.kernels.bfloat16 import join_halves, round_rows, split_rows, widen_rows
from leanrec.kernels.fresh import fresh_range
from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions
from leanrec.nn.tables.optimisers import make_optimiser

__all__ = ["BFloat16Table", "SplitBFloat16Table"]

_BLOCK = 1 << 14
"""Rows whose float32 values are held at a time."""

U16 = npt.NDArray[np.uint16]


class HalfTable(MemoryTable):
    """What the two share: forward and backward see bfloat16 values, the optimiser steps in float32."""

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        self.optimiser = make_optimiser(num_rows, dim, config)
        self._halves: dict[str, U16] = {name: np.zeros((num_rows, dim), np.uint16) for name in self._names()}
        self._fill(0)

    @abstractmethod
    def _names(self) -> tuple[str, ...]:
        """The arrays kept; `upper` is among them."""

    @abstractmethod
    def _load(self, rows_U: Rows, out_UD: npt.NDArray[np.float32]) -> None:
        """The values that the optimiser steps from."""

    @abstractmethod
    def _store(self, values_UD: npt.NDArray[np.float32], rows_U: Rows, step: int) -> None:
        """Keep what the optimiser made of them at that step; fresh values are of step 0, whenever they are made."""

    @final
    def _fill(self, first: int) -> None:
        for low in range(first, len(self._halves["upper"]), _BLOCK):
            rows = np.arange(low, min(low + _BLOCK, len(self._halves["upper"])), dtype=np.int32)
            values_UD = np.empty((len(rows), self.dim), np.float32)
            fresh_range(values_UD, low, self.seed, self.std)
            self._store(values_UD, rows, 0)

    @property
    @final
    def nbytes(self) -> int:
        return sum(half.nbytes for half in self._halves.values()) + self.optimiser.nbytes

    @final
    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) a copy in float32."""
        return self._read(None).numpy()

    @final
    def _rows(self, rows_U: Rows | None) -> Rows:
        return np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U

    @final
    def _read(self, rows_U: Rows | None) -> Tensor:
        rows_U = self._rows(rows_U)
        values_UD = np.empty((len(rows_U), self.dim), np.float32)
        widen_rows(self._halves["upper"], rows_U, values_UD)
        return torch.from_numpy(values_UD)

    @final
    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        rows_U, grad = self._rows(rows_U), grad_UD.contiguous().numpy()
        self.optimiser.step += 1
        for low in range(0, len(rows_U), _BLOCK):
            rows = rows_U[low : low + _BLOCK]
            values_UD = np.empty((len(rows), self.dim), np.float32)
            self._load(rows, values_UD)
            at_U = np.arange(len(rows), dtype=np.int32)
            self.optimiser.update(values_UD, at_U, rows, grad[low : low + _BLOCK], lr)
            self._store(values_UD, rows, self.optimiser.step)

    @final
    def _grow(self, num_rows: int) -> None:
        old, more = self.num_rows, np.zeros((num_rows - self.num_rows, self.dim), np.uint16)
        self._halves = {name: np.concatenate([half, more]) for name, half in self._halves.items()}
        self.optimiser.grow(num_rows)
        self._fill(old)

    @final
    def _forget(self, rows_E: Rows) -> None:
        for half in self._halves.values():
            half[rows_E] = 0
        self.optimiser.forget(rows_E)

    @final
    def _tensors(self) -> State:
        return {**self._halves, **self.optimiser.state()}

    @final
    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, half in self._halves.items():
            half[:] = state[name]
        self.optimiser.load_state(state)


class BFloat16Table(HalfTable):
    """Two bytes a value. Steps are rounded up or down by chance, so that small ones are not lost on average.

    Plain rounding would lose every step below 1/256 of the value (stochastic rounding: Gupta et al.,
    arXiv:1502.02551; for bfloat16 weights, arXiv:2010.06192).
    """

    def _names(self) -> tuple[str, ...]:
        return ("upper",)

    def _load(self, rows_U: Rows, out_UD: npt.NDArray[np.float32]) -> None:
        widen_rows(self._halves["upper"], rows_U, out_UD)

    def _store(self, values_UD: npt.NDArray[np.float32], rows_U: Rows, step: int) -> None:
        round_rows(values_UD, rows_U, self._halves["upper"], self.seed, step)


class SplitBFloat16Table(HalfTable):
    """Forward and backward read the upper halves, two bytes a value; the optimiser steps on whole float32 values.

    The lower halves stand apart (split SGD of arXiv:2005.04680): no master copy, and no rounding of steps at all.
    """

    def _names(self) -> tuple[str, ...]:
        return ("upper", "lower")

    def _load(self, rows_U: Rows, out_UD: npt.NDArray[np.float32]) -> None:
        join_halves(self._halves["upper"], self._halves["lower"], rows_U, out_UD)

    def _store(self, values_UD: npt.NDArray[np.float32], rows_U: Rows, step: int) -> None:
        del step
        split_rows(values_UD, rows_U, self._halves["upper"], self._halves["lower"])
