"""A table in memory, updated by the rows a batch touches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest
from leanrec.kernels.rows import adagrad_rows, adam_rows, distinct_rows, gather_rows, sgd_rows
from leanrec.nn.tables.base import Table, TableOptions

__all__ = ["OPTIMISERS", "DenseTable"]

OPTIMISERS = ("lazy-adam", "rowwise-adagrad", "sgd")


class DenseTable(Table):
    """Rows in one float32 array.

    optimiser: `sgd` and `rowwise-adagrad` give exactly what updating the whole table would; `lazy-adam` does not, it
    leaves the moments of untouched rows as they are (where every row is touched, as under full softmax, it is Adam).
    """

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        optimiser = config.optimiser
        if optimiser not in OPTIMISERS:
            raise ConfigError(f"unknown table optimiser {optimiser!r}{nearest(optimiser, list(OPTIMISERS))}")
        self.num_rows, self.dim = num_rows, dim
        self.optimiser, self._betas, self._eps = optimiser, (config.beta1, config.beta2), config.eps
        generator = np.random.default_rng(seed)
        self._weight = generator.standard_normal((num_rows, dim), dtype=np.float32)
        self._weight *= np.float32(dim**-0.5 if config.std is None else config.std)
        moments = {"lazy-adam": ("mean", "square"), "rowwise-adagrad": ("sums",), "sgd": ()}[optimiser]
        self._moments = {
            name: np.zeros(num_rows if name == "sums" else (num_rows, dim), np.float32) for name in moments
        }
        self._step = 0
        self._slots = np.full(num_rows, -1, np.int32)

    def distinct(self, rows_S: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        return distinct_rows(rows_S, self._slots)

    def _rows(self, rows_U: npt.NDArray[np.int32] | None) -> npt.NDArray[np.int32]:
        return np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U

    def gather(self, rows_U: npt.NDArray[np.int32] | None) -> Tensor:
        rows_U = self._rows(rows_U)
        leaf = np.empty((len(rows_U), self.dim), np.float32)
        gather_rows(self._weight, rows_U, leaf)
        return torch.from_numpy(leaf).requires_grad_()

    def apply(self, rows_U: npt.NDArray[np.int32] | None, grad_UD: Tensor, lr: float) -> None:
        rows_U, grad = self._rows(rows_U), grad_UD.detach().contiguous().numpy()
        self._step += 1
        if self.optimiser == "lazy-adam":
            mean, square = self._moments["mean"], self._moments["square"]
            adam_rows(self._weight, mean, square, rows_U, grad, lr, *self._betas, self._eps, self._step)
        elif self.optimiser == "rowwise-adagrad":
            adagrad_rows(self._weight, self._moments["sums"], rows_U, grad, lr, self._eps)
        else:
            sgd_rows(self._weight, rows_U, grad, lr)

    def weight(self) -> npt.NDArray[np.float32]:
        return self._weight

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return {"weight": self._weight, "step": np.asarray([self._step], np.int64), **self._moments}

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weight[:] = state["weight"]
        self._step = int(state["step"][0])
        for name, moment in self._moments.items():
            moment[:] = state[name]
